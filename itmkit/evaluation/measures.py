"""What may be asked of a matrix of scores besides recalls: mAP, curves, slices, labels, judgements, people's ratings.

All files are read and checked before anything is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.dataset import ImageRecord, image_of_captions, label_matrix
from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import Protocol
from itmkit.evaluation.slices import category_slices, image_slices, text_slices
from itmkit.evaluation.trec import Answers, Trec, check_trec
from itmkit.relevance.coco_ids import coco_ids
from itmkit.relevance.judgements import Judged, read_judgements
from itmkit.relevance.ranking import Ranking, cmc, image_queries, r1_by_label, text_queries
from itmkit.relevance.ratings import Kind, Ratings, agreement, read_ratings, scores_of
from itmkit.relevance.relevance import Listed, Relevance, SharedLabels
from itmkit.scoring.metrics import QueryRanks
from itmkit.scoring.stored import Scores
from itmkit.statistics.bootstrap import mean_intervals

JUDGED: tuple[Judged, ...] = ("original", "cxc", "eccv")
CMC_RANKS = 100
LABEL_KS = (10, 50, 100)  # of mAP@k and P@k by labels
USUAL_KS = (1, 5, 10)  # of own captions, and of judgements


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user asked for besides recalls.

    Attributes:
        intervals: 95% intervals of the recalls, and of the figures below (in folds of the recalls alone).
        own: mAP, P@k and the like of a query's own captions, or of a caption's own image.
        ks: where figures of `own`, `labels` and `judgements` are cut; () for those that are usual.
        alphas: weights of the second of two members, with each of which their scores are averaged.
        trec: rankings and right answers for other programs.
        curves: CMC and precision-recall curves.
        slices: recalls by caption length, by words in the caption, and by number of regions and by super-categories
            of the image.
        labels: retrieval by category, and R@1 of every label.
        judgements: the folder of ECCV-Caption's ground truth (COCO); coco_captions, scan_order: how captions are
            found in it, see `itmkit.relevance.coco_ids`.
        ratings: {"expert": file, "crowdflower": file} of Flickr8k, {"cxc": file} of Crisscrossed Captions; tokens:
            Flickr8k.token.txt.
        rerank: what search finds that lets the matcher score so many candidates only; 0: not asked for.
    """

    intervals: bool = False
    own: bool = False
    ks: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    trec: Trec | None = None
    curves: bool = False
    slices: bool = False
    labels: bool = False
    judgements: Path | None = None
    coco_captions: tuple[Path, ...] = ()
    scan_order: bool = False
    ratings: Mapping[Kind, Path] = field(default_factory=dict)
    tokens: Path | None = None
    rerank: int = 0

    @property
    def of_whole_matrices(self) -> list[str]:
        """Options that ask for more than the ranks of queries."""
        asked = {"--curves": self.curves, "--slices": self.slices, "--labels": self.labels}
        asked |= {"--judgements": self.judgements is not None, "--ratings": bool(self.ratings)}
        asked |= {"--rerank": bool(self.rerank)}
        return [option for option, there in asked.items() if there]

    def without_effect(self) -> list[str]:
        """What is wrong with options that belong to others which are not asked for."""
        problems = []
        if self.ks and not (self.own or self.labels or self.judgements):
            problems.append("--ks: says where figures of --map, --labels and --judgements are cut; ask for one of them")
        ways = ["--coco-captions"] * bool(self.coco_captions) + ["--scan-order"] * self.scan_order
        if ways and self.judgements is None:
            problems.append(f"{', '.join(ways)}: how captions are found for --judgements; ask for them too")
        if len(ways) > 1:
            problems.append("--coco-captions, --scan-order: two ways to find captions; give one of them")
        if self.tokens is not None and not self.ratings.keys() & {"expert", "crowdflower"}:
            problems.append("--tokens: for --ratings expert=FILE and crowdflower=FILE; give one of them too")
        return problems


RECALLS = Wanted()  # and nothing else


class Measures:
    """Computes what is wanted for the images and captions of one split.

    notes: what the files name that is not in the split.
    """

    def __init__(
        self, wanted: Wanted, images: Sequence[ImageRecord], chosen: Protocol, *, regions: np.ndarray | None = None
    ) -> None:
        """
        Args:
            images: in the order of the rows; their captions are the columns.
            regions: (n,) int, how many each image has; None if that is not known.

        Raises:
            ItmkitError: a file is missing or says nothing about these images, or there are no labels.
        """
        self.wanted, self.notes = wanted, list[str]()
        if idle := wanted.without_effect():
            raise ItmkitError(idle)
        if wanted.of_whole_matrices and chosen.folds > 1:
            raise ItmkitError(
                f"{', '.join(wanted.of_whole_matrices)}: {chosen.name} compares within {chosen.folds} folds only; take"
                f" --split {chosen.split}"
            )
        self._regions, self._in_folds = regions, chosen.folds > 1
        self._texts = [caption.text for image in images for caption in image.captions] if wanted.slices else []
        self._categories = [image.supercategories for image in images] if wanted.slices else []
        image_of = image_of_captions(images)
        self._names: list[str] = []
        self._labels: np.ndarray | None = None
        self._by_label: SharedLabels | None = None
        if wanted.labels:
            self._names, self._labels = label_matrix(images)
            if not self._names:
                raise ItmkitError(
                    "--labels: the images of this split have no labels; `itmkit prepare` reads some with coco"
                    " --instances, mirflickr, nuswide, jsonl and csv"
                )
            self._by_label = SharedLabels(self._labels, self._labels[image_of])
            without = int((~self._labels.any(axis=1)).sum())
            self.notes += [f"labels: {without:,} of {len(images):,} images have none and are no queries"] * bool(
                without
            )
        self._judged: dict[str, tuple[Relevance, Relevance]] = {}
        if wanted.judgements is not None:
            self._read_judgements(wanted.judgements, images, len(image_of))
        self._ratings: dict[Kind, Ratings] = {}
        problems: list[str] = []
        for kind, file in wanted.ratings.items():
            try:
                self._ratings[kind] = read_ratings(file, kind, images, tokens=wanted.tokens)
                self.notes += self._ratings[kind].notes()
            except ItmkitError as error:
                problems += error.problems
        if problems:
            raise ItmkitError(problems)

    def _read_judgements(self, folder: Path, images: Sequence[ImageRecord], captions: int) -> None:
        ids = coco_ids(images, folder, captions=self.wanted.coco_captions, in_order=self.wanted.scan_order)
        self.notes.append(f"judgements: captions are found by {ids.found_by}")
        for name in JUDGED:
            found = read_judgements(folder, name, ids)
            self.notes += found.notes()
            i2t = Listed(found.i2t.offsets, found.i2t.items, captions)
            self._judged[name] = (i2t, Listed(found.t2i.offsets, found.t2i.items, len(images)))

    def of(self, scores: Scores, ranks: QueryRanks) -> dict[str, Any]:
        """Everything that is wanted, as JSON, with a key for each attribute of `Wanted` that was asked for."""
        found: dict[str, Any] = {}
        usual, of_labels = self.wanted.ks or USUAL_KS, self.wanted.ks or LABEL_KS
        if self.wanted.own:
            found["own"] = self._both_ways(scores, *_own(ranks.image_of), ranks, usual)
        if self.wanted.curves:
            found["curves"] = _curves(scores, ranks)
        if self.wanted.slices:
            slices = text_slices(ranks, self._texts)
            if self._regions is not None:
                slices = image_slices(ranks, self._regions) + slices
            slices += category_slices(ranks, self._categories)
            found["slices"] = [one.to_json() for one in slices]
        if self._by_label is not None:
            found["labels"] = self._both_ways(scores, self._by_label, self._by_label.transposed(), ranks, of_labels)
            found["by_label"] = self._of_each_label(ranks)
        if self._judged:
            found["judgements"] = {
                name: self._both_ways(scores, *both, ranks, usual) for name, both in self._judged.items()
            }
        for kind, ratings in self._ratings.items():
            agreed = agreement(ratings, scores_of(ratings, scores))
            facts = {"tau_b": agreed.tau_b, "tau_c": agreed.tau_c, "pairs": agreed.pairs, "ratings": agreed.ratings}
            found.setdefault("ratings", {})[kind] = facts
        return found

    def answers(self, image_of: np.ndarray) -> Answers:
        """What is right, of each set that was asked for, for the rankings of `itmkit.evaluation.trec`.

        image_of: (n_texts,) the image of each caption of a fold; sets other than `own` are of whole splits.
        """
        labels = {"labels": (self._by_label, self._by_label.transposed())} if self._by_label is not None else {}
        return {"own": _own(image_of), **labels, **self._judged}

    def check_trec(self, *, force: bool) -> None:
        """Raises ItmkitError if rankings would replace other files."""
        if self.wanted.trec is not None:
            labels = ["labels"] if self._by_label is not None else []
            check_trec(self.wanted.trec, ["own", *labels, *self._judged], force=force)

    def _both_ways(
        self, scores: Scores, of_images: Relevance, of_texts: Relevance, ranks: QueryRanks, ks: Sequence[int]
    ) -> dict[str, Any]:
        i2t = image_queries(scores, of_images, ks=ks)
        t2i = text_queries(scores, of_texts, ks=ks)
        sides = {"i2t": (i2t, i2t.queries), "t2i": (t2i, ranks.image_of[t2i.queries])}
        return {side: self._figures(ranking, images) for side, (ranking, images) in sides.items()}

    def _figures(self, ranking: Ranking, images: np.ndarray) -> dict[str, Any]:
        found = ranking.to_json()
        if not self._in_folds:
            found["cmc"] = ranking.cmc(CMC_RANKS).tolist()
        if self.wanted.intervals and not self._in_folds:
            of_means = mean_intervals(ranking.values, images)
            found["intervals"] = {name: one.to_json() for name, one in of_means.items()}
        return found

    def _of_each_label(self, ranks: QueryRanks) -> dict[str, list[dict[str, Any]]]:
        assert self._labels is not None
        sides = {"i2t": (ranks.of_images, self._labels), "t2i": (ranks.of_texts, self._labels[ranks.image_of])}
        found = {}
        for side, (mine, labels) in sides.items():
            recalls, queries = r1_by_label(mine, labels)
            each = zip(self._names, recalls.tolist(), queries.tolist(), strict=True)
            found[side] = [{"label": name, "queries": count, "R@1": recall} for name, recall, count in each if count]
        return found


def _curves(scores: Scores, ranks: QueryRanks) -> dict[str, Any]:
    """The CMC curve up to rank `CMC_RANKS`, and precision at recalls of 0, 10, ..., 100 percent."""
    of_images, of_captions = _own(ranks.image_of)
    i2t, t2i = image_queries(scores, of_images, ks=(1,)), text_queries(scores, of_captions, ks=(1,))
    sides = {"i2t": (ranks.of_images, i2t), "t2i": (ranks.of_texts, t2i)}
    return {
        side: {"cmc": cmc(mine, CMC_RANKS).tolist(), "eleven": ranking.eleven.tolist()}
        for side, (mine, ranking) in sides.items()
    }


def _own(image_of: np.ndarray) -> tuple[Listed, Listed]:
    """An image's own captions, and a caption's own image. Every image has a caption."""
    own = Listed.own_captions(image_of, int(image_of.max()) + 1)
    return own, own.transposed()


def mean_of_folds(folds: Sequence[Any]) -> Any:
    """What `Measures.of` found in each fold, as one: means of figures and of lists of them, sums of counts."""
    first = folds[0]
    if len(folds) == 1:
        return first
    if isinstance(first, dict):
        return {key: mean_of_folds([fold[key] for fold in folds]) for key in first}
    if isinstance(first, int):
        return sum(folds)
    return np.mean(folds, axis=0).tolist()

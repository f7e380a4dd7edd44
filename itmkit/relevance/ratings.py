"""How well a matcher's scores agree with people's ratings of image and caption: those of Flickr8k and of COCO.

ExpertAnnotations.txt        image, caption id, three ratings from 1 (unrelated) to 4 (describes it)
CrowdFlowerAnnotations.txt   image, caption id, share of yes, number of yes, number of no

Columns are separated by tabs. The figures of the literature are tau-c over the experts' single ratings, each against
the score of its pair, and tau-b over the shares of yes. The experts' 158 pairs whose caption is one of the image's
own are left out there (they are the references of the metrics compared), those of CrowdFlower are not.

`crisscrossed.py` reads the ratings of Crisscrossed Captions, for which tau-b is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from itmkit.caption_text import evenly_spelled
from itmkit.dataset import ImageRecord, image_of_captions
from itmkit.errors import ItmkitError
from itmkit.files import utf8_lines
from itmkit.relevance import crisscrossed
from itmkit.relevance.kendall import concordance
from itmkit.scoring.stored import Scores

Kind = Literal["expert", "crowdflower", "cxc"]
KEEPS_OWN = {"expert": False, "crowdflower": True, "cxc": True}  # as the literature does
COLUMNS = 5
_ADVICE = {
    "cxc": f" {crisscrossed.ADVICE}",
    "tokens": "",
    "none": " Name Flickr8k.token.txt where the captions have other ids",
}
LOWEST, HIGHEST = 1, 4  # ratings of an expert


@dataclass(frozen=True)
class Ratings:
    """Rated pairs: images (n,) and captions (n,) int64, places in a data set; values (n, 3) or (n, 1) float64, higher
    is better.

    rated: the pairs in the file. Of these `absent` have an image or a caption that is not in the data set, and `own`
    were left out as the image's own.
    """

    kind: Kind
    images: np.ndarray
    captions: np.ndarray
    values: np.ndarray
    rated: int
    absent: int
    own: int

    def notes(self) -> list[str]:
        """What was left out, in words."""
        notes = []
        if self.absent:
            what = "pairs have an image or a caption that is not among these"
            notes.append(f"{self.kind}: {self.absent:,} of {self.rated:,} rated {what}")
        if self.own:
            notes.append(f"{self.kind}: {self.own:,} rated pairs are an image and its own caption and left out")
        return notes


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau of scores and ratings, over `ratings` of `pairs`. `reported` is what the literature reports: tau-c
    for the experts, tau-b for CrowdFlower (and here for Crisscrossed Captions)."""

    kind: Kind
    tau_b: float
    tau_c: float
    pairs: int
    ratings: int

    @property
    def reported(self) -> float:
        return self.tau_c if self.kind == "expert" else self.tau_b


def read_ratings(
    file: Path,
    kind: Kind,
    images: Sequence[ImageRecord],
    *,
    keep_own: bool | None = None,
    tokens: Path | None = None,
) -> Ratings:
    """Reads a file of ratings and finds its images and captions in a data set.

    An image is found by its id or file name, with or without ending. A caption `name.jpg#2` is found by that id
    (`prepare flickr8k`, `import-features scan`), or, with `tokens`, by its image and its text. Those of Crisscrossed
    Captions are found by COCO's numbers.

    Args:
        images: those of the data set or of a split; places count within them.
        keep_own: keep pairs whose caption is one of the image's own; None does as the literature does.
        tokens: Flickr8k.token.txt.

    Raises:
        ItmkitError: with everything that is wrong with the file, or it is about none of these images and captions.
    """
    problems: list[str] = []
    said_own: set[tuple[str, str]] = set()
    rows = list(crisscrossed.rows(file, said_own, problems) if kind == "cxc" else _rows(file, kind, problems))
    if problems:
        raise ItmkitError(problems)
    if kind == "cxc":
        image_at, caption_at = crisscrossed.image_places(images), crisscrossed.caption_places(images)
    else:
        image_at, caption_at = _image_places(images), _caption_places(images, tokens)
    owner = image_of_captions(images)
    crisscrossed.check_ids(file, said_own, image_at, caption_at, owner)
    image = np.array([image_at.get(name, -1) for name, _, _ in rows], np.int64)
    caption = np.array([caption_at.get(key, -1) for _, key, _ in rows], np.int64)
    known = (image >= 0) & (caption >= 0)
    if not known.any():
        raise ItmkitError(
            f"{file}: none of its {len(rows):,} pairs is among these {len(images):,} images: {(image >= 0).sum():,} of"
            f" the images and {(caption >= 0).sum():,} of the captions (such as {rows[0][1] if rows else ''}) are."
            + _ADVICE["cxc" if kind == "cxc" else "tokens" if tokens else "none"]
        )
    keep = KEEPS_OWN[kind] if keep_own is None else keep_own
    own = known.copy()
    own[known] = owner[caption[known]] == image[known]
    chosen = known if keep else known & ~own
    values = np.array([values for _, _, values in rows], np.float64)
    return Ratings(
        kind,
        image[chosen],
        caption[chosen],
        values[chosen],
        rated=len(rows),
        absent=int((~known).sum()),
        own=0 if keep else int(own.sum()),
    )


def scores_of(ratings: Ratings, scores: Scores) -> np.ndarray:
    """(n,) float32: each rated pair's score, from the matrix of all images and captions, read some rows at a time.

    Raises:
        ItmkitError: the matrix has fewer rows or columns than the rated images and captions need.
    """
    needed = tuple(int(places.max(initial=-1)) + 1 for places in (ratings.images, ratings.captions))
    if scores.shape[0] < needed[0] or scores.shape[1] < needed[1]:
        raise ItmkitError(
            f"scores of {scores.shape[0]} x {scores.shape[1]}: the ratings need {needed[0]} x {needed[1]}"
        )
    found = np.zeros(len(ratings.images), np.float32)
    order = np.argsort(ratings.images, kind="stable")
    in_order = ratings.images[order]
    for start, block in scores.blocks():
        first, last = np.searchsorted(in_order, (start, start + len(block)))
        pairs = order[first:last]
        found[pairs] = block[ratings.images[pairs] - start, ratings.captions[pairs]]
    return found


def agreement(ratings: Ratings, scores: Sequence[float] | np.ndarray) -> Agreement:
    """Kendall's tau between scores and ratings; every rating of a pair counts by itself against the pair's score.

    Args:
        scores: (n,) of the pairs of `ratings`, in its order; higher is better.

    Raises:
        ItmkitError: not one score a pair, scores that are not finite, or all scores or all ratings are equal.
    """
    scores = np.asarray(scores)
    if scores.shape != ratings.images.shape:
        raise ItmkitError(f"{ratings.kind}: {scores.shape} scores for {len(ratings.images)} rated pairs")
    each = ratings.values.shape[1]
    found = concordance(np.repeat(scores, each), ratings.values.reshape(-1))
    return Agreement(ratings.kind, found.tau_b, found.tau_c, pairs=len(scores), ratings=found.n)


def _rows(file: Path, kind: Kind, problems: list[str]) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """(image, caption id, values) of every line."""
    if not file.is_file():
        problems.append(f"{file}: no such file")
        return
    seen: dict[tuple[str, str], int] = {}
    for number, line in utf8_lines(file, problems):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        values = None
        if len(cells) == COLUMNS and cells[0] and _caption_key(cells[1]):
            values = _expert(cells[2:]) if kind == "expert" else _share_of_yes(cells[2:])
        image, caption = cells[0], cells[1] if len(cells) > 1 else ""
        if values is None:
            form = "three ratings from 1 to 4" if kind == "expert" else "share of yes, number of yes, number of no"
            problems.append(
                f"{file}: line {number}: expected image, NAME#NUMBER, {form}, separated by tabs; found {line[:80]!r}"
            )
        elif (image, caption) in seen:
            problems.append(
                f"{file}: line {number}: {image} and {caption} are rated before, in line {seen[image, caption]}"
            )
        else:
            seen[image, caption] = number
            yield _stem(image), _caption_key(caption), values


def _expert(cells: Sequence[str]) -> tuple[float, ...] | None:
    known = all(cell.isdecimal() and LOWEST <= int(cell) <= HIGHEST for cell in cells)
    return tuple(float(cell) for cell in cells) if known else None


def _share_of_yes(cells: Sequence[str]) -> tuple[float, ...] | None:
    """From the counts, so that equal shares are equal numbers; the written share has to agree with them."""
    share, *counts = cells
    try:
        yes, no, written = int(counts[0]), int(counts[1]), float(share)
    except ValueError:
        return None
    if min(yes, no) < 0 or yes + no == 0 or not abs(written - yes / (yes + no)) < 1e-4:
        return None
    return (yes / (yes + no),)


def _stem(name: str) -> str:
    """The name of a picture without folders and ending: only a known ending is one."""
    name = name.rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and ending.lower() in ("jpg", "jpeg", "png") else name


def _caption_key(id: str) -> str:
    """name#2 of name.jpg#2; nothing of anything else."""
    name, mark, number = id.rpartition("#")
    return f"{_stem(name)}#{int(number)}" if mark and name and number.isdecimal() else ""


def _image_places(images: Sequence[ImageRecord]) -> dict[str, int]:
    places = {_stem(image.id): place for place, image in enumerate(images)}
    for place, image in enumerate(images):
        if image.file is not None:
            places.setdefault(_stem(image.file), place)
    return places


def _caption_places(images: Sequence[ImageRecord], tokens: Path | None) -> dict[str, int]:
    """{name#number: the caption's place among all}, by the captions' ids or by the text of the token file."""
    captions = [(place, caption) for place, image in enumerate(images) for caption in image.captions]
    if tokens is None:
        return {key: at for at, (_, caption) in enumerate(captions) if (key := _caption_key(caption.id))}
    by_text: dict[tuple[int, str], list[int]] = {}
    for at, (place, caption) in enumerate(captions):
        by_text.setdefault((place, " ".join(evenly_spelled(caption.text).split())), []).append(at)
    problems: list[str] = [] if tokens.is_file() else [f"{tokens}: no such file"]
    image_at = _image_places(images)
    found: dict[str, int] = {}
    for number, line in utf8_lines(tokens, problems) if not problems else ():
        id, tab, text = line.partition("\t")
        key = _caption_key(id.strip())
        if tab and key:
            same = by_text.get((image_at.get(key.rpartition("#")[0], -1), " ".join(evenly_spelled(text).split())))
            if same:
                found[key] = same.pop(0) if len(same) > 1 else same[0]
        elif line.strip():
            problems.append(
                f"{tokens}: line {number}: expected NAME#NUMBER, a tab and the caption, found {line[:60]!r}"
            )
    if problems:
        raise ItmkitError(problems)
    return found

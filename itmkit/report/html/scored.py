"""The scores of a run on a split: those that were kept, or made once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itmkit.dataset import ImageRecord, image_of_captions
from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.evaluation.protocols import Protocol, images_of
from itmkit.evaluation.stored import stored_evaluation
from itmkit.progress import SILENT, Progress
from itmkit.runs.facts import RunFacts
from itmkit.scoring.engine import Scoring
from itmkit.scoring.metrics import QueryRanks, chance_of, query_ranks
from itmkit.scoring.stored import ScoreFile, Scores
from itmkit.statistics.bootstrap import intervals
from itmkit.workspace import Workspace, result_path

_Read = tuple[list[ImageRecord], Scores, QueryRanks]


@dataclass(frozen=True)
class Scored:
    """A run on a split.

    Attributes:
        facts: of run.json; None where the name stands for a file of scores alone.
        evaluation: what eval-SPLIT.json says, or the same of a file of scores that has none.
        images: those with scores, in file order; the captions of each are columns.
        file: which the scores are read from.
    """

    run: str
    facts: RunFacts | None
    evaluation: dict[str, Any]
    images: Sequence[ImageRecord]
    file: Path
    scores: Scores
    ranks: QueryRanks

    @property
    def row(self) -> dict[str, Any]:
        """The result of the whole run, without its members'."""
        return _row(self.evaluation, self.run)


def scores_path(workspace: Workspace, run: str, split: str) -> Path:
    """Where a run's scores are kept for the next report; `itmkit evaluate --save-scores` may write them there too."""
    return workspace.run(run) / f"scores-{split}.h5"


def scored(
    workspace: Workspace,
    run: str,
    chosen: Protocol,
    given: Path | None = None,
    *,
    device: str | None = None,
    progress: Progress = SILENT,
) -> Scored:
    """The scores of a run. Kept ones count as long as their recalls are those of eval-SPLIT.json.

    Args:
        given: a file of scores to take instead.

    Raises:
        ItmkitError: a file holds no scores of this split, or other ones than eval-SPLIT.json says.
    """
    folder = workspace.run(run)
    facts = RunFacts.read(folder) if RunFacts.exist(folder) else None
    path, result = given or scores_path(workspace, run, chosen.name), result_path(folder, chosen.name)
    read = _read(workspace, chosen, path) if given else _kept(workspace, run, chosen, path)
    if read is None:
        progress.note(f"{run}: no scores of {chosen.name} are kept; they are made once, and kept in {path}")
        evaluate(workspace, [run], split=chosen.name, save=path, force=True, scoring=Scoring(device), progress=progress)
        read = _read(workspace, chosen, path)
    images, scores, ranks = read
    if not result.is_file():
        return Scored(run, facts, _evaluation(run, ranks), images, path, scores, ranks)
    evaluation = _stored(run, chosen.name, result)
    if not _same(evaluation, run, ranks):
        raise ItmkitError(
            f"{path}: its recalls are not those of {result}; save the scores again with `itmkit evaluate --run {run}"
            f" --split {chosen.name} --save-scores FILE`"
        )
    return Scored(run, facts, evaluation, images, path, scores, ranks)


def with_intervals(row: dict[str, Any], ranks: QueryRanks) -> dict[str, Any]:
    """The 95% intervals of a result: its own, else computed from the ranks as `itmkit evaluate --intervals` does."""
    own: dict[str, Any] | None = row.get("intervals")
    return own or {name: one.to_json() for name, one in intervals(ranks).items()}


def _kept(workspace: Workspace, run: str, chosen: Protocol, path: Path) -> _Read | None:
    """Training removes eval-SPLIT.json, so scores without one, or of other recalls, are of an earlier run."""
    result = result_path(workspace.run(run), chosen.name)
    if not (path.is_file() and result.is_file()):
        return None
    evaluation = _stored(run, chosen.name, result)
    try:
        read = _read(workspace, chosen, path)
    except ItmkitError:  # damaged, or of other images
        return None
    return read if _same(evaluation, run, read[2]) else None


def _read(workspace: Workspace, chosen: Protocol, path: Path) -> _Read:
    stored = ScoreFile(path)
    there = set(stored.images)
    images = [image for image in images_of(chosen, workspace.dataset()) if image.id in there]
    if not images:
        raise ItmkitError(f"{path}: has scores of none of the images of split {chosen.split!r}")
    captions = [caption.id for image in images for caption in image.captions]
    scores = stored.places([image.id for image in images], captions)
    return images, scores, query_ranks(scores, image_of_captions(images))


def _stored(run: str, split: str, path: Path) -> dict[str, Any]:
    found = stored_evaluation(path, f"run `itmkit evaluate --run {run} --split {split}` again")
    if not any(row["name"] == run for row in found["results"]):
        raise ItmkitError(f"{path}: results: no row {run!r}; evaluate the run again")
    return found


def _row(evaluation: dict[str, Any], run: str) -> dict[str, Any]:
    return next(row for row in evaluation["results"] if row["name"] == run)


def _same(evaluation: dict[str, Any], run: str, ranks: QueryRanks) -> bool:
    """Whether recalls are the same but for a query in a thousand: a file holds float32, in which scores may tie."""
    found, row = ranks.retrieval(), _row(evaluation, run)
    for side, direction, queries in (("i2t", found.i2t, ranks.of_images), ("t2i", found.t2i, ranks.of_texts)):
        allowed = 100 * max(1, len(queries) // 1000) / len(queries) + 1e-6
        recalls = {"R@1": direction.r1, "R@5": direction.r5, "R@10": direction.r10}
        if any(abs(value - row[side][name]) > allowed for name, value in recalls.items()):
            return False
    return True


def _evaluation(run: str, ranks: QueryRanks) -> dict[str, Any]:
    """As eval-SPLIT.json, of scores that were never evaluated."""
    row = {"name": run, "kind": "scores of a file", **ranks.retrieval().to_json()}
    counts = {"images": len(ranks.of_images), "captions": len(ranks.of_texts), "folds": 1}
    return {**counts, "chance_rsum": chance_of(ranks.image_of), "results": [row]}

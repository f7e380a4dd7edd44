"""`itmkit evaluate --scores`: the figures of score matrices on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.evaluation.measures import RECALLS, Measures, Wanted
from itmkit.evaluation.protocols import Protocol, folds_of, images_of, protocol
from itmkit.evaluation.results import Evaluation, Table, check_different
from itmkit.evaluation.saving import check_saving, saving
from itmkit.scoring.stored import Chosen, Mean, ScoreFile
from itmkit.workspace import Workspace


def evaluate_files(
    workspace: Workspace,
    files: Sequence[Path],
    *,
    split: str = "test",
    wanted: Wanted = RECALLS,
    against: Path | None = None,
    save: Path | None = None,
    force: bool = False,
) -> Evaluation:
    """The figures of score matrices on disk (`--save-scores`), and of their mean if there are several.

    Args:
        against: another such file, whose figures are compared with those of the last row of `files`.
        force: `save` and the files of `wanted.trec` may replace files of other kinds.

    Raises:
        ItmkitError: a file holds no scores, or lacks those of some image or caption of the split.
    """
    chosen = protocol(split)
    if wanted.rerank:
        raise ItmkitError("--rerank: a file of scores has no vectors that find candidates; give the run with --run")
    if wanted.alphas:
        raise ItmkitError("--alpha: a file of scores does not have those of each member; give the run with --run")
    check_saving(save, chosen, files, force=force)
    records = images_of(chosen, workspace.dataset())
    named = [*files, *([against] if against is not None else [])]
    check_different([(str(path), path) for path in named], "--scores ", "files")
    stored = [ScoreFile(path) for path in named]
    has = set.intersection(*(set(one.images) for one in stored))
    images = [image for image in records if image.id in has]
    if not images:
        raise ItmkitError(f"{files[0]}: has scores of none of the {len(records)} images of split {chosen.split!r}")
    if chosen.images is not None:
        _check_whole(chosen, records, stored)
    captions = [caption.id for image in images for caption in image.captions]
    whole = [one.places([image.id for image in images], captions) for one in stored]
    measures, ours = Measures(wanted, images, chosen), " + ".join(map(str, files))
    measures.check_trec(force=force)
    table = Table(measures)
    with saving(save, wanted.trec, ours) as keep:
        for fold in folds_of(chosen, records, images):
            parts = [Chosen(one.whole, one.rows[fold.images], one.columns[fold.texts]) for one in whole]
            for path, scores in zip(named, parts, strict=True):
                table.add(str(path), "scores of a file", scores, fold.image_of, fold=fold.number)
            together = Mean(parts[: len(files)], [1.0] * len(files))
            if len(files) > 1:
                table.add(ours, f"mean of {len(files)} files", together, fold.image_of, fold=fold.number)
            keep(together, measures.answers(fold.image_of), *fold.ids(images))
    difference = table.difference(ours, str(against)) if against is not None else None
    return table.summary(chosen, len(images), len(captions), len(records) - len(images), against=difference)


def _check_whole(chosen: Protocol, records: Sequence[ImageRecord], stored: Sequence[ScoreFile]) -> None:
    """Raises ItmkitError naming the files that lack images of a protocol, which is an easier task without them."""
    counts = {one.path: len({image.id for image in records}.intersection(one.images)) for one in stored}
    problems = [
        f"{path}: has scores of {count:,} of the {len(records):,} images of {chosen.name}; a figure on them would not"
        f" be comparable. Use --split {chosen.split}"
        for path, count in counts.items()
        if count < len(records)
    ]
    if problems:
        raise ItmkitError(problems)

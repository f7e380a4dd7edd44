"""What an evaluation keeps of the scores themselves, if asked: the matrix, and rankings for other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol as Form

from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import Protocol
from itmkit.evaluation.trec import Answers, Trec, TrecFiles
from itmkit.files import check_replaces
from itmkit.scoring.stored import Scores, holds_scores, save_scores


class Keep(Form):
    def __call__(self, scores: Scores, answers: Answers, images: Sequence[str], captions: Sequence[str]) -> None:
        """Keeps a fold. answers: what is right, of each set; images, captions: ids of rows and columns."""
        ...


def check_saving(save: Path | None, chosen: Protocol, files: Sequence[Path] = (), *, force: bool) -> None:
    """Before anything is scored: whether the scores can be saved, and whether that would destroy another file."""
    if save is None:
        return
    if chosen.folds > 1:
        raise ItmkitError(
            f"--save-scores: {chosen.name} compares within {chosen.folds} folds only; save the scores of"
            f" --split {chosen.split}, and evaluate the file with --scores FILE --split {chosen.name}"
        )
    if any(save.exists() and file.exists() and save.samefile(file) for file in files):
        raise ItmkitError(f"--save-scores {save}: is one of the files of --scores; name another file")
    check_replaces(save, holds_scores, "a file of scores (--force replaces it all the same)", force=force)


@contextmanager
def saving(save: Path | None, trec: Trec | None, made_by: str) -> Iterator[Keep]:
    """Yields what keeps each fold. Rankings appear at the end, all of them or none.

    Args:
        save: a file for the matrix, of a split in one fold.
        made_by: what the scores are of, in words.
    """
    with ExitStack() as stack:
        rankings = None if trec is None else TrecFiles(trec, made_by, stack)

        def keep(scores: Scores, answers: Answers, images: Sequence[str], captions: Sequence[str]) -> None:
            if save is not None:
                save_scores(save, scores, images, captions, made_by)
            if rankings is not None:
                rankings.add(scores, answers, images, captions)

        yield keep

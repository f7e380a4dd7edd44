"""Adding to a data set that is there: its images keep their place, and those that it lacks come last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from itmkit.dataset import ImageRecord
from itmkit.datasets.prepared import present
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace

PAIRS = ("csv", "jsonl", "pairs", "imagefolder", "parquet", "webdataset")  # kinds whose ids are names of pictures


@dataclass(frozen=True)
class Adding:
    """The images of the data set that is there, and its kind; none where there is no data set yet."""

    old: list[ImageRecord]
    kind: str | None

    @classmethod
    def to(cls, workspace: Workspace, kinds: Sequence[str]) -> Adding:
        """Raises ItmkitError where the data set that is there is of no such kind."""
        old = present(workspace)
        if old is not None and old.kind not in kinds:
            raise ItmkitError(
                f"{workspace.dataset_path}: --add adds to a data set of {', '.join(kinds)}; this one is of the kind"
                f" {old.kind}. Name another workspace with -w"
            )
        return cls([], None) if old is None else cls(old.images, old.kind)

    def together(self, records: Sequence[ImageRecord]) -> tuple[list[ImageRecord], str]:
        """(the old images as they are, then those of `records` that they lack; a note on both).

        Raises:
            ItmkitError: images are called as other pictures are that are there.
        """
        known = {image.id: image for image in self.old}
        new = [record for record in records if record.id not in known]
        again = [(record, known[record.id]) for record in records if record.id in known]
        if mistaken := [(record, old) for record, old in again if _is_another(record, old)]:
            raise ItmkitError(_in_words(mistaken))
        told = f"new images: {len(new):,}; there already: {len(again):,}"
        if others := [record.id for record, old in again if _differ(record, old)]:
            told += (
                f"; {len(others):,} of these (the first: {others[0]}) have other captions or another picture now, and"
                " stay as they are: --force without --add takes the new"
            )
        pictures = {picture for image in self.old for picture in (image.sha256, image.file)}
        if twice := [record.id for record in new if record.sha256 in pictures or record.file in pictures]:
            told += (
                f"; {len(twice):,} of the new (the first: {twice[0]}) are pictures that are there already under another"
                " id"
            )
        return [*self.old, *new], told


def _differ(new: ImageRecord, old: ImageRecord) -> bool:
    return [c.text for c in new.captions] != [c.text for c in old.captions] or new.sha256 != old.sha256


def _is_another(new: ImageRecord, old: ImageRecord) -> bool:
    """Whether they only have the id in common, and not one file whose content has changed."""
    return old.sha256 is not None and new.sha256 != old.sha256 and new.file != old.file


def _in_words(mistaken: Sequence[tuple[ImageRecord, ImageRecord]]) -> str:
    new, old = mistaken[0]
    return (
        f"{len(mistaken):,} images are called as images that are there, and are other pictures (the first: {new.id} is"
        f" {new.file} here and {old.file} there). Rename the files, or name them together with those of before,"
        " with --force and without --add"
    )

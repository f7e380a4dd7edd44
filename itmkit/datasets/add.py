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
        """(the old images as they are, then those of `records` that they lack; a note on both)."""
        known = {image.id: image for image in self.old}
        new = [record for record in records if record.id not in known]
        there = len(records) - len(new)
        others = [record.id for record in records if record.id in known and _differ(record, known[record.id])]
        told = f"new images: {len(new):,}; there already: {there:,}"
        if others:
            told += (
                f"; {len(others):,} of these (the first: {others[0]}) have other captions or another picture now, and"
                " stay as they are: --force without --add takes the new"
            )
        return [*self.old, *new], told


def _differ(new: ImageRecord, old: ImageRecord) -> bool:
    return [c.text for c in new.captions] != [c.text for c in old.captions] or new.sha256 != old.sha256

"""The result of preparing a data set, and the rule that a data set is never replaced unless the user asks for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from itmkit.caption_text import evenly_spelled
from itmkit.dataset import PICTURES, Caption, Dataset, ImageRecord, read_dataset, write_dataset
from itmkit.dataset_info import SHA, settle, uneven_captions
from itmkit.errors import ItmkitError
from itmkit.files import write_text
from itmkit.progress import SILENT, Progress
from itmkit.typed import read_strict_json
from itmkit.visible import visible
from itmkit.workspace import Workspace

LEFT_OUT = "dataset.left-out.txt"  # in the workspace: a line for everything that an option left out


@dataclass(frozen=True)
class Skipped:
    """An image left out because its picture is missing or unreadable."""

    id: str
    reason: str


@dataclass(frozen=True)
class PreparedDataset:
    """What a `prepare_...` function did.

    `unchanged`: the workspace already held exactly this data set, nothing was written. `counts` is per split:
    {"train": {"images": n, "captions": m}, ...}. `left_out` are sentences about everything that an option left out,
    `skipped` among it; the file LEFT_OUT of the workspace lists them too. `notes` are worth reading, not wrong.
    """

    path: Path
    kind: str
    counts: dict[str, dict[str, int]]
    unchanged: bool = False
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def write_or_keep(
    workspace: Workspace,
    records: list[ImageRecord],
    *,
    kind: str,
    settings: dict[str, Any],
    skipped: list[Skipped],
    left_out: list[str],
    notes: list[str],
    force: bool,
) -> PreparedDataset:
    """Writes the data set unless an equal one is there. Raises ItmkitError for a different one without `force`."""
    path = workspace.dataset_path
    old = None if force else present(workspace)
    if old is not None and not _same(old.images, records):
        raise _other(workspace, old)
    if old is None:
        counts = write_dataset(workspace.dataset_path, records, kind=kind, settings=settings)["counts"]
    else:
        if old.kind != kind and old.images == records:
            # Same images, other facts: they are of the data set that was here before.
            write_dataset(path, records, kind=kind, settings=settings)
        elif any(new.supercategories != one.supercategories for one, new in zip(old.images, records, strict=True)):
            # Older versions did not keep them. All else stays as it was written, captions too.
            pairs = zip(old.images, records, strict=True)
            added = [replace(one, supercategories=new.supercategories) for one, new in pairs]
            write_dataset(path, added, kind=kind, settings=settings)
        settle(path)
        counts = old.info["counts"]
    _list_left_out(workspace, left_out)
    notes = [*notes, *uneven_captions(counts)]
    return PreparedDataset(path, kind, counts, old is not None, skipped, notes, left_out)


def _same(old: list[ImageRecord], new: list[ImageRecord]) -> bool:
    """Whether the old images are the new ones, or are so once what older versions did otherwise is made up for."""
    if old == new or [_respelled(image) for image in old] == new:
        return True
    without = [replace(image, supercategories=()) for image in new]
    lacking = not any(image.supercategories for image in old)
    return lacking and (old == without or [_respelled(image) for image in old] == without)


def _respelled(image: ImageRecord) -> ImageRecord:
    """The image as it would be prepared now: older versions kept the captions as they were written."""
    captions = tuple(Caption(caption.id, evenly_spelled(caption.text).strip()) for caption in image.captions)
    return replace(image, captions=captions)


def _list_left_out(workspace: Workspace, left_out: list[str]) -> None:
    path = workspace.root / LEFT_OUT
    if left_out:
        write_text(path, "".join(f"{visible(' '.join(line.split()))}\n" for line in left_out))
    else:
        path.unlink(missing_ok=True)


def prepare_scenes(
    workspace: Workspace,
    *,
    train: int,
    val: int,
    test: int,
    seed: int,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Makes the scenes data set (`itmkit.scenes.make_scenes`) unless exactly these scenes are there already."""
    from itmkit.scenes import make_scenes

    settings = {"train": train, "val": val, "test": test, "seed": seed}
    old = None if force else present(workspace)
    if old is not None:
        settle(workspace.dataset_path)
        written = read_strict_json(workspace.dataset_info_path) if workspace.dataset_info_path.exists() else {}
        written.pop(SHA, None)
        # Equal digests: nobody has edited dataset.jsonl since. The pictures themselves are not looked at.
        if old.info == written and old.kind == "scenes" and old.info["settings"] == settings:
            return PreparedDataset(workspace.dataset_path, old.kind, old.info["counts"], True)
        raise _other(workspace, old)
    info = make_scenes(workspace, train=train, val=val, test=test, seed=seed, progress=progress)
    return PreparedDataset(workspace.dataset_path, "scenes", info["counts"])


def present(workspace: Workspace) -> Dataset | None:
    """The data set of the workspace; None where there is none. Raises ItmkitError for a damaged one."""
    if not workspace.dataset_path.exists():
        return None
    try:
        return read_dataset(workspace.dataset_path)
    except ItmkitError as error:
        advice = f"{workspace.dataset_path}: what is there is damaged ({error.problems[0]}); --force replaces it"
        raise ItmkitError(advice) from None


def _other(workspace: Workspace, old: Dataset) -> ItmkitError:
    also = "" if old.kind != PICTURES else " `itmkit prepare images --add` adds pictures to it."
    inside = ", ".join(f"{split} {n}" for split, n in Counter(image.split for image in old.images).items())
    return ItmkitError(
        f"{workspace.dataset_path}: another data set is there already ({old.kind}: {inside}).{also} --force"
        " replaces it; the caches and runs made from it then become stale. Or name another workspace with -w"
    )

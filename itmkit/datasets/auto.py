"""Reads whatever a path is, by the reader that it looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from itmkit.datasets.coco import prepare_coco
from itmkit.datasets.flickr8k import prepare_flickr8k
from itmkit.datasets.image_folder import prepare_image_folder, prepare_pairs
from itmkit.datasets.karpathy import prepare_karpathy
from itmkit.datasets.look import Look, look_at
from itmkit.datasets.mirflickr import prepare_mirflickr
from itmkit.datasets.nuswide import prepare_nuswide
from itmkit.datasets.pairs import prepare_csv, prepare_jsonl
from itmkit.datasets.parquet import prepare_parquet
from itmkit.datasets.pictures import prepare_images
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Skip
from itmkit.datasets.webdataset import prepare_webdataset
from itmkit.errors import ItmkitError
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

# Of each reader: the function, whether it takes many paths, and which of the options images, split, add.
_READERS: dict[str, tuple[Callable[..., PreparedDataset], bool, tuple[str, ...]]] = {
    "karpathy": (prepare_karpathy, False, ("images",)),
    "flickr8k": (prepare_flickr8k, False, ("images",)),
    "coco": (prepare_coco, True, ("images", "split")),
    "mirflickr": (prepare_mirflickr, False, ("images",)),
    "nuswide": (prepare_nuswide, False, ("images",)),
    "jsonl": (prepare_jsonl, True, ("images", "split", "add")),
    "csv": (prepare_csv, True, ("images", "split", "add")),
    "imagefolder": (prepare_image_folder, False, ("split", "add")),
    "pairs": (prepare_pairs, False, ("split", "add")),
    "webdataset": (prepare_webdataset, True, ("split", "add")),
    "parquet": (prepare_parquet, True, ("split", "add")),
    "images": (prepare_images, False, ("add",)),
}
_NEED_IMAGES = ("karpathy", "coco")


def prepare_auto(
    workspace: Workspace,
    path: Path,
    *,
    images: Path | None = None,
    split: str | None = None,
    skip: Skip = NOTHING,
    add: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> tuple[Look, PreparedDataset]:
    """Looks at a file or folder and reads it; the first note of the result says what it was taken for, and why.

    Args:
        images, split, add: as the readers have them; an error where the one that is chosen has not.

    Raises:
        ItmkitError: the path may be several things, or none; or what the reader found wrong.
    """
    look = look_at(path)
    reader, many, takes = _READERS[look.reader]
    given: dict[str, Any] = {"images": images, "split": split, "add": add}
    lacking = [name for name, value in given.items() if value and name not in takes]
    if lacking:
        options = " and ".join(f"--{name}" for name in lacking)
        raise ItmkitError(f"{path}: is taken for {look.reader} ({look.why}), which has no {options}")
    chosen = {name: value for name, value in given.items() if name in takes}
    if look.reader in _NEED_IMAGES and images is None:
        chosen["images"] = path if path.is_dir() else path.parent
    if look.reader == "images":
        chosen["skip_damaged"] = skip.damaged
    else:
        chosen["skip"] = skip
    said = f"taken for {look.reader}: {look.why}"
    progress.note(said)
    result = reader(workspace, list(look.paths) if many else look.paths[0], **chosen, force=force, progress=progress)
    return look, replace(result, notes=[said, *result.notes])

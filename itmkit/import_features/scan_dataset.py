"""The data set that goes with imported features: made from their captions, or the one the workspace has."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.dataset import Caption, Dataset, ImageRecord, dataset_info, read_dataset, write_dataset
from itmkit.errors import ItmkitError
from itmkit.import_features.scan_layout import ScanSplit, SizeOrder
from itmkit.workspace import Workspace


def scan_dataset(
    workspace: Workspace, splits: list[ScanSplit], settings: dict[str, Any], size_order: SizeOrder, *, force: bool
) -> tuple[Dataset, list[str], np.ndarray | None]:
    """The data set of the workspace. It is written if there is none, or if an imported one has to be replaced.

    Returns:
        The data set; the id in it of every picture, in the order of the files; and the sizes of these pictures
        (n, 2) int32 width, height, from the files, else from the data set, else None.
    """
    existing = read_dataset(workspace.dataset_path) if workspace.dataset_path.exists() else None
    if all("sizes" in split.arrays for split in splits):
        sizes = np.concatenate([_sizes(split, size_order) for split in splits])
    else:
        sizes = None
    if existing is not None and existing.kind != "scan":
        keys = _match(existing, splits)
        return existing, keys, _sizes_of(existing, keys) if sizes is None else sizes
    records = list(_records(splits, sizes))
    keys = [record.id for record in records]
    if existing is not None:
        new = dataset_info(records, kind="scan", settings=settings)
        if all(existing.info[name] == new[name] for name in ("images_digest", "captions_digest")):
            return existing, keys, sizes
        if not force:
            raise ItmkitError(
                f"{workspace.dataset_path}: was imported from other files (pictures or captions differ);"
                " run `itmkit import-features scan --force` to replace it, or name another workspace with -w"
            )
    info = write_dataset(workspace.dataset_path, records, kind="scan", settings=settings)
    return Dataset(records, info), keys, sizes


def _sizes(split: ScanSplit, size_order: SizeOrder) -> np.ndarray:
    values = np.rint(split.arrays["sizes"].take(split.rows).astype(np.float64)).astype(np.int32)
    return values if size_order == "width-height" else values[:, ::-1]


def _sizes_of(dataset: Dataset, keys: list[str]) -> np.ndarray | None:
    known = {image.id: (image.width or 0, image.height or 0) for image in dataset.images}
    sizes = np.array([known[key] for key in keys], np.int32).reshape(-1, 2)
    return sizes if (sizes > 0).all() else None


def _records(splits: list[ScanSplit], sizes: np.ndarray | None) -> Iterator[ImageRecord]:
    number = 0
    for split in splits:
        for key, captions in zip(split.ids, split.captions, strict=True):
            width, height = (None, None) if sizes is None else (int(sizes[number, 0]), int(sizes[number, 1]))
            texts = tuple(Caption(f"{key}#{k}", text) for k, text in enumerate(captions))
            yield ImageRecord(id=key, split=split.split, captions=texts, width=width, height=height)
            number += 1


def _match(dataset: Dataset, splits: list[ScanSplit]) -> list[str]:
    """The data set's id of every imported picture, found by id, file name, or file name without its ending."""
    known = {image.id: image.id for image in dataset.images}
    for image in dataset.images:
        if image.file is not None:
            known.setdefault(Path(image.file).name, image.id)
            known.setdefault(Path(image.file).stem, image.id)
    keys = [known.get(key) for key in chain.from_iterable(split.ids for split in splits)]
    missing = [
        key for key, image in zip(chain.from_iterable(s.ids for s in splits), keys, strict=True) if image is None
    ]
    wanted = {image.id for image in dataset.images} - set(keys)
    problems = []
    for ids, what in (
        (missing, "imported pictures are not in dataset.jsonl"),
        (sorted(wanted), "pictures of dataset.jsonl are not among the features"),
    ):
        if ids:
            some = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
            problems.append(
                f"{len(ids)} {what} ({some}); import into an empty workspace to take the captions of the folder"
            )
    if problems:
        raise ItmkitError(problems)
    found = [key for key in keys if key is not None]
    if len(set(found)) != len(found):
        raise ItmkitError("several imported pictures are one picture of dataset.jsonl; import into an empty workspace")
    return found

"""The data set that goes with imported features: made from their captions, or the one the workspace has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.caption_text import evenly_spelled
from itmkit.dataset import Caption, Dataset, ImageRecord, dataset_info, read_dataset, write_dataset
from itmkit.errors import ItmkitError
from itmkit.import_features.scan_boxes import BEYOND, check_boxes
from itmkit.import_features.scan_check import CheckOptions
from itmkit.import_features.scan_layout import BadRows, ScanSplit, SizeOrder
from itmkit.workspace import Workspace


def scan_dataset(
    workspace: Workspace, splits: list[ScanSplit], settings: dict[str, Any], options: CheckOptions, *, force: bool
) -> tuple[Dataset, list[str], np.ndarray | None, int]:
    """The data set of the workspace. It is written if there is none, or if an imported one has to be replaced.

    Pictures that it does not take are dropped from the splits.

    Returns:
        The data set; the id in it of every picture, in the order of the files; the sizes of these pictures
        (n, 2) int32 width, height, from the files, else from the data set, else None; and how many pictures of the
        files a prepared data set has not.

    Raises:
        ItmkitError: the files do not fit the data set, or boxes do not fit its sizes, before anything is written.
    """
    existing = read_dataset(workspace.dataset_path) if workspace.dataset_path.exists() else None
    if existing is not None and existing.kind != "scan":
        keys, left_out = _match(existing, splits)
        sizes = _sizes_of_files(splits, options.size_order)
        if sizes is None:
            sizes = _sizes_of(existing, keys)
            _check_with(sizes, splits, options)
        _check_shares(sizes, splits)
        return existing, keys, sizes, left_out
    for split in splits:
        split.keep(np.array([bool(captions) for captions in split.captions], bool))
    sizes = _sizes_of_files(splits, options.size_order)
    _check_shares(sizes, splits)
    records = list(_records(splits, sizes, evenly_spelled))
    keys = [record.id for record in records]
    if existing is not None:
        if _digests(records, settings) == _digests_of(existing):
            return existing, keys, sizes, 0
        # Older versions took the captions as they stand in the file.
        if _digests(list(_records(splits, sizes, str)), settings) == _digests_of(existing):
            return existing, keys, sizes, 0
        if not force:
            raise ItmkitError(
                f"{workspace.dataset_path}: was imported from other files (pictures or captions differ);"
                " run `itmkit import-features scan --force` to replace it, or name another workspace with -w"
            )
    info = write_dataset(workspace.dataset_path, records, kind="scan", settings=settings)
    return Dataset(records, info), keys, sizes, 0


def _digests(records: list[ImageRecord], settings: dict[str, Any]) -> tuple[str, str]:
    info = dataset_info(records, kind="scan", settings=settings)
    return info["images_digest"], info["captions_digest"]


def _digests_of(dataset: Dataset) -> tuple[str, str]:
    return dataset.images_digest, dataset.captions_digest


def _sizes_of_files(splits: list[ScanSplit], size_order: SizeOrder) -> np.ndarray | None:
    if not all("sizes" in split.arrays for split in splits):
        return None
    return np.concatenate([_sizes(split, size_order) for split in splits])


def _check_shares(sizes: np.ndarray | None, splits: list[ScanSplit]) -> None:
    """Raises ItmkitError where boxes are shares of pictures whose sizes nobody knows."""
    unknown = [split for split in splits if split.shares and sizes is None]
    if unknown:
        raise ItmkitError(
            [
                f"{split.arrays['boxes'].path}: all values lie between 0 and 1; to make pixels of them the sizes of the"
                f" pictures are needed: add {split.name}_sizes.npy (width, height), or make the data set with"
                " `itmkit prepare` first"
                for split in unknown
            ]
        )


def _check_with(sizes: np.ndarray | None, splits: list[ScanSplit], options: CheckOptions) -> None:
    """Checks the boxes against the sizes of the prepared pictures, where the files have none."""
    if sizes is None:
        return
    problems: list[str] = []
    first = 0
    for split in splits:
        of_split = sizes[first : first + len(split)]
        first += len(split)
        if "boxes" not in split.arrays:
            continue
        by_row = np.zeros((len(split.features), 2))
        by_row[split.rows] = of_split
        names = dict(zip(split.rows.tolist(), split.ids, strict=True))
        bad = BadRows()
        check_boxes(split, by_row, partial(_named, names), "width-height", bad)
        for path, why in list(bad.found):
            bad.found[path, why] = {row: name for row, name in bad.found[path, why].items() if row in names}
            if not bad.found[path, why]:
                del bad.found[path, why]
            elif why == BEYOND:
                bad.hints[path, why] = (
                    f"; without {split.name}_sizes.npy the sizes are those of the prepared pictures, which the boxes do"
                    " not refer to"
                )
        if options.skip_damaged:
            split.damaged |= bad.reasons()
        else:
            problems += bad.in_words()
    if problems:
        raise ItmkitError(problems)


def _named(names: dict[int, str], row: int) -> str:
    return f"picture {names[row]}" if row in names else f"row {row}"


def _sizes(split: ScanSplit, size_order: SizeOrder) -> np.ndarray:
    values = np.rint(split.arrays["sizes"].take(split.rows).astype(np.float64)).astype(np.int32)
    return values if size_order == "width-height" else values[:, ::-1]


def _sizes_of(dataset: Dataset, keys: list[str]) -> np.ndarray | None:
    known = {image.id: (image.width or 0, image.height or 0) for image in dataset.images}
    sizes = np.array([known[key] for key in keys], np.int32).reshape(-1, 2)
    return sizes if (sizes > 0).all() else None


def _records(
    splits: list[ScanSplit], sizes: np.ndarray | None, spelling: Callable[[str], str]
) -> Iterator[ImageRecord]:
    number = 0
    for split in splits:
        for key, captions in zip(split.ids, split.captions, strict=True):
            width, height = (None, None) if sizes is None else (int(sizes[number, 0]), int(sizes[number, 1]))
            texts = tuple(Caption(f"{key}#{k}", spelling(text)) for k, text in enumerate(captions))
            yield ImageRecord(id=key, split=split.split, captions=texts, width=width, height=height)
            number += 1


def _match(dataset: Dataset, splits: list[ScanSplit]) -> tuple[list[str], int]:
    """The data set's id of every imported picture, found by id, file name, or file name without its ending.

    Pictures that the data set has not are dropped from the splits, and counted.
    """
    known = {image.id: image.id for image in dataset.images}
    for image in dataset.images:
        if image.file is not None:
            known.setdefault(Path(image.file).name, image.id)
            known.setdefault(Path(image.file).stem, image.id)
    imported = list(chain.from_iterable(split.ids for split in splits))
    found = [known[key] for key in imported if key in known]
    if not found:
        raise ItmkitError(
            f"none of the {len(imported)} imported pictures is in dataset.jsonl ({_first(imported)} here,"
            f" {_first([image.id for image in dataset.images])} there); import into an empty workspace to take the"
            " captions of the folder"
        )
    missing = sorted({image.id for image in dataset.images} - set(found))
    if missing:
        raise ItmkitError(
            f"{len(missing)} pictures of dataset.jsonl are not among the features ({_first(missing)}); import into an"
            " empty workspace to take the captions of the folder"
        )
    if len(set(found)) != len(found):
        raise ItmkitError("several imported pictures are one picture of dataset.jsonl; import into an empty workspace")
    for split in splits:
        split.keep(np.array([key in known for key in split.ids], bool))
    return found, len(imported) - len(found)


def _first(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")

"""Reads the files of one name in the SCAN layout and reports everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.import_features.npy import NpyRows
from itmkit.import_features.region_sets import BOX_SLACK
from itmkit.import_features.scan_blocks import WIDTHS, check_blocks
from itmkit.import_features.scan_layout import (
    OPTIONAL_ARRAYS,
    ScanSplit,
    arrange,
    may_repeat,
    read_captions,
    read_features,
    read_lines,
    read_tags,
    some,
)
from itmkit.progress import Progress


def read_split(
    folder: Path, name: str, split: str, *, size_order: str, progress: Progress
) -> tuple[ScanSplit | None, list[str]]:
    """(the checked files of one name, every problem in words). The files are None if the features cannot be read."""
    problems: list[str] = []

    def path(what: str) -> Path:
        return folder / f"{name}_{what}"

    features = _open(path("ims.npy"), problems)
    if features is not None and (
        len(features.shape) != 3 or 0 in features.shape or features.dtype not in (np.float16, np.float32)
    ):
        problems.append(
            f"{features.path}: shape {features.shape} of {features.dtype}; (pictures, regions, width) of float16 or"
            " float32 is needed"
        )
        features = None
    found = None if features is None else ScanSplit(name, split, features)
    captions, ids = _texts(path("caps.txt"), path("ids.txt"), problems)
    if found is None:
        return None, problems
    for what in OPTIONAL_ARRAYS:
        if path(f"{what}.npy").exists():
            array = _open(path(f"{what}.npy"), problems)
            if array is not None and _fits(array, what, found, problems):
                found.arrays["blocks" if _are_blocks(array, what) else what] = array
    found.tags = path("tags.json") if path("tags.json").exists() else None

    names = _row_names(found, ids)
    repeats = captions is not None and may_repeat(len(found.features), len(captions), ids)
    with progress.task(f"check {name}", len(found.features), unit="rows") as advance:
        sha256, digests, wrong = read_features(found.features, names, digest_rows=repeats, advance=advance)
    problems += wrong
    found.digests = {"ims": sha256}
    for what in ("caps.txt", "ids.txt", "tags.json", *(f"{a}.npy" for a in OPTIONAL_ARRAYS)):
        if path(what).exists():
            found.digests[what.split(".")[0]] = sha256_file(path(what))
    if captions is not None:
        try:
            rows, found.ids, groups = arrange(len(found.features), len(captions), ids, digests, split)
            found.rows = np.array(rows, np.int64)
            found.captions = [[captions[i] for i in group] for group in groups]
        except ItmkitError as error:
            problems += [f"{folder / name}_*: {problem}" for problem in error.problems]
    problems += _check_boxes(found, names, size_order) + _check_scores(found, names) + _check_tags(found)
    problems += check_blocks(found.arrays["blocks"], names) if "blocks" in found.arrays else []
    return found, problems


def _open(path: Path, problems: list[str]) -> NpyRows | None:
    try:
        return NpyRows(path)
    except ItmkitError as error:
        problems += error.problems
    return None


def _texts(caps: Path, ids: Path, problems: list[str]) -> tuple[list[str] | None, list[str] | None]:
    captions = names = None
    try:
        captions = read_captions(caps) if caps.exists() else None
        if captions is None:
            problems.append(f"{caps}: no such file; every *_ims.npy needs its captions beside it")
    except ItmkitError as error:
        problems += error.problems
    try:
        names = [line.strip() for line in read_lines(ids)] if ids.exists() else None
    except ItmkitError as error:
        problems += error.problems
    return captions, names


def _row_names(found: ScanSplit, ids: list[str] | None) -> Callable[[int], str]:
    n = len(found.features)

    def name(row: int) -> str:
        if not ids:
            return f"row {row}"
        each = max(1, len(ids) // n)
        place = row * each if len(ids) >= n else row * len(ids) // n
        return f"picture {ids[place]}" if place < len(ids) else f"row {row}"

    return name


def _fits(array: NpyRows, what: str, found: ScanSplit, problems: list[str]) -> bool:
    """Whether an optional array has the shape that goes with the features."""
    n, regions, _ = found.features.shape
    expected = {"boxes": (n, regions, 4), "sizes": (n, 2), "scores": (n, regions)}[what]
    shapes = {expected} | ({(n, regions, width) for width in WIDTHS} if what == "boxes" else set())
    if array.shape in shapes and array.dtype.kind in "fiu":
        return True
    hint = f" (or {WIDTHS[0]} or {WIDTHS[1]} columns, block positions)" if what == "boxes" else ""
    problems.append(f"{array.path}: shape {array.shape} of {array.dtype}, {expected} expected{hint}")
    return False


def _are_blocks(array: NpyRows, what: str) -> bool:
    return what == "boxes" and array.shape[-1] in WIDTHS


def _check_boxes(found: ScanSplit, names: Callable[[int], str], size_order: str) -> list[str]:
    """Boxes and sizes are finite and ordered, and boxes lie inside their pictures."""
    boxes, sizes = found.arrays.get("boxes"), found.arrays.get("sizes")
    n = len(found.features)
    size: np.ndarray = np.zeros((n, 2))
    bad: dict[str, list[str]] = {}

    def note(why: str, where: Any, first: int = 0) -> None:
        bad.setdefault(why, []).extend(f"{first + row} ({names(int(first + row))})" for row in np.flatnonzero(where))

    problems = []
    if sizes is not None:
        size = sizes.read(0, n).astype(np.float64)
        size = size if size_order == "width-height" else size[:, ::-1]
        wrong = ~((size >= 1) & (size < 1 << 20)).all(axis=1)
        if wrong.any():
            rows = [f"{row} ({names(int(row))})" for row in np.flatnonzero(wrong)]
            problems.append(f"{sizes.path}: not a size in pixels in {some('row', rows)}")
            sizes = None
    if boxes is None:
        return problems
    largest, inside, swapped = 0.0, True, True
    for start, block in boxes.blocks():
        box = block.astype(np.float64)
        finite = np.isfinite(box).all(axis=(1, 2))
        note("NaN or infinity", ~finite, start)
        box = np.where(finite[:, None, None], box, 0.0)
        note(
            "x2 < x1 or y2 < y1 (corners x1 y1 x2 y2 are needed)", (box[..., 2:] < box[..., :2]).any(axis=(1, 2)), start
        )
        largest = max(largest, float(box.max(initial=0)))
        if sizes is not None:
            limit, low = size[start : start + len(box)] + BOX_SLACK, box.min(axis=(1, 2)) < -BOX_SLACK
            far = box[..., 2:].max(axis=1)
            note("a box beyond the edge of the picture", low | (far > limit).any(axis=1), start)
            inside &= bool((far <= limit).all())
            swapped &= bool((far <= limit[:, ::-1]).all())
    for why, rows in bad.items():
        if not rows:
            continue
        hint = ""
        if why.startswith("a box beyond") and swapped and not inside:
            other = "height-width" if size_order == "width-height" else "width-height"
            hint = f"; with --size-order {other} all would fit"
        problems.append(f"{boxes.path}: {why} in {some('row', rows)}{hint}")
    if sizes is not None and 0 < largest <= 1.01 and size.max() > 4:
        problems.append(
            f"{boxes.path}: all values lie between 0 and 1; boxes in pixels are needed: multiply by the sizes"
        )
    return problems


def _check_scores(found: ScanSplit, names: Callable[[int], str]) -> list[str]:
    scores = found.arrays.get("scores")
    if scores is None:
        return []
    bad: list[str] = []
    for start, block in scores.blocks():
        wrong = np.flatnonzero(~np.isfinite(block.astype(np.float64)).all(axis=1))
        bad += [f"{start + row} ({names(int(start + row))})" for row in wrong]
    return [f"{scores.path}: NaN or infinity in {some('row', bad)}"] if bad else []


def _check_tags(found: ScanSplit) -> list[str]:
    if found.tags is None:
        return []
    n, regions, _ = found.features.shape
    wrong, count = [], 0
    try:
        for row, tags in enumerate(read_tags(found.tags)):
            count += 1
            if len(tags) != regions:
                wrong.append(f"{row} ({len(tags)} tags)")
    except ItmkitError as error:
        return error.problems
    problems = [f"{found.tags}: {regions} tags a row are needed, not so in {some('row', wrong)}"] if wrong else []
    if count != n:
        problems.append(f"{found.tags}: {count} rows of tags for {n} rows of features")
    return problems

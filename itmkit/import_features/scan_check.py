"""Reads the files of one name in the SCAN layout and reports everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.import_features.npy import NpyRows
from itmkit.import_features.region_sets import seem_transposed
from itmkit.import_features.scan_blocks import WIDTHS, check_blocks
from itmkit.import_features.scan_boxes import check_boxes
from itmkit.import_features.scan_layout import (
    OPTIONAL_ARRAYS,
    BadRows,
    ScanSplit,
    SizeOrder,
    arrange,
    array_path,
    may_repeat,
    read_captions,
    read_features,
    read_lines,
    some,
)
from itmkit.import_features.scan_tags import read_tags
from itmkit.progress import Progress

_TOGETHER = 512  # pictures whose boxes are compared at once


@dataclass(frozen=True)
class CheckOptions:
    """How files are read.

    Attributes:
        size_order: what the two columns of `_sizes.npy` are.
        skip_damaged: leave out rows that cannot be used, and list them.
        skip_empty: leave out captions without words, and pictures of which no caption is left.
    """

    size_order: SizeOrder = "width-height"
    skip_damaged: bool = False
    skip_empty: bool = False


USUAL_CHECKS = CheckOptions()


def read_split(
    folder: Path, name: str, split: str, options: CheckOptions, progress: Progress, *, fallback: str
) -> tuple[ScanSplit | None, list[str]]:
    """(the checked files of one name, every problem in words). The files are None if the features cannot be read.

    Pictures without ids are called "<fallback>-<number>".
    """
    problems: list[str] = []

    def path(what: str) -> Path:
        return folder / f"{name}_{what}"

    features = _open(path("ims.npy"), problems)
    if features is not None and (wrong := _wrong_shape(features)):
        problems.append(f"{features.path}: shape {features.shape} of {features.dtype}; {wrong}")
        features = None
    found = None if features is None else ScanSplit(name, split, features)
    captions, ids = _texts(path("caps.txt"), path("ids.txt"), features, options.skip_empty, problems)
    if found is None:
        return None, problems
    for what in OPTIONAL_ARRAYS:
        if array_path(folder, name, what).exists():
            array = _open(array_path(folder, name, what), problems)
            if array is not None and what == "boxes" and captions is not None:
                array = _one_a_picture(array, len(found.features), len(captions), problems)
            if array is not None and _fits(array, what, found, problems):
                found.arrays["blocks" if _are_blocks(array, what) else what] = array
    found.tags = path("tags.json") if path("tags.json").exists() else None

    names, bad = _row_names(found, ids), BadRows()
    repeats = captions is not None and may_repeat(len(found.features), len(captions), ids)
    with progress.task(f"check {name}", len(found.features), unit="rows") as advance:
        sha256, digests = read_features(found.features, names, bad, digest_rows=repeats, advance=advance)
    found.digests = {"ims": sha256}
    others = {what.split(".")[0]: path(what) for what in ("caps.txt", "ids.txt", "tags.json")}
    others |= {what: array_path(folder, name, what) for what in OPTIONAL_ARRAYS}
    found.digests |= {what: sha256_file(place) for what, place in others.items() if place.exists()}
    if captions is not None:
        try:
            rows, found.ids, groups = arrange(len(found.features), len(captions), ids, digests, fallback)
            found.rows = np.array(rows, np.int64)
            found.captions = [[captions[i] for i in group if captions[i]] for group in groups]
            found.empty = captions.count("")
        except ItmkitError as error:
            problems += [f"{folder / name}_*: {problem}" for problem in error.problems]
    sizes = _read_sizes(found, names, options.size_order, problems)
    if "boxes" in found.arrays:
        check_boxes(found, sizes, names, options.size_order, bad)
    _check_scores(found, names, bad)
    problems += _check_tags(found)
    if "blocks" in found.arrays:
        check_blocks(found.arrays["blocks"], names, bad)
    if options.skip_damaged:
        found.damaged = bad.reasons()
    else:
        problems += bad.in_words()
    return found, problems


def _wrong_shape(features: NpyRows) -> str | None:
    """What to do about an array that is not (pictures, regions, width) of float16 or float32; None where it is."""
    needed = "(pictures, regions, width) of float16 or float32 is needed"
    shape = features.shape
    if features.dtype == np.float64:
        return f"{needed}: save array.astype(numpy.float32)"
    if len(shape) == 2 and features.dtype in (np.float16, np.float32):
        return f"{needed}: vectors of whole pictures are one region each in array[:, None]"
    if len(shape) != 3 or 0 in shape or features.dtype not in (np.float16, np.float32):
        return needed
    if seem_transposed(shape[1], shape[2]):
        return f"{needed}: {shape[1]} regions of {shape[2]} numbers seem transposed; save array.transpose(0, 2, 1)"
    return None


def _open(path: Path, problems: list[str]) -> NpyRows | None:
    try:
        return NpyRows(path)
    except ItmkitError as error:
        problems += error.problems
    return None


def _texts(
    caps: Path, ids: Path, features: NpyRows | None, skip_empty: bool, problems: list[str]
) -> tuple[list[str] | None, list[str] | None]:
    captions = names = None
    rows = 0 if features is None else len(features)
    try:
        captions = read_captions(caps, rows, skip_empty=skip_empty) if caps.exists() else None
        if captions is None:
            problems.append(f"{caps}: no such file; every *_ims.npy needs its captions beside it")
    except ItmkitError as error:
        problems += error.problems
    try:
        names = [line.strip() for line in read_lines(ids)] if ids.exists() else None
        while names and not names[-1]:
            names.pop()
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


def _one_a_picture(array: NpyRows, pictures: int, captions: int, problems: list[str]) -> NpyRows | None:
    """Boxes with a row for each caption of each picture, of which the first rows are taken; None if rows differ."""
    each = captions // max(1, pictures)
    if len(array) != captions or captions != each * pictures or each < 2:
        return array
    for start in range(0, pictures, _TOGETHER):
        stop = min(pictures, start + _TOGETHER)
        rows = array.read(start * each, stop * each).reshape(stop - start, each, *array.shape[1:])
        differ = np.flatnonzero((rows != rows[:, :1]).reshape(stop - start, -1).any(axis=1))
        if len(differ):
            row = (start + int(differ[0])) * each
            problems.append(
                f"{array.path}: has {len(array)} rows, {each} a picture, but rows {row} to {row + each - 1}, which"
                " belong to one picture, differ"
            )
            return None
    return NpyRows(array.path, step=each)


def _are_blocks(array: NpyRows, what: str) -> bool:
    return what == "boxes" and array.shape[-1] in WIDTHS


def _read_sizes(
    found: ScanSplit, names: Callable[[int], str], size_order: SizeOrder, problems: list[str]
) -> np.ndarray | None:
    """(N, 2) float64 width, height of the file's rows; None where there is no such file, or a wrong one."""
    if "sizes" not in found.arrays:
        return None
    array = found.arrays["sizes"]
    size = array.read(0, len(found.features)).astype(np.float64)
    wrong = ~((size >= 1) & (size < 1 << 20)).all(axis=1)
    if wrong.any():
        rows = [f"{row} ({names(int(row))})" for row in np.flatnonzero(wrong)]
        problems.append(f"{array.path}: not a size in pixels in {some('row', rows)}")
        return None
    return size if size_order == "width-height" else size[:, ::-1]


def _check_scores(found: ScanSplit, names: Callable[[int], str], bad: BadRows) -> None:
    scores = found.arrays.get("scores")
    if scores is None:
        return
    for start, block in scores.blocks():
        for row in np.flatnonzero(~np.isfinite(block.astype(np.float64)).all(axis=1)):
            bad.add(scores.path, "NaN or infinity", int(start + row), names(int(start + row)))


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


def disagreements(splits: list[ScanSplit]) -> list[str]:
    """What does not fit between the splits: shapes, optional files, pictures that are in two of them."""
    problems = []
    for other in splits[1:]:
        first = splits[0]
        if other.features.shape[1:] != first.features.shape[1:]:
            problems.append(
                f"{other.features.path}: {_shape(other)} a picture, {first.features.path.name} has {_shape(first)}"
            )
        for what in sorted(set(first.extras) ^ set(other.extras)):
            lacks, has = (first, other) if what in other.extras else (other, first)
            problems.append(
                f"{lacks.features.path.parent}: {has.name} has {what}, {lacks.name} has not;"
                " add the file or take the other away"
            )
    owner: dict[str, ScanSplit] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for split in splits:
        for key in split.ids:
            if owner.setdefault(key, split) is not split:
                shared.setdefault((owner[key].name, split.name), []).append(key)
    for (a, b), ids in shared.items():
        some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
        problems.append(
            f"{splits[0].features.path.parent}: {len(ids)} pictures are in both {a} and {b} ({some});"
            f" leave one out with --split-map {b}=-"
        )
    return problems


def _shape(split: ScanSplit) -> str:
    return "{} regions x {}".format(*split.features.shape[1:])

"""Regions from arrays with names, whichever names the program that wrote them used."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from itmkit.import_features.region_sets import UNKNOWN, RegionSet, seem_transposed
from itmkit.import_features.vinvl_lines import split_appended

FEATURES = ("x", "features", "feat", "feats", "feature", "image_features", "roi_features")
BOXES = ("bbox", "bboxes", "boxes", "box", "image_bb")
COUNT = ("num_bbox", "num_boxes")
HEIGHT = ("image_h", "image_height", "img_h", "height", "h")
WIDTH = ("image_w", "image_width", "img_w", "width", "w")
NAMES = (*FEATURES, *BOXES, *COUNT, *HEIGHT, *WIDTH)
_FLOATS = (np.float16, np.float32)


class WrongFile(Exception):
    """A file that holds no regions, and why."""


def region_set(
    names: set[str] | Mapping[str, object], read: Callable[[str], np.ndarray], boxes: np.ndarray | None = None
) -> RegionSet:
    """The regions of one picture. A size that no array says is UNKNOWN.

    Features (D, n) are turned where the number of boxes tells that they lie that way. If there are no boxes, but each
    region ends with one as VinVL writes it, these are the boxes.

    Args:
        names: of the arrays there are. read: gives one of them.
        boxes: those of a file of their own, where there is one.

    Raises:
        WrongFile: there are no features, they seem transposed, or arrays disagree. Values are not checked here (see
            `wrong_values`).
    """
    features_name = _first(FEATURES, names)
    if features_name is None:
        others = f"; found {', '.join(sorted(map(repr, names))[:8])}" if names else ""
        raise WrongFile(f"no array 'x' (or {', '.join(map(repr, FEATURES[1:4]))}){others}")
    boxes_name = _first(BOXES, names)
    if boxes is None and boxes_name is not None:
        boxes = read(boxes_name)
    values = read(features_name)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    count_name = _first(COUNT, names)
    count = whole(read(count_name), count_name) if count_name is not None else None
    height_name, width_name = _first(HEIGHT, names), _first(WIDTH, names)
    if (height_name is None) != (width_name is None):
        raise WrongFile(f"no array {(HEIGHT if height_name is None else WIDTH)[0]!r}")
    height = UNKNOWN if height_name is None else whole(read(height_name), height_name)
    width = UNKNOWN if width_name is None else whole(read(width_name), width_name)
    if count is None and boxes is not None and boxes.ndim == 2:
        count = len(boxes)
    if values.ndim == 2 and count not in (None, len(values)) and values.shape[1] == count:
        values = values.T
    if values.ndim != 2 or 0 in values.shape[1:] or values.dtype not in _FLOATS or count not in (None, len(values)):
        wanted = "float32 (n, D) is needed" if count is None else f"float32 ({count}, D) is needed for num_bbox {count}"
        raise WrongFile(f"{features_name} has shape {values.shape} of {values.dtype}, {wanted}")
    if count is None and seem_transposed(*values.shape):
        raise WrongFile(
            f"{features_name} has shape {values.shape}: {len(values)} regions of {values.shape[1]} numbers seem"
            " transposed; save array.T, or name the boxes, which tell how many regions there are"
        )
    if boxes is None:
        features, boxes = split_appended(values) or (values, None)
        return RegionSet(width, height, features, boxes)
    if boxes.shape != (len(values), 4) or boxes.dtype.kind not in "fiu":
        called = boxes_name or "boxes"
        raise WrongFile(
            f"{called} has shape {boxes.shape} of {boxes.dtype}, ({len(values)}, 4) is needed for"
            f" num_bbox {len(values)}"
        )
    with np.errstate(over="ignore"):
        return RegionSet(width, height, values, boxes.astype(np.float32))


def whole(value: np.ndarray, name: str) -> int:
    """A single number; some programs wrote it as a list of one, or as a float."""
    if value.size != 1 or value.dtype.kind not in "iuf" or not float(value.reshape(())).is_integer():
        raise WrongFile(f"{name} is no whole number")
    number = int(value.reshape(()))
    if not 0 <= number < 1 << 31:
        raise WrongFile(f"{name} is {number}")
    return number


def _first(wanted: tuple[str, ...], names: set[str] | Mapping[str, object]) -> str | None:
    return next((name for name in wanted if name in names), None)

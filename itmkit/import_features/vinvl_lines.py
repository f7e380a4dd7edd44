"""Lines of VinVL's and Oscar's TSV files. Three kinds of them are around.

image_id  {"num_boxes": n, "features": base64 of (n, D + 6)}                    features.tsv as released
image_id  num_boxes  base64 of (n, D + 6)                                       features.tsv of older programs
image_id  {"image_h": h, "image_w": w, "objects": [{"rect", "feature", ...}]}   predictions of scene_graph_benchmark

The six numbers after the features are the box as shares of the picture: x1 y1 x2 y2, and its width and height in either
order. `rect` is x1 y1 x2 y2 in pixels, `feature` base64 of D float32, `class` the name of the object, `conf` how sure
the detector is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

from itmkit.import_features.region_sets import UNKNOWN, RegionSet
from itmkit.import_features.tsv_lines import FeatureType, WrongLine, read_array, read_id, read_integer

VINVL = (2, 3)  # how many fields a line has
APPENDED = 6  # numbers after the features of a region
_ROUNDING = 0.02  # of the width and height beside the corners


class VinvlNames:
    """The names of objects that occur, in the order of their first appearance: the tables of the cache."""

    def __init__(self) -> None:
        self.tables: dict[str, list[str]] = {"tags": [], "attributes": []}
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        found = self._numbers.setdefault(name, len(self._numbers))
        if found == len(self.tables["tags"]):
            self.tables["tags"].append(name)
        return found


def parse_vinvl_line(line: bytes, names: VinvlNames, dtype: FeatureType = "float32") -> tuple[str, RegionSet]:
    """(picture's id, its regions); sizes are UNKNOWN, and boxes shares, where the line says no more.

    Raises:
        WrongLine: the line has none of the three kinds, or its lengths disagree.
    """
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) not in VINVL:
        raise WrongLine(f"{len(fields)} fields between tabs instead of 2 or 3; cut short?")
    key = read_id(fields[0])
    if len(fields) == VINVL[1]:
        count = read_integer({"num_boxes": fields[1]}, "num_boxes")
        return key, _appended(fields[2], count, dtype)
    try:
        found = json.loads(fields[1])
    except (ValueError, RecursionError):
        raise WrongLine("a second field that is not JSON; cut short?") from None
    if isinstance(found, dict) and isinstance(found.get("features"), str):
        count = _whole(found, "num_boxes")
        return key, _appended(found["features"].encode("ascii", "replace"), count, dtype)
    objects = objects_of(found)
    width = height = UNKNOWN
    if isinstance(found, dict) and {"image_w", "image_h"} & found.keys():
        width, height = _whole(found, "image_w"), _whole(found, "image_h")
    return key, _of_objects(objects, width, height, names, dtype)


def objects_of(found: Any) -> list[dict[str, Any]]:
    """The objects of a line's JSON, which is a list of them or has one."""
    objects = found.get("objects") if isinstance(found, dict) else found
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise WrongLine("neither `features` nor a list `objects` in its JSON")
    return objects


def split_appended(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(features (n, D), boxes (n, 4) as shares) of rows (n, D + 6) that end with a box; None where they do not."""
    if values.ndim != 2 or not len(values) or values.shape[1] <= APPENDED:
        return None
    last = values[:, -APPENDED:].astype(np.float32)
    corners, sides = last[:, :4], last[:, 4:]
    if not np.isfinite(last).all() or last.min() < -_ROUNDING or last.max() > 1 + _ROUNDING:
        return None
    extent = corners[:, 2:] - corners[:, :2]  # width, height
    if (extent < 0).any() or not (extent > 0).any():
        return None
    if min(np.abs(sides - extent).max(), np.abs(sides - extent[:, ::-1]).max()) > _ROUNDING:
        return None
    return values[:, :-APPENDED], corners


def _appended(text: bytes, count: int, dtype: FeatureType) -> RegionSet:
    stored = "<f4" if dtype == "float32" else "<f2"
    values = read_array({"features": text}, "features", stored, count, None)
    if not count:
        return RegionSet(UNKNOWN, UNKNOWN, values, np.zeros((0, 4), np.float32))
    found = split_appended(values)
    if found is None:
        raise WrongLine(
            f"no box in the last {APPENDED} of the {values.shape[1]} numbers a region (x1 y1 x2 y2, width and height as"
            " shares of the picture)"
        )
    return RegionSet(UNKNOWN, UNKNOWN, *found)


def _of_objects(
    objects: list[dict[str, Any]], width: int, height: int, names: VinvlNames, dtype: FeatureType
) -> RegionSet:
    if objects and not any("feature" in one for one in objects):
        raise WrongLine("labels without features (a labels.tsv?); labels stand in a file of their own")
    rows, boxes, scores, tags = [], [], [], []
    for one in objects:
        text, rect = one.get("feature"), one.get("rect")
        if not isinstance(text, str) or not four_numbers(rect):
            raise WrongLine("an object without `feature` (base64) or `rect` (four numbers)")
        rows.append(_numbers(text, dtype))
        boxes.append(rect)
        scores.append(float(confidence(one) or 0.0))
        tags.append(names.number(one["class"]) if isinstance(one.get("class"), str) else -1)
    if len({len(row) for row in rows}) > 1:
        raise WrongLine("objects whose features have different lengths")
    features = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    found = RegionSet(width, height, features, np.array(boxes, np.float32).reshape(-1, 4))
    found.scores, found.tags = np.array(scores, np.float32), np.array(tags, np.int64)
    return found


def _numbers(text: str, dtype: FeatureType) -> np.ndarray:
    stored = np.dtype("<f4" if dtype == "float32" else "<f2")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WrongLine("`feature` that is not base64") from None
    if not data or len(data) % stored.itemsize:
        raise WrongLine(f"`feature` of {len(data)} bytes, not a whole number of numbers")
    return np.frombuffer(data, stored)


def _whole(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    if not is_number(value) or int(value) != value or not 0 <= value < 1 << 30:
        raise WrongLine(f"{name} is {str(value)[:20]!r}, a whole number is needed")
    return int(value)


def confidence(one: Mapping[str, Any]) -> float | None:
    """How sure the detector is of an object; None where its line does not say."""
    found = one.get("conf")
    if found is not None and not is_number(found):
        raise WrongLine(f"an object whose `conf` is {str(found)[:20]!r}, a number is needed")
    return found


def four_numbers(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) == 4 and all(is_number(one) for one in value)


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9

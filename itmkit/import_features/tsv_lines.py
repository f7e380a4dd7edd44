"""One line of a TSV file of features: its fields, and the regions in them.

Arrays are base64 of little-endian numbers: boxes (n, 4) and features (n, D) float32, ids int64, confidences float32.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from itmkit.dataset import wrong_id
from itmkit.import_features.region_sets import RegionSet

BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = ("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes", "boxes",
          "features")  # fmt: skip
FeatureType = Literal["float32", "float16"]
Vocabulary = Mapping[str, list[str]]  # tables "tags" and "attributes"
_FEW = 10  # numbers, which say nothing about their type


class WrongLine(Exception):
    """A line that holds no regions, and why."""


def parse_line(
    line: bytes,
    names: Sequence[str],
    vocabulary: Vocabulary | None = None,
    dtype: FeatureType = "float32",
) -> tuple[str, RegionSet]:
    """(picture's id, its regions) of a line with the fields `names`.

    Raises:
        WrongLine: the line does not have these fields, or lengths disagree. Values are not checked here (see
            `wrong_values`), except for ids beyond the vocabulary.
    """
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) != len(names):
        raise WrongLine(f"{len(fields)} fields between tabs instead of {len(names)}; cut short?")
    named = {name.replace("img_", "image_"): value for name, value in zip(names, fields, strict=True)}
    key = read_id(named["image_id"])
    width, height, count = (read_integer(named, name) for name in ("image_w", "image_h", "num_boxes"))
    boxes = read_array(named, "boxes", "<f4", count, 4)
    features = read_array(named, "features", "<f4" if dtype == "float32" else "<f2", count, None)
    found = RegionSet(width, height, features, boxes)
    if "objects_id" in named:
        found.scores = read_array(named, "objects_conf", "<f4", count, 1)[:, 0]
        read_array(named, "attrs_conf", "<f4", count, 1)
        found.tags = _ids(named, "objects_id", count, vocabulary, "tags")
        found.attributes = _ids(named, "attrs_id", count, vocabulary, "attributes")
    return key, found


def read_id(field: bytes) -> str:
    try:
        key = field.decode("utf-8").removeprefix("\ufeff").strip()
    except UnicodeDecodeError:
        raise WrongLine("an id that is not UTF-8") from None
    if why := wrong_id(key):
        raise WrongLine(f"an id that {why}")
    return key


def may_be_float16(features: np.ndarray) -> bool:
    """Whether numbers read as float32 are more alike as twice as many of float16.

    A tenfold float16 is a ten thousand million times larger float32, if its bits are read as such.
    """
    if features.dtype != np.float32 or not len(features):
        return False
    halves = features.view(np.float16).astype(np.float32)
    return bool(np.isfinite(halves).all()) and _spread(features) > 1e5 and _spread(halves) < 1e4


def _spread(values: np.ndarray) -> float:
    """How many times larger than the smaller ones the larger ones of the numbers are, without zeros and outliers."""
    sizes = np.abs(values[values != 0])
    if len(sizes) < _FEW:
        return 1.0
    low, high = np.percentile(sizes, [10, 90])
    return float(high / low)


def read_integer(named: Mapping[str, bytes], name: str) -> int:
    text = named[name].strip()
    if not text.isdigit() or len(text) > 9:
        raise WrongLine(f"{name} is {text[:20].decode('utf-8', 'replace')!r}, a whole number is needed")
    return int(text)


def read_array(named: Mapping[str, bytes], name: str, dtype: str, count: int, width: int | None) -> np.ndarray:
    """(count, width) numbers of a base64 field; `width` None: whatever divides evenly."""
    text = named[name].strip()
    if text[:2] in (b"b'", b'b"') and text[-1:] == text[1:2]:  # str() of the bytes, which Python 3 writes
        text = text[2:-1]
    text = text.rstrip(b"=")  # some programs write no padding
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise WrongLine(f"{name} that is not base64") from None
    size = np.dtype(dtype).itemsize
    if width is None:
        width = len(data) // (size * max(1, count))
        if count and not width:
            raise WrongLine(f"num_boxes is {count}, {name} holds {len(data)} bytes")
    if len(data) != count * width * size:
        held = f"{len(data) / (size * width):g} boxes" if width else f"{len(data)} bytes"
        held = held if name != "features" else f"{len(data)} bytes, not a whole number of numbers a box"
        raise WrongLine(f"num_boxes is {count}, {name} holds {held}")
    return np.frombuffer(data, dtype).reshape(count, width)


def _ids(
    named: Mapping[str, bytes], name: str, count: int, vocabulary: Vocabulary | None, table: str
) -> np.ndarray | None:
    ids = read_array(named, name, "<i8", count, 1)[:, 0]
    if vocabulary is None:
        return None
    size = len(vocabulary[table])
    if ((ids < 0) | (ids >= size)).any():
        raise WrongLine(f"{name} beyond the {size} names of the vocabulary")
    return ids

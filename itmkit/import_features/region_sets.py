"""The regions of one picture as files of other projects hold them, and what may be wrong with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmkit.import_features.box_units import AROUND_ZERO, NO_AREA, NOT_ORDERED, WITHIN_ONE, BoxUnits
from itmkit.import_features.scan_layout import FLOAT16_LIMIT, some

BOX_SLACK = 1.5  # pixels a box may lie outside its picture: detectors round, and some count the last pixel
MOST_PIXELS = 1 << 20  # a side of a picture
SKIP_DAMAGED = "--skip-damaged leaves such pictures out"
_WIDE = 512  # numbers a region
UNKNOWN = -1  # the width and height of a picture of which the files do not say them


@dataclass
class RegionSet:
    """One picture's n regions, as the file has them.

    width, height: of the picture that the boxes refer to, in pixels; UNKNOWN where the files do not say them.
    features: (n, D) float16 or float32. boxes: (n, 4) float32, x1 y1 x2 y2 in pixels or in shares of the picture, or
    None where the files have none.
    scores: (n,) float32, or None. tags, attributes: (n,) indexes into a vocabulary, or None.
    """

    width: int
    height: int
    features: np.ndarray
    boxes: np.ndarray | None
    scores: np.ndarray | None = None
    tags: np.ndarray | None = None
    attributes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def sized(self) -> bool:
        """Whether the files say how large the picture is."""
        return self.width != UNKNOWN

    def add_to(self, units: BoxUnits, number: int) -> None:
        """Adds the boxes to those of the set, as picture `number`."""
        if len(self) and self.boxes is not None:
            units.add(number, float(self.boxes.max()), max(self.width, self.height) if self.sized else math.inf)


def seem_transposed(regions: int, width: int) -> bool:
    """Whether features (regions, width) are rather (width, regions): nobody has so many regions a picture."""
    return regions >= _WIDE and regions > width


class Findings:
    """Everything wrong with some files: kinds of problems, each with the places where it was found.

    With `skip_damaged`, what is wrong with a single record is no problem: it stands in `damaged`, and the caller leaves
    the record out.
    """

    def __init__(self, *, skip_damaged: bool = False) -> None:
        self._places: dict[tuple[str, str, str], list[str]] = {}
        self._skip = skip_damaged
        self.damaged: list[dict[str, str]] = []

    def add(self, path: Path, what: str, unit: str = "", place: str = "") -> None:
        """`place` is "12 (picture 77)" where `unit` is "line"; without a place the whole file is meant."""
        if place and self._skip:
            self.damaged.append({"place": f"{path}: {unit} {place}", "reason": what})
            return
        places = self._places.setdefault((str(path), what, unit), [])
        if place:
            places.append(place)

    def __bool__(self) -> bool:
        return bool(self._places)

    def in_words(self) -> list[str]:
        """One sentence per file and kind of problem. It names the first few places and counts the rest."""
        words = [
            f"{path}: {what} in {some(unit, places)}" if places else f"{path}: {what}"
            for (path, what, unit), places in self._places.items()
        ]
        of_records = [number for number, places in enumerate(self._places.values()) if places]
        if of_records:
            words[of_records[0]] += f" ({SKIP_DAMAGED})"
        return words


def odd_units(units: BoxUnits, findings: Findings, place_of: Callable[[int], tuple[Path, str, str]]) -> set[int]:
    """The pictures whose boxes are not in the unit of most others; they are added to the findings.

    `place_of` a picture is its file, unit and place as `Findings.add` takes them.
    """
    odd, what = units.odd_ones()
    for number in odd:
        path, unit, place = place_of(number)
        findings.add(path, what, unit, place)
    return set(odd)


def in_pixels(found: RegionSet) -> RegionSet:
    """The same regions, with boxes in pixels that were shares of width and height; changes `found`."""
    if found.boxes is not None:
        found.boxes = np.clip(found.boxes, 0, 1) * np.array([found.width, found.height] * 2, np.float32)
    return found


TURNED = " (with width and height exchanged all would fit)"


def wrong_values(found: RegionSet) -> list[str]:
    """What is wrong with the values of one picture, in words, without saying where."""
    wrong = []
    if found.sized and not (1 <= found.width < MOST_PIXELS and 1 <= found.height < MOST_PIXELS):
        wrong.append("a width or height that is no size in pixels")
    features = np.abs(found.features.astype(np.float32, copy=False))
    if not (features < FLOAT16_LIMIT).all():  # NaN is not less
        wrong.append("NaN or values beyond float16's 65504 among the features")
    if found.boxes is not None:
        wrong += _wrong_boxes(found, found.boxes)
    if found.scores is not None and not np.isfinite(found.scores).all():
        wrong.append("NaN or infinity among the confidences")
    return wrong


def _wrong_boxes(found: RegionSet, boxes: np.ndarray) -> list[str]:
    if not np.isfinite(boxes).all():
        return ["NaN or infinity among the boxes"]
    low, high = boxes[:, :2], boxes[:, 2:]
    if (high < low).any():
        return [NOT_ORDERED]
    if len(found) and not (high > low).all(axis=1).any():
        return [NO_AREA]
    if len(found) and high.max() <= WITHIN_ONE and low.min() < 1 - WITHIN_ONE:
        return [AROUND_ZERO]
    width, height = (found.width, found.height) if found.sized else (np.inf, np.inf)
    if _beyond(boxes, width, height):
        turned = "" if _beyond(boxes, height, width) else TURNED
        return [f"a box beyond the edge of the picture{turned}"]
    return []


def _beyond(boxes: np.ndarray, width: float, height: float) -> bool:
    limit = np.array([width, height]) + BOX_SLACK
    return bool((boxes[:, :2] < -BOX_SLACK).any() or (boxes[:, 2:] > limit).any())

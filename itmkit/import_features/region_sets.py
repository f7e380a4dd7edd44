"""The regions of one picture as files of other projects hold them, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from itmkit.import_features.scan_layout import FLOAT16_LIMIT, some

BOX_SLACK = 1.5  # pixels a box may lie outside its picture: detectors round, and some count the last pixel
MOST_PIXELS = 1 << 20  # a side of a picture
WITHIN_ONE = 1.01  # shares of a picture may exceed 1 by what was lost in rounding
LARGER = 2  # pixels; in a picture no larger than that, a box may lie between 0 and 1 and be in pixels
SKIP_DAMAGED = "--skip-damaged leaves such pictures out"
SCALED = "all box values lie between 0 and 1: they were taken as shares of the width and height of their pictures"


@dataclass
class RegionSet:
    """One picture's n regions, as the file has them.

    width, height: of the picture that the boxes refer to, in pixels.
    features: (n, D) float16 or float32. boxes: (n, 4) float32, x1 y1 x2 y2 in pixels.
    scores: (n,) float32, or None. tags, attributes: (n,) indexes into a vocabulary, or None.
    """

    width: int
    height: int
    features: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray | None = None
    tags: np.ndarray | None = None
    attributes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)


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


@dataclass
class BoxUnits:
    """Whether the boxes of a set are in pixels or in shares of their pictures. Only the whole set tells.

    in_shares, in_pixels: the numbers of the pictures whose boxes look like the one or the other.
    """

    in_shares: list[int] = field(default_factory=list)
    in_pixels: list[int] = field(default_factory=list)

    def add(self, number: int, found: RegionSet) -> None:
        if len(found) and max(found.width, found.height) > LARGER:
            (self.in_shares if found.boxes.max() <= WITHIN_ONE else self.in_pixels).append(number)

    @property
    def shares(self) -> bool:
        return len(self.in_shares) > len(self.in_pixels)

    def odd_ones(self, findings: Findings, place_of: Callable[[int], tuple[Path, str, str]]) -> set[int]:
        """The pictures whose boxes are not in the unit of most others; they are added to the findings.

        `place_of` a picture is its file, unit and place as `Findings.add` takes them.
        """
        if not self.in_shares or not self.in_pixels:
            return set()
        odd = self.in_pixels if self.shares else self.in_shares
        what = "boxes between 0 and 1, while those of most pictures are in pixels,"
        if self.shares:
            what = "boxes in pixels, while those of most pictures lie between 0 and 1,"
        for number in odd:
            path, unit, place = place_of(number)
            findings.add(path, what, unit, place)
        return set(odd)


def in_pixels(found: RegionSet) -> RegionSet:
    """The same regions, with boxes in pixels that were shares of width and height; changes `found`."""
    found.boxes = np.clip(found.boxes, 0, 1) * np.array([found.width, found.height] * 2, np.float32)
    return found


NO_AREA = "no box with an area (all zero?)"
AROUND_ZERO = "box values between -1 and 1 (pixels are needed, or shares of the picture from 0 to 1)"
TURNED = " (with width and height exchanged all would fit)"


def wrong_values(found: RegionSet) -> list[str]:
    """What is wrong with the values of one picture, in words, without saying where."""
    wrong = []
    if not (1 <= found.width < MOST_PIXELS and 1 <= found.height < MOST_PIXELS):
        wrong.append("a width or height that is no size in pixels")
    features = np.abs(found.features.astype(np.float32, copy=False))
    if not (features < FLOAT16_LIMIT).all():  # NaN is not less
        wrong.append("NaN or values beyond float16's 65504 among the features")
    if not np.isfinite(found.boxes).all():
        wrong.append("NaN or infinity among the boxes")
    else:
        low, high = found.boxes[:, :2], found.boxes[:, 2:]
        if (high < low).any():
            wrong.append("x2 < x1 or y2 < y1 (corners x1 y1 x2 y2 are needed)")
        elif len(found) and not (high > low).all(axis=1).any():
            wrong.append(NO_AREA)
        elif len(found) and high.max() <= WITHIN_ONE and low.min() < 1 - WITHIN_ONE:
            wrong.append(AROUND_ZERO)
        elif _beyond(found.boxes, found.width, found.height):
            turned = "" if _beyond(found.boxes, found.height, found.width) else TURNED
            wrong.append(f"a box beyond the edge of the picture{turned}")
    if found.scores is not None and not np.isfinite(found.scores).all():
        wrong.append("NaN or infinity among the confidences")
    return wrong


def _beyond(boxes: np.ndarray, width: int, height: int) -> bool:
    limit = np.array([width, height]) + BOX_SLACK
    return bool((boxes[:, :2] < -BOX_SLACK).any() or (boxes[:, 2:] > limit).any())

"""The regions of one picture as files of other projects hold them, and what may be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmkit.import_features.scan_layout import FLOAT16_LIMIT, some

BOX_SLACK = 1.5  # pixels a box may lie outside its picture: detectors round, and some count the last pixel
MOST_PIXELS = 1 << 20  # a side of a picture


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
    """Everything wrong with some files: kinds of problems, each with the places where it was found."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, str], list[str]] = {}

    def add(self, path: Path, what: str, unit: str = "", place: str = "") -> None:
        """`place` is "12 (picture 77)" where `unit` is "line"; without a place the whole file is meant."""
        places = self._places.setdefault((str(path), what, unit), [])
        if place:
            places.append(place)

    def __bool__(self) -> bool:
        return bool(self._places)

    def in_words(self) -> list[str]:
        """One sentence per file and kind of problem. It names the first few places and counts the rest."""
        return [
            f"{path}: {what} in {some(unit, places)}" if places else f"{path}: {what}"
            for (path, what, unit), places in self._places.items()
        ]


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
        elif (low < -BOX_SLACK).any() or (high > np.array([found.width, found.height]) + BOX_SLACK).any():
            wrong.append("a box beyond the edge of the picture")
    if found.scores is not None and not np.isfinite(found.scores).all():
        wrong.append("NaN or infinity among the confidences")
    return wrong

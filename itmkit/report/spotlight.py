"""A picture with its regions: all of them as boxes, or the strongest few in the light and the rest in the dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from itmkit.report.figure import COLOURS
from itmkit.report.page import LETTER, SMALL, bare, shown

DARK = 0.3  # brightness of what no strong region covers
OUTLINED = 3  # regions, where they are few; of patches only the strongest is
_AT_RIGHT = 0.6  # of the width, from which the name of a box ends at its right side
_DOTS = 200  # an inch, of the pictures in a figure
_FRAME, _PLAIN = COLOURS[5], COLOURS[4]  # orange, which stands out in the dark; sky blue


def region_name(names: Sequence[str], number: int) -> str:
    """`3 red car`: by its number, as in `itmkit inspect --image`, since several may be called the same."""
    return f"{number} {names[number]}".rstrip()


def fitted(size: tuple[int, int], width: float, height: float) -> tuple[float, float]:
    """Inches of a picture of `size` pixels in so much room."""
    scale = min(width / size[0], height / size[1])
    return size[0] * scale, size[1] * scale


def pixels_of(picture: Image.Image | None, size: tuple[int, int], inches: tuple[float, float]) -> np.ndarray:
    """(h, w, 3) uint8, as sharp as a figure needs; an even grey where there is no picture of these regions."""
    wide, high = (max(1, round(inch * _DOTS)) for inch in inches)
    if picture is None:
        return np.full((high, wide, 3), 225, np.uint8)
    smaller = wide < picture.width
    return np.asarray(
        picture.resize((wide, high), Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC), np.uint8
    )


def strongest(weights: np.ndarray) -> np.ndarray:
    """Numbers of the regions in the light, strongest first: three, or a twelfth of very many."""
    return np.argsort(-weights, kind="stable")[: max(OUTLINED, len(weights) // 12)]


def lit(pixels: np.ndarray, shares: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The pixels with the strongest regions as bright as their weights beside the strongest one, the rest dark.

    Args:
        shares: (R, 4) boxes in shares of the picture, 0 to 1.
    """
    height, width = pixels.shape[:2]
    bright = np.full((height, width), DARK, np.float32)
    most = max(float(weights.max()), 1e-12)
    for region in strongest(weights):
        left, top, right, bottom = np.clip(shares[region], 0, 1) * (width, height, width, height)
        part = bright[
            min(int(top), height - 1) : max(int(np.ceil(bottom)), int(top) + 1),
            min(int(left), width - 1) : max(int(np.ceil(right)), int(left) + 1),
        ]
        np.maximum(part, DARK + (1 - DARK) * float(weights[region]) / most, out=part)
    return (pixels * bright[..., None]).astype(np.uint8)


def draw_lit(axis: Any, matplotlib: Any, pixels: np.ndarray, shares: np.ndarray, weights: np.ndarray) -> None:
    """One panel: what a word looks at, the strongest region framed and with its weight."""
    _show(axis, lit(pixels, shares, weights))
    order = strongest(weights)
    framed = order if len(order) <= OUTLINED else order[:1]
    for place, region in reversed(list(enumerate(framed))):
        _frame(axis, matplotlib, shares[region], _FRAME, 1.1 if place == 0 else 0.5)
    _label(axis, shares[order[0]], f"{weights[order[0]]:.2f}")


def draw_boxes(
    axis: Any, matplotlib: Any, pixels: np.ndarray, shares: np.ndarray, names: Sequence[str], named: Sequence[int]
) -> None:
    """The picture with all its regions, those of `named` with their names. Boxes of patches would be a mesh."""
    _show(axis, pixels)
    if len(shares) <= 60:
        for region in range(len(shares)):
            _frame(axis, matplotlib, shares[region], _PLAIN, 0.5)
    inches = axis.get_window_extent().width / axis.figure.dpi
    taken: list[tuple[float, float, float]] = []  # left, right and top of the names so far, in shares of the picture
    for region in named:
        _frame(axis, matplotlib, shares[region], _FRAME, 1.0)
        name = shown(region_name(names, region), 24)
        left, top, right, _ = np.clip(shares[region], 0, 1)
        wide = (len(name) * LETTER * SMALL / 6.5 + 0.03) / inches
        begin = right - wide if left > _AT_RIGHT else left
        if all(begin > b or begin + wide < a or abs(top - y) > 0.06 for a, b, y in taken):  # else neither can be read
            _label(axis, shares[region], name)
            taken.append((begin, begin + wide, top))


def _show(axis: Any, pixels: np.ndarray) -> None:
    bare(axis).imshow(pixels, extent=(0, 1, 1, 0), aspect="auto", interpolation="none")


def _frame(axis: Any, matplotlib: Any, box: np.ndarray, colour: str, width: float) -> None:
    left, top, right, bottom = np.clip(box, 0, 1)
    around = matplotlib.patches.Rectangle(
        (left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=width
    )
    axis.add_patch(around)


def _label(axis: Any, box: np.ndarray, text: str) -> None:
    """At the upper left corner of a box, or at the upper right one where the text would leave the picture."""
    left, top, right, _ = np.clip(box, 0, 1)
    at_right = left > _AT_RIGHT
    behind = {"facecolor": "black", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    axis.text(
        right if at_right else left,
        max(top, 0.02),
        text,
        ha="right" if at_right else "left",
        va="bottom" if top > 0.12 else "top",
        fontsize=SMALL,
        color="white",
        bbox=behind,
    )

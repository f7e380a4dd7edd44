"""A figure of blocks below each other, measured in inches, for what no grid of equal panels holds."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itmkit.report.figure import wrapped
from itmkit.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 7.0  # inches: both columns of a paper
LETTER = 0.054  # inches, about, of one in 6.5 points
SMALL = 5.5  # points, of what is written into a picture or an arc
_BETWEEN = 0.1  # inches from one block to the next

# Axes at (x, y, width, height) inches, from the left of the page and down from the top of the block.
Place = Callable[[float, float, float, float], Any]


@dataclass(frozen=True)
class Block:
    """height: in inches. draw: what it shows, given how to place axes in it."""

    height: float
    draw: Callable[[Place], None]


def page(matplotlib: Any, title: str, blocks: Sequence[Block], *, width: float = WIDE) -> Figure:
    """The blocks from top to bottom, with a title above them, on a page as high as they need."""
    says = wrapped(shown(title), int(width / LETTER * 6.5 / 7.5))
    top = 0.14 * (1 + says.count("\n")) + 0.08
    tall = top + sum(block.height + _BETWEEN for block in blocks)
    figure = matplotlib.figure.Figure(figsize=(width, tall))
    figure.text(0.5, 1 - 0.05 / tall, says, ha="center", va="top", fontsize=7.5)

    def place_from(begins: float) -> Place:
        def place(x: float, y: float, wide: float, high: float) -> Any:
            return figure.add_axes((x / width, 1 - (begins + y + high) / tall, wide / width, high / tall))

        return place

    for block in blocks:
        block.draw(place_from(top))
        top += block.height + _BETWEEN
    return figure


def bare(axis: Any) -> Any:
    """The axes without ticks, grid and spines."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.patch.set_visible(False)
    return axis


def shown(text: str, most: int | None = None) -> str:
    """Text of others as a figure may hold it: on one line, without controls (which XML has no place for), cut if long.

    Args:
        most: letters, at least 2.
    """
    plain = visible(text)
    return plain if most is None or len(plain) <= most else plain[: most - 1] + "\u2026"


def right_to_left(text: str) -> bool:
    """Whether the first letter with a direction is one of Hebrew, Arabic and the like, as HTML's dir="auto" asks."""
    classes = (unicodedata.bidirectional(letter) for letter in text)
    return next((kind for kind in classes if kind in ("L", "R", "AL")), "L") != "L"


def signed(value: float, digits: int) -> str:
    """`+0.12`, and never `-0.00`."""
    return f"{round(float(value), digits) + 0.0:+.{digits}f}"

"""What queries find: captions of an image, and images of a caption, right ones and wrong ones told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from itmkit.dataset import ImageRecord
from itmkit.report.figure import COLOURS, GREY, mark, style
from itmkit.report.lines import lines_of
from itmkit.report.page import SMALL, WIDE, Block, Place, bare, page
from itmkit.report.spotlight import fitted, pixels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_RUNS = 4  # side by side
RIGHT, WRONG = "\u2713", "\u2717"  # signs that are read without colours
_GREEN, _RED = COLOURS[2], COLOURS[1]
_MARGIN, _GAP, _POINTS, _LINE = 0.08, 0.1, 6.5, 0.115  # inches; points; inches from one line of text to the next
_QUERY = 1.25  # inches of the picture of an image query
_LINES = 3  # of a caption that is found

Side = Literal["i2t", "t2i"]
Pictures = Callable[[ImageRecord], Image.Image | None]


@dataclass(frozen=True)
class Found:
    """What one series finds for one query, best first.

    Attributes:
        items: positions. places: of each, from 1. scores, right: of each.
            The best `k` items; where none of these is right, the first right one stands behind them.
    """

    items: list[int]
    places: list[int]
    scores: list[float]
    right: list[bool]


@dataclass(frozen=True)
class Query:
    """A query and what each series finds.

    Attributes:
        side: i2t or t2i. place: the position of the query among the images, or among the texts.
        images: all images; their captions in order are the texts.
    """

    side: Side
    place: int
    images: Sequence[ImageRecord]
    found: Mapping[str, Found]

    @property
    def texts(self) -> list[str]:
        return [caption.text for image in self.images for caption in image.captions]


def finds(scores: np.ndarray, right: np.ndarray, best: int) -> Found:
    """The best items of a query. Of items with the same score wrong ones stand first, as in R@K.

    Args:
        scores: (n,). right: (n,) bool.
    """
    order = np.lexsort((np.arange(len(scores)), right, -scores))
    places = list(range(min(best, len(order))))
    if not right[order[places]].any() and right.any():
        places.append(int(np.argmax(right[order])))
    items = order[places]
    return Found(
        items.tolist(), [place + 1 for place in places], scores[items].astype(float).tolist(), right[items].tolist()
    )


def retrieved(
    queries: Sequence[Query], title: str, pictures: Pictures, *, numbers: Sequence[int] | None = None
) -> Figure:
    """The figure: image queries with captions in a column for each series, caption queries with images in a row each.

    Args:
        pictures: gives the picture of an image, or None.
        numbers: of the look of each series, see `itmkit.report.figure.mark`; 0, 1, ... by default.
    """
    looks = [mark(number) for number in numbers or range(len(queries[0].found))]
    with style() as matplotlib:
        blocks = []
        for number, query in enumerate(queries):
            if not number or queries[number - 1].side != query.side:
                blocks.append(_heading("image queries (i2t)" if query.side == "i2t" else "caption queries (t2i)"))
            draw = _captions if query.side == "i2t" else _images
            blocks.append(draw(matplotlib, query, pictures, looks))
        return page(matplotlib, title, blocks)


def _heading(says: str) -> Block:
    def draw(place: Place) -> None:
        axis = bare(place(_MARGIN, 0, WIDE - 2 * _MARGIN, 0.14))
        axis.text(0, 0.5, says, va="center", fontsize=7, fontweight="bold")
        axis.axhline(0, color=GREY, linewidth=0.5)

    return Block(0.16, draw)


def _captions(matplotlib: Any, query: Query, pictures: Pictures, looks: Sequence[dict[str, Any]]) -> Block:
    """An image, and beside it what each series finds."""
    texts, several = query.texts, len(query.found) > 1
    record = query.images[query.place]
    room = (WIDE - 2 * _MARGIN - _QUERY - _GAP * len(query.found)) / len(query.found)
    columns = [
        [lines_of(matplotlib, texts[item], room - 0.36, points=_POINTS, most=_LINES) for item in found.items]
        for found in query.found.values()
    ]
    above = _LINE * 1.3 if several else 0.0
    deep = max(sum(_LINE * (len(lines) + 0.25) for lines in column) for column in columns) + above
    picture = pictures(record)
    wide, high = fitted(_size(record, picture), _QUERY, max(1.0, min(deep, 1.4)))

    def draw(place: Place) -> None:
        axis = bare(place(_MARGIN + (_QUERY - wide) / 2, 0, wide, high))
        _picture(matplotlib, axis, picture, record, (wide, high))
        for number, (name, found) in enumerate(query.found.items()):
            left = _MARGIN + _QUERY + _GAP + number * (room + _GAP)
            column = bare(place(left, 0, room, deep))
            column.set_xlim(0, room)
            column.set_ylim(deep, 0)
            if several:
                _name(matplotlib, column, name, looks[number], room, _LINE / 2)
            down = above
            for lines, rank, right in zip(columns[number], found.places, found.right, strict=True):
                colour = _GREEN if right else _RED
                column.text(0.16, down, str(rank), ha="right", va="top", fontsize=_POINTS, color=GREY)
                column.text(0.2, down, RIGHT if right else WRONG, va="top", fontsize=_POINTS, color=colour)
                for text in lines:
                    column.text(0.34, down, text, va="top", fontsize=_POINTS)
                    down += _LINE
                down += 0.25 * _LINE

    return Block(max(deep, high), draw)


def _images(matplotlib: Any, query: Query, pictures: Pictures, looks: Sequence[dict[str, Any]]) -> Block:
    """A caption, and below it a row of images for each series."""
    several, text = len(query.found) > 1, query.texts[query.place]
    said = lines_of(matplotlib, text, WIDE - 2 * _MARGIN - 0.1, points=7, most=3)
    left = _MARGIN + (0.95 if several else 0.0)
    most = max(len(found.items) for found in query.found.values())
    cell = min((WIDE - left - _MARGIN) / most - _GAP, 1.3)
    above, row = 0.13 * len(said) + 0.06, cell * 0.85 + 0.2

    def draw(place: Place) -> None:
        axis = bare(place(_MARGIN, 0, WIDE - 2 * _MARGIN, above))
        for number, line in enumerate(said):
            axis.text(0, 1 - number * 0.13 / above, line, va="top", fontsize=7)
        for number, (name, found) in enumerate(query.found.items()):
            top = above + number * row
            if several:
                label = bare(place(_MARGIN, top, 0.9, cell * 0.85))
                label.set_xlim(0, 0.9)
                label.set_ylim(cell * 0.85, 0)
                _name(matplotlib, label, name, looks[number], 0.9, 0.2)
            for at, item in enumerate(found.items):
                record = query.images[item]
                picture = pictures(record)
                wide, high = fitted(_size(record, picture), cell, cell * 0.85)
                panel = bare(place(left + at * (cell + _GAP) + (cell - wide) / 2, top + cell * 0.85 - high, wide, high))
                _picture(matplotlib, panel, picture, record, (wide, high))
                _frame(panel, matplotlib, found.right[at])
                panel.set_xlabel(f"{found.places[at]}  ({found.scores[at]:.3f})", fontsize=SMALL, labelpad=2.5)

    return Block(above + row * len(query.found), draw)


def _name(matplotlib: Any, axis: Any, name: str, kind: dict[str, Any], room: float, down: float) -> None:
    """The name of a series behind its mark."""
    axis.plot(0.05, down, clip_on=False, **kind)
    lines = lines_of(matplotlib, name, room - 0.12, points=_POINTS, most=1 if room > 1 else 3)
    axis.text(0.12, down, "\n".join(lines), va="center", fontsize=_POINTS, fontweight="bold")


def _size(record: ImageRecord, picture: Image.Image | None) -> tuple[int, int]:
    if record.width and record.height:
        return record.width, record.height
    return picture.size if picture is not None else (4, 3)


def _picture(
    matplotlib: Any, axis: Any, picture: Image.Image | None, record: ImageRecord, inches: tuple[float, float]
) -> None:
    """The picture; an even grey with its id where there is none."""
    axis.imshow(pixels_of(picture, _size(record, picture), inches), extent=(0, 1, 1, 0), aspect="auto")
    if picture is None:
        lines = lines_of(matplotlib, record.id, inches[0] - 0.06, points=4.5, most=3)
        axis.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", fontsize=4.5)


def _frame(axis: Any, matplotlib: Any, right: bool) -> None:
    """Green and whole with a tick, or red and dashed with a cross."""
    colour = _GREEN if right else _RED
    look = {"edgecolor": colour, "linewidth": 1.6, "linestyle": "solid" if right else (0, (3, 1.2))}
    axis.add_patch(matplotlib.patches.Rectangle((0, 0), 1, 1, fill=False, clip_on=False, **look))
    behind = {"facecolor": "white", "edgecolor": colour, "linewidth": 0.6, "pad": 1.0}
    axis.text(0.03, 0.03, RIGHT if right else WRONG, va="top", fontsize=7, color=colour, bbox=behind)

"""A caption in columns, one a word: its tree as arcs above it, and below it what is known of each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from itmkit.report.figure import COLOURS, GREY
from itmkit.report.page import LETTER, SMALL, WIDE, Block, Place, bare, shown
from itmkit.report.spotlight import fitted, region_name

LEFT, RIGHT = 1.05, 0.5  # inches beside the columns: names of rows, and the scale of a map
_LONGEST = 18  # letters of a word that are shown
_LEVEL, _HIGHEST = 0.15, 1.8  # inches from one arc to the next above it; of all arcs
_HEARS, _HEARD = COLOURS[0], COLOURS[1]
_THUMBS = 12  # regions in the figure of edges
_FAINT = 0.3  # of the strongest edge: what is weaker is not drawn


@dataclass(frozen=True)
class Columns:
    """edges: (L + 1,) inches from the left of the page. turned: words stand upright, since there are too many."""

    words: list[str]
    edges: np.ndarray
    turned: bool

    @property
    def middles(self) -> np.ndarray:
        """(L,) inches from the left of the first column."""
        return (self.edges[:-1] + self.edges[1:]) / 2 - LEFT

    @property
    def width(self) -> float:
        return float(self.edges[-1] - LEFT)

    @property
    def page(self) -> float:
        """Inches: a long caption needs a wider page."""
        return max(WIDE, float(self.edges[-1]) + RIGHT)


def columns(words: Sequence[str]) -> Columns:
    """Columns as wide as their words where all have room side by side, else equal ones with the words turned."""
    names = [shown(word, _LONGEST) for word in words]
    natural = np.array([max(LETTER * len(name) + 0.1, 0.22) for name in names])
    room = WIDE - LEFT - RIGHT
    turned = bool(natural.sum() > room)
    even = np.full(len(names), max(room / len(names), 0.11))
    widths = even if turned else natural * min(room / natural.sum(), 1.6)
    return Columns(names, LEFT + np.concatenate((np.zeros(1), widths.cumsum())), turned)


def arcs(matplotlib: Any, into: Columns, heads: Sequence[int], relations: Sequence[str]) -> Block:
    """The dependency tree: from every head an arc to its dependent, which an arrow points at, with the relation."""
    levels = arc_levels(heads, relations)
    most = max(levels.values(), default=1)
    height = min(_LEVEL * most, _HIGHEST)

    def draw(place: Place) -> None:
        axis = bare(place(LEFT, 0, into.width, height + 0.12))
        axis.set_xlim(0, into.width)
        axis.set_ylim(0, most * (height + 0.12) / height)
        for (low, high), level in levels.items():
            dependent = low if heads[low] == high else high
            head = high if dependent == low else low
            # Arcs of one word begin beside each other, not in one point.
            toward = np.sign(dependent - head)
            begin = into.middles[head] + toward * 0.04
            end = into.middles[dependent] - toward * 0.015
            curve = matplotlib.path.Path(
                [(begin, 0), (begin, level * 4 / 3), (end, level * 4 / 3), (end, 0)], [1, 4, 4, 4]
            )
            line = matplotlib.patches.PathPatch(curve, fill=False, edgecolor=GREY, linewidth=0.6)
            axis.add_patch(line)
            axis.plot(end, 0.12, marker="v", color=GREY, markersize=2.2, markeredgewidth=0)
            name = shown(relations[dependent], 12)
            if LETTER * 0.7 * len(name) < abs(into.middles[high] - into.middles[low]) + 0.08:
                behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
                axis.text((begin + end) / 2, level, name, ha="center", va="center", fontsize=4.5, bbox=behind)

    return Block(height + 0.12, draw)


def arc_levels(heads: Sequence[int], relations: Sequence[str]) -> dict[tuple[int, int], int]:
    """{(first word, last word) of an arc: how high it is}: above all arcs that it spans. Punctuation has none."""
    joined = [(k, head) for k, head in enumerate(heads) if k != head and relations[k] != "punct"]
    spans = sorted({(min(pair), max(pair)) for pair in joined}, key=lambda span: (span[1] - span[0], span))
    levels: dict[tuple[int, int], int] = {}
    for low, high in spans:
        inside = [level for (a, b), level in levels.items() if low <= a and b <= high]
        levels[low, high] = 1 + max(inside, default=0)
    return levels


def names(into: Columns, *, bold: set[int]) -> Block:
    """The words themselves, some of them bold."""
    longest = max(len(word) for word in into.words)
    height = LETTER * longest + 0.06 if into.turned else 0.13

    def draw(place: Place) -> None:
        axis = bare(place(LEFT, 0, into.width, height))
        axis.set_xlim(0, into.width)
        for number, (word, middle) in enumerate(zip(into.words, into.middles, strict=True)):
            turn = {"rotation": 90} if into.turned else {}
            weight = "bold" if number in bold else "normal"
            axis.text(middle, 1, word, ha="center", va="top", fontsize=6.5, fontweight=weight, **turn)

    return Block(height, draw)


def bars(into: Columns, values: np.ndarray, says: str, *, height: float = 0.5) -> Block:
    """A bar below (or above) zero for every word."""

    def draw(place: Place) -> None:
        axis = place(LEFT, 0, into.width, height)
        axis.set_xlim(0, into.width)
        colour = [COLOURS[0] if value >= 0 else COLOURS[1] for value in values]
        axis.bar(into.middles, values, np.diff(into.edges) * 0.7, color=colour)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
        axis.locator_params(axis="y", nbins=3)
        axis.tick_params(axis="y", labelsize=SMALL)
        _row_name(axis, says)

    return Block(height, draw)


def heat_map(
    matplotlib: Any, into: Columns, values: np.ndarray, regions: Sequence[str], says: str, part: str = "region"
) -> Block:
    """Regions below each other, words side by side: (L, R) values as colours, with a scale beside them."""
    count = values.shape[1]
    height = 0.115 * count if count <= 40 else 3.0

    def draw(place: Place) -> None:
        axis = place(LEFT, 0, into.width, height)
        edges = into.edges - LEFT
        mesh = axis.pcolormesh(edges, np.arange(count + 1), values.T, cmap="viridis", rasterized=False)
        axis.set_xlim(0, into.width)
        axis.set_ylim(count, 0)
        axis.set_xticks([])
        axis.grid(visible=False)
        if count <= 40:
            labels = [shown(region_name(regions, number), 18) for number in range(count)]
            axis.set_yticks(np.arange(count) + 0.5, labels, fontsize=SMALL)
            axis.tick_params(axis="y", length=0)
        else:
            axis.set_ylabel(part)
        scale = place(LEFT + into.width + 0.06, 0, 0.07, min(height, 1.2))
        axis.figure.colorbar(mesh, cax=scale)
        scale.set_title(says, fontsize=SMALL, loc="center", pad=2)
        scale.tick_params(labelsize=SMALL)
        scale.locator_params(nbins=4)
        scale.grid(visible=False)

    return Block(height + 0.1, draw)


def edges(
    into: Columns,
    hears: np.ndarray,
    heard: np.ndarray,
    regions: Sequence[str],
    crops: Sequence[Image.Image | None],
    *,
    lines: float = 1.0,
    part: str = "region",
) -> Block:
    """Words above and the most joined regions below, joined by lines: what each word hears of each region, and the
    other way round.

    Args:
        hears, heard: (L, R) weights, from 0 to 1. crops: (R,) the regions as pictures, None where there are none.
        lines: inches from words to regions.
    """
    kept = most_joined(hears, heard)
    room = into.width / len(kept)
    side = min(room - 0.05, 0.42)
    below = side + 0.12

    def draw(place: Place) -> None:
        axis = bare(place(LEFT, 0, into.width, lines))
        axis.set_xlim(0, into.width)
        axis.set_ylim(0, 1)
        for weights, colour, shift in ((hears, _HEARS, -0.012), (heard, _HEARD, 0.012)):
            most = max(float(weights[:, kept].max()), 1e-12)
            for place_of, region in enumerate(kept):
                for word, middle in enumerate(into.middles):
                    share = float(weights[word, region]) / most
                    if share >= _FAINT:
                        ends = ((place_of + 0.5) * room + shift, middle + shift)
                        axis.plot(ends, (0, 1), color=colour, alpha=min(share**2, 1.0), linewidth=0.2 + share)
        for place_of, region in enumerate(kept):
            left = LEFT + (place_of + 0.5) * room
            crop = crops[region]
            if crop is not None:
                wide, high = fitted(crop.size, side, side)
                bare(place(left - wide / 2, lines, wide, high)).imshow(
                    np.asarray(crop), aspect="auto", interpolation="none"
                )
            caption = bare(place(left - room / 2, lines + side, room, 0.12))
            name = shown(region_name(regions, int(region)), max(2, int(room / LETTER / 0.75)))
            caption.text(0.5, 0.2, name, ha="center", va="bottom", fontsize=4.5, transform=caption.transAxes)
        _row_name(axis, "edges")
        for height, says, colour in ((0.3, f"word hears {part}", _HEARS), (0.18, f"{part} hears word", _HEARD)):
            axis.text(6 / 72 - LEFT, height, says, color=colour, fontsize=SMALL)

    return Block(lines + below, draw)


def most_joined(hears: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """The regions that the figure of edges shows, in their order; arguments as of `edges`."""
    return np.sort(np.argsort(-(hears.max(axis=0) + heard.max(axis=0)), kind="stable")[:_THUMBS])


def _row_name(axis: Any, says: str) -> None:
    at = {"xy": (0, 0.5), "xycoords": "axes fraction", "textcoords": "offset points"}
    axis.annotate(says, xytext=(-72 * LEFT + 6, 0), **at, ha="left", va="center", fontsize=6.5)

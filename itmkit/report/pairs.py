"""Figures of one image and one caption: attention, entropies, edges, and the blocks that regions attend to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from itmkit.report import sentence
from itmkit.report.explained import crops_of, has_boxes, word_panels
from itmkit.report.figure import COLOURS, style
from itmkit.report.lines import lines_of
from itmkit.report.page import SMALL, WIDE, Block, Place, bare, page, shown
from itmkit.report.spotlight import draw_boxes, fitted, lit, pixels_of, region_name
from itmkit.trained import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = 21  # with a panel each
REGIONS = 10  # whose blocks are shown
BLOCKS = 6  # of a region, the strongest
_ACROSS, _GAP, _MARGIN = 5, 0.1, 0.08
_CELL = (WIDE - 2 * _MARGIN - (_ACROSS - 1) * _GAP) / _ACROSS
_REGION, _BLOCK = COLOURS[4], COLOURS[5]  # sky blue and orange, as in `itmkit.report.spotlight`


def attention(found: Explanation, title: str, picture: Image.Image | None) -> Figure:
    """What each content word looks at: a panel a word, in which only that is bright."""
    with style() as matplotlib:
        return page(matplotlib, title, [_caption(matplotlib, found), word_panels(matplotlib, found, picture, WORDS)])


def entropy(found: Explanation, title: str, picture: Image.Image | None) -> Figure:
    """The entropy of every region with every word, as a map with the names of both (MEFN, figure 2)."""
    maps = {member: each["entropy"] for member, each in found.quantities.items() if "entropy" in each}
    with style() as matplotlib:
        into = sentence.columns(found.words.words)
        lowest = np.argsort(np.nan_to_num(next(iter(maps.values())), nan=np.inf).min(axis=0), kind="stable")[:6]
        blocks = [*_picture(matplotlib, found, picture, lowest.tolist()), sentence.names(into, bold=set())]
        for member, values in maps.items():
            regions = found.regions or [""] * values.shape[1]
            says = f"entropy ({member})" if len(maps) > 1 else "entropy"
            blocks.append(sentence.heat_map(matplotlib, into, values, regions, says))
        return page(matplotlib, title, blocks, width=into.page)


def edges(found: Explanation, title: str, picture: Image.Image | None) -> Figure:
    """What each word hears of each region, and each region of each word, as lines (CMFG, figure 2)."""
    with style() as matplotlib:
        into = sentence.columns(found.words.words)
        blocks: list[Block] = []
        for each in found.quantities.values():
            if not {"words_to_regions", "regions_to_words"} <= each.keys():
                continue
            hears, heard = each["words_to_regions"], each["regions_to_words"]
            regions = found.regions or [""] * hears.shape[1]
            named = sentence.most_joined(hears, heard).tolist()
            blocks += [*_picture(matplotlib, found, picture, named), sentence.names(into, bold=set())]
            blocks.append(sentence.edges(into, hears, heard, regions, crops_of(found, picture), lines=1.8))
        return page(matplotlib, title, blocks, width=into.page)


def blocks(found: Explanation, attended: Mapping[str, np.ndarray], title: str, picture: Image.Image | None) -> Figure:
    """The blocks of the picture that each region attends to most, brighter for more (GLFN, figure 7).

    Args:
        attended: {member: (R, M)} as of `itmkit.trained.Matcher.block_attention`.
    """
    with style() as matplotlib:
        rows: list[Block] = []
        for member, weights in attended.items():
            if len(attended) > 1:
                rows.append(_line(f"member {shown(member)}"))
            real = [region for region in range(len(weights)) if weights[region].sum() > 0][:REGIONS]
            rows += [
                _block_panels(matplotlib, found, weights, real[begin : begin + _ACROSS], picture)
                for begin in range(0, len(real), _ACROSS)
            ]
        return page(matplotlib, title, rows)


def strongest_blocks(weights: np.ndarray) -> np.ndarray:
    """(M,) the weights of one region, those of all but the strongest `BLOCKS` set to zero."""
    kept = np.argsort(-weights, kind="stable")[:BLOCKS]
    found = np.zeros_like(weights)
    found[kept] = weights[kept]
    return found


def places_of_blocks(count: int) -> np.ndarray:
    """(M, 4) the boxes of M blocks in shares of the picture, row by row."""
    side = math.isqrt(count)
    row, column = np.divmod(np.arange(count), side)
    return np.stack([column, row, column + 1, row + 1], axis=1) / side


def _block_panels(
    matplotlib: Any, found: Explanation, weights: np.ndarray, regions: Sequence[int], picture: Image.Image | None
) -> Block:
    """A row of panels, each the picture with a region and the blocks it attends to."""
    size = _size(found, picture)
    wide, high = fitted(size, _CELL, 1.8)
    small, boxes = pixels_of(picture, size, (wide, high)), places_of_blocks(weights.shape[1])

    def draw(place: Place) -> None:
        for at, region in enumerate(regions):
            mine = strongest_blocks(weights[region])
            axis = bare(place(_MARGIN + at * (_CELL + _GAP) + (_CELL - wide) / 2, 0.16, wide, high))
            axis.imshow(lit(small, boxes, mine), extent=(0, 1, 1, 0), aspect="auto", interpolation="none")
            for block in np.flatnonzero(mine):
                _frame(axis, matplotlib, boxes[block], _BLOCK, 0.6)
            if has_boxes(found):
                _frame(axis, matplotlib, found.boxes[region] / np.tile(found.size, 2), _REGION, 1.0)
            names = found.regions or [""] * len(weights)
            axis.set_title(shown(region_name(names, region), 24), pad=2.5)
            axis.set_xlabel(f"strongest block {mine.max():.3f}", fontsize=SMALL, labelpad=1.5)

    return Block(0.16 + high + 0.14, draw)


def _caption(matplotlib: Any, found: Explanation) -> Block:
    lines = lines_of(matplotlib, found.text, WIDE - 2 * _MARGIN - 0.1, points=7, most=4)
    height = 0.13 * len(lines)

    def draw(place: Place) -> None:
        axis = bare(place(_MARGIN, 0, WIDE - 2 * _MARGIN, height))
        axis.text(0.5, 1, "\n".join(lines), ha="center", va="top", fontsize=7)

    return Block(height, draw)


def _picture(matplotlib: Any, found: Explanation, picture: Image.Image | None, named: Sequence[int]) -> list[Block]:
    """The picture with its regions, some of them with their names; nothing where no place is known."""
    if not has_boxes(found):
        return []
    wide, high = fitted(found.size, 3.2, 2.0)

    def draw(place: Place) -> None:
        axis = place((WIDE - wide) / 2, 0, wide, high)
        shares = found.boxes / np.tile(found.size, 2)
        draw_boxes(axis, matplotlib, pixels_of(picture, found.size, (wide, high)), shares, found.regions, named)

    return [Block(high, draw)]


def _line(says: str) -> Block:
    def draw(place: Place) -> None:
        bare(place(_MARGIN, 0, WIDE - 2 * _MARGIN, 0.12)).text(0, 0, says, fontsize=7, fontweight="bold")

    return Block(0.12, draw)


def _size(found: Explanation, picture: Image.Image | None) -> tuple[int, int]:
    return found.size if min(found.size) > 0 else picture.size if picture is not None else (4, 3)


def _frame(axis: Any, matplotlib: Any, box: np.ndarray, colour: str, width: float) -> None:
    left, top, right, bottom = np.clip(box, 0, 1)
    look = {"fill": False, "edgecolor": colour, "linewidth": width}
    axis.add_patch(matplotlib.patches.Rectangle((left, top), right - left, bottom - top, **look))

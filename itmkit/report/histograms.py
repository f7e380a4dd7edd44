"""How the scores of matching pairs, and of all others, are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from itmkit.report.figure import GREY, look, sheet, style, wrapped
from itmkit.report.page import shown
from itmkit.scoring.ranks import check_finite
from itmkit.scoring.stored import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60
_PEAK = 40  # percent in one bin, from which the axis is logarithmic


@dataclass(frozen=True)
class Histogram:
    """edges: (b + 1,). positive, negative: (b,) int64, how many pairs that belong together, and others, are in each."""

    edges: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


def histogram(scores: Scores, image_of: np.ndarray, bins: int = BINS) -> Histogram:
    """Counts the pairs of a matrix in equal bins from the lowest score to the highest. The matrix is read twice.

    Args:
        scores: images x texts. image_of: (texts,) the image of each.

    Raises:
        ItmkitError: a score is not finite.
    """
    low, high = np.inf, -np.inf
    for start, block in scores.blocks():
        check_finite(start, block)
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    edges = np.linspace(low, high, bins + 1) if low < high else np.linspace(low - 0.5, low + 0.5, bins + 1)
    positive, every = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    for start, block in scores.blocks():
        own = image_of == np.arange(start, start + len(block))[:, None]
        positive += np.histogram(block[own], edges)[0]
        every += np.histogram(block, edges)[0]
    return Histogram(edges, positive, every - positive)


def histograms(found: Mapping[str, Histogram], title: str, *, numbers: Sequence[int] | None = None) -> Figure:
    """A panel for each series, since scores of different runs have different scales: the share of pairs in each bin,
    of the matching ones in the colour of the series, of the others in grey.

    Args:
        numbers: of the look of each series, see `itmkit.report.figure.look`; 0, 1, ... by default.
    """
    with style() as matplotlib:
        patch = matplotlib.patches.Patch
        colours = [look(number)["color"] for number in numbers or range(len(found))]
        entries = [
            (patch(facecolor=colours[0] if len(found) == 1 else GREY, alpha=0.7), "a caption and its own image"),
            (patch(fill=False, edgecolor="black", linewidth=0.9), "a caption and another image"),
        ]
        figure, axes = sheet(matplotlib, title, len(found), 1, height=1.35 * len(found) + 0.15, legend=entries)
        for axis, (name, mine), colour in zip(axes[:, 0], found.items(), colours, strict=True):
            axis.stairs(_percent(mine.positive), mine.edges, fill=True, color=colour, alpha=0.7)
            axis.stairs(_percent(mine.negative), mine.edges, color="black", linewidth=0.9)
            counts = f"{mine.positive.sum():,} and {mine.negative.sum():,} pairs"
            axis.set_title(wrapped(f"{shown(name)}: {counts}" if len(found) > 1 else counts, 62))
            axis.set_xlim(mine.edges[0], mine.edges[-1])
            peaked = max(_percent(mine.positive).max(), _percent(mine.negative).max()) > _PEAK
            if peaked:  # else the rest could not be seen
                axis.set_yscale("log")
            axis.set_ylabel("pairs (%, log)" if peaked else "pairs (%)")
        axes[-1, 0].set_xlabel("score")
        return figure


def _percent(counts: np.ndarray) -> np.ndarray:
    """Of all that are counted; zeros where there are none."""
    return 100 * counts / max(int(counts.sum()), 1)

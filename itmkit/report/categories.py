"""Recalls by super-category, both ways, runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from itmkit.report.curves import SIDES
from itmkit.report.figure import GREY, heading, look, sheet, style, wrapped
from itmkit.report.page import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHADES = {"R@10": 0.25, "R@5": 0.55, "R@1": 1.0}  # of the colour; the smallest figure lies on top


def categories(
    found: Mapping[str, Sequence[Mapping[str, Any]]], title: str, *, numbers: Sequence[int] | None = None
) -> Figure:
    """R@1, R@5 and R@10 of each super-category as bars within each other, a panel a direction, a bar a series.

    Args:
        found: {name: [{"side": "t2i", "name": "animal", "queries": 120, "figures": {"R@1": {"value": 12.0}, ...}},
            ...]}, in percent. A category without queries has no figures and is left out.
        numbers: of the look of each series, see `itmkit.report.figure.look`; 0, 1, ... by default.
    """
    every = [one for mine in found.values() for one in mine if one["figures"]]
    names = list(dict.fromkeys(one["name"] for one in every))
    colours = [look(number)["color"] for number in numbers or range(len(found))]
    bar = 0.8 / len(found)
    with style() as matplotlib:
        patch = matplotlib.patches.Patch
        entries = [(patch(facecolor=colour), name) for name, colour in zip(found, colours, strict=True)]
        shade = colours[0] if len(found) == 1 else GREY
        entries += [(patch(facecolor=_mixed(shade, share)), k) for k, share in reversed(_SHADES.items())]
        deep = max(0.17, 0.085 * len(found) + 0.05)
        figure, axes = sheet(matplotlib, title, 1, 2, height=0.5 + deep * len(names), legend=entries, sharey=True)
        for axis, (side, (says, _)) in zip(axes[0], SIDES.items(), strict=True):
            for number, (mine, colour) in enumerate(zip(found.values(), colours, strict=True)):
                there = [one for one in mine if one["side"] == side and one["figures"]]
                rows = [names.index(one["name"]) + (number + 0.5) * bar - 0.4 for one in there]
                for k, share in _SHADES.items():
                    values = [one["figures"][k]["value"] for one in there]
                    axis.barh(rows, values, height=bar * 0.92, color=_mixed(colour, share), linewidth=0)
            axis.set_xlim(0, 100)
            heading(axis, says, "" if axis is not axes[0, 0] else "category (images)")
            axis.set_xlabel("recall (%)")
        labels = [wrapped(f"{shown(name, 24)} ({_images(every, name)})", 22) for name in names]
        axes[0, 0].set_yticks(range(len(names)), labels)
        axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
        return figure


def _images(every: Sequence[Mapping[str, Any]], name: str) -> str:
    """How many image queries a category has; the most where runs leave out different ones."""
    counts = [one["queries"] for one in every if (one["side"], one["name"]) == ("i2t", name)]
    return f"{max(counts, default=0):,}"


def _mixed(colour: str, share: float) -> tuple[float, float, float]:
    """So much of a colour of `itmkit.report.figure`, the rest white."""
    red, green, blue = (1 - share * (1 - int(colour[place : place + 2], 16) / 255) for place in (1, 3, 5))
    return red, green, blue

"""Recalls of slices of the queries, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from itmkit.report.curves import SIDES
from itmkit.report.figure import heading, mark, sheet, style, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all"


def slices(
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    title: str,
    *,
    figure: str = "R@1",
    numbers: Sequence[int] | None = None,
) -> Figure:
    """One figure of each slice with its 95% interval: a panel a direction, a row a slice, the series one below another.

    Args:
        found: {name: [{"side": "t2i", "name": "words 8-9", "queries": 120, "figures": {"R@1": {"value": 12.0,
            "low": 9.1, "high": 15.2}, ...}}, ...]}, in percent. low and high may be None: the value has no interval.
            A slice without queries has no figures and is left out.
        figure: R@1, R@5 or R@10.
        numbers: of the look of each series, see `itmkit.report.figure.mark`; 0, 1, ... by default.
    """
    rows = {side: _rows(found, side, figure) for side in SIDES}
    rows = {side: names for side, names in rows.items() if names}
    deep = max(0.15, 0.046 * len(found) + 0.08)  # inches a row
    with style() as matplotlib:
        looks = [mark(number) | {"linewidth": 0.9} for number in numbers or range(len(found))]
        handles = [matplotlib.lines.Line2D([], [], **kind) for kind in looks]
        figures, axes = sheet(
            matplotlib,
            title,
            len(rows),
            1,
            height=0.35 + sum(0.22 + deep * len(names) for names in rows.values()),
            legend=list(zip(handles, found, strict=True)),
            sharex=True,
            height_ratios=[len(names) for names in rows.values()],
        )
        for axis, (side, names) in zip(axes[:, 0], rows.items(), strict=True):
            for number, (mine, kind) in enumerate(zip(found.values(), looks, strict=True)):
                offset = 0.84 * ((number + 0.5) / len(found) - 0.5)
                _points(axis, mine, side, figure, {name: place + offset for place, name in enumerate(names)}, kind)
            for place in range(1, len(names), 2):
                axis.axhspan(place - 0.5, place + 0.5, color="0.5", alpha=0.08, zorder=0, linewidth=0)
            axis.set_yticks(range(len(names)), [_says(found, side, name) for name in names])
            axis.set_ylim(len(names) - 0.5, -0.5)
            heading(axis, SIDES[side][0], "slice (queries)")
        known = all(None not in (one["low"], one["high"]) for one in _values(found, figure))
        axes[-1, 0].set_xlabel(f"{figure} (%) and its 95% interval" + ("" if known else ", where it has one"))
        axes[-1, 0].set_xlim(left=0)
        return figures


def _values(found: Mapping[str, Sequence[Mapping[str, Any]]], figure: str) -> list[Mapping[str, Any]]:
    return [one["figures"][figure] for mine in found.values() for one in mine if figure in one["figures"]]


def _rows(found: Mapping[str, Sequence[Mapping[str, Any]]], side: str, figure: str) -> list[str]:
    """Names of the slices of a direction, in the order of the files."""
    all_of_them = [one for mine in found.values() for one in mine]
    return list(dict.fromkeys(one["name"] for one in all_of_them if one["side"] == side and figure in one["figures"]))


def _says(found: Mapping[str, Sequence[Mapping[str, Any]]], side: str, name: str) -> str:
    """A slice with the number of its queries, which differs between runs that leave out different images."""
    counts = {one["queries"] for mine in found.values() for one in mine if one["side"] == side and one["name"] == name}
    least, most = min(counts), max(counts)
    return wrapped(f"{name} ({least:,})" if least == most else f"{name} ({least:,} to {most:,})", 28)


def _points(
    axis: Any, mine: Sequence[Mapping[str, Any]], side: str, figure: str, places: dict[str, float], kind: dict[str, Any]
) -> None:
    """The values of one series as one line without strokes, and a stroke for each interval."""
    there = [one for one in mine if one["side"] == side and figure in one["figures"]]
    of = [one["figures"][figure] for one in there]
    heights = [places[one["name"]] for one in there]
    known = [(height, one) for height, one in zip(heights, of, strict=True) if None not in (one["low"], one["high"])]
    if known:
        ends = [one["low"] for _, one in known], [one["high"] for _, one in known]
        axis.hlines([height for height, _ in known], *ends, color=kind["color"], linewidth=0.9)
    axis.plot([one["value"] for one in of], heights, clip_on=False, zorder=3, **kind | {"linestyle": "none"})

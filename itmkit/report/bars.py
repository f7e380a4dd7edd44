"""Bars: methods side by side, and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.report.curves import SIDES
from itmkit.report.figure import HALO, heading, mark, pale, sheet, style, wrapped
from itmkit.report.page import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINGLE = "single"
HATCHES = ["", "///", "xx", "..", "--"]  # of each kind: single, ensemble of 2, ...
_ERROR = {"color": "0.1", "elinewidth": 0.9, "capsize": 1.8, "capthick": 0.9}
_STROKE = {"color": "0.1", "linewidth": 0.9, "marker": "|", "markersize": 4}
_DOTS = {"linestyle": "none", "marker": "o", "markersize": 1.9, "markerfacecolor": "white", "markeredgecolor": "0.1"}
_DOTS |= {"markeredgewidth": 0.5}


def methods(
    rows: Sequence[Mapping[str, Any]],
    title: str,
    *,
    figure: str = "rsum",
    chance: float | None = None,
    numbers: Sequence[int] | None = None,
) -> Figure:
    """Horizontal bars of one figure, the best mean on top: mean, standard deviation over seeds, a dot for each seed.

    Args:
        rows: as in the file of `itmkit compare`: "name", "kind" and "values", {figure: [value of each seed]}.
        figure: which: "rsum", "i2t R@1", ...
        chance: what random scores reach; the axis says it.
        numbers: of the look of each row, see `itmkit.report.figure.mark`; 0, 1, ... by default.
    """
    values = [np.asarray(row["values"][figure], float) for row in rows]
    ordered = sorted(range(len(rows)), key=lambda i: (-values[i].mean(), rows[i]["name"]))
    kinds = sorted({row["kind"] for row in rows}, key=lambda kind: (kind != SINGLE, kind))
    patterns = dict(zip(kinds, HATCHES * len(kinds), strict=False))
    colours = [mark(number)["color"] for number in numbers or range(len(rows))]
    names = [wrapped(rows[i]["name"], 26) for i in ordered]
    several = max(len(mine) for mine in values) > 1
    height = 0.38 + sum(0.2 if "\n" not in name else 0.1 * (2 + name.count("\n")) for name in names)
    with style() as matplotlib:
        patch, line = matplotlib.patches.Patch, matplotlib.lines.Line2D
        entries = [(patch(facecolor="0.5", edgecolor="white", hatch=patterns[kind]), kind) for kind in kinds]
        if several:
            halo = [matplotlib.patheffects.withStroke(linewidth=2, foreground=HALO)]  # seen on bars and on dark pages
            entries.append((line([], [], path_effects=halo, **_STROKE), "standard deviation"))
            entries.append((line([], [], **_DOTS), "a seed"))
        drawn, axes = sheet(matplotlib, title, 1, 1, height=height, legend=entries)
        axis = axes[0, 0]
        for place, i in enumerate(ordered):
            mine = values[i]
            look = {"color": colours[i], "edgecolor": "white", "linewidth": 0, "hatch": patterns[rows[i]["kind"]]}
            axis.barh(place, mine.mean(), height=0.72, **look)
            says = f"{mine.mean():.1f}"
            if len(mine) > 1:
                spread = float(np.std(mine, ddof=1))
                says += f" ±{spread:.1f}"
                for stroke in axis.errorbar(mine.mean(), place - 0.16, xerr=spread, zorder=3, **_ERROR).get_children():
                    stroke.set_path_effects(halo)
                axis.plot(mine, place + np.linspace(0.08, 0.28, len(mine)), **_DOTS)
            axis.text(1.02, place, says, transform=axis.get_yaxis_transform(), va="center_baseline", fontsize=6.5)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.6)
        least = "" if chance is None else f"; chance {chance:.1f}"
        axis.set_xlabel(f"rsum (of 600{least})" if figure == "rsum" else f"{figure} (%{least})")
        heading(axis, "", "")
        return drawn


def labels(
    found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    title: str,
    *,
    most: int = 20,
    numbers: Sequence[int] | None = None,
) -> Figure:
    """R@1 of the queries that carry a label, both ways: bars of the first series, sorted, and marks of the others.

    Args:
        found: {name: {"i2t": [{"label": "dog", "queries": 31, "R@1": 45.2}, ...], "t2i": [...]}}, in percent.
        most: labels, those with the most queries.
        numbers: of the look of each series, see `itmkit.report.figure.mark`; 0, 1, ... by default.
    """
    chosen = {side: _commonest(next(iter(found.values()))[side], most) for side in SIDES}
    chosen = {side: rows for side, rows in chosen.items() if rows}
    height = 0.35 + sum(0.22 + 0.13 * len(rows) for rows in chosen.values())
    with style() as matplotlib:
        patch, line = matplotlib.patches.Patch, matplotlib.lines.Line2D
        looks = [mark(number) | {"linestyle": "none"} for number in numbers or range(len(found))]
        first = looks[0]["color"]
        bars = {"color": first if len(found) == 1 else pale(first)}
        handles = [patch(**bars), *(line([], [], **kind) for kind in looks[1:])]
        figure, axes = sheet(
            matplotlib,
            title,
            len(chosen),
            1,
            height=height,
            legend=list(zip(handles, found, strict=True)),
            sharex=True,
            height_ratios=[len(rows) for rows in chosen.values()],
        )
        for axis, (side, rows) in zip(axes[:, 0], chosen.items(), strict=True):
            places = {row["label"]: place for place, row in enumerate(rows)}
            axis.barh(range(len(rows)), [row["R@1"] for row in rows], height=0.72, **bars)
            for sides, kind in list(zip(found.values(), looks, strict=True))[1:]:
                there = [row for row in sides[side] if row["label"] in places]
                axis.plot([row["R@1"] for row in there], [places[row["label"]] for row in there], clip_on=False, **kind)
            axis.set_yticks(range(len(rows)), [f"{shown(row['label'], 24)} ({row['queries']:,})" for row in rows])
            axis.set_ylim(len(rows) - 0.4, -0.6)
            heading(axis, SIDES[side][0], "label (queries)")
        axes[-1, 0].set_xlabel("R@1 (%)")
        axes[-1, 0].set_xlim(left=0)
        return figure


def _commonest(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """The labels with the most queries, of equally many the first by name; in the order of their R@1."""
    common = sorted(rows, key=lambda row: (-row["queries"], row["label"]))[:most]
    return sorted(common, key=lambda row: (-row["R@1"], row["label"]))

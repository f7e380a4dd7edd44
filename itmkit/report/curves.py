"""Curves: figures over epochs, CMC, precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.report.figure import look, sheet, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENSEMBLE = "ensemble"
PANELS = {  # of the figure over epochs: a key of a line, and what its axis says
    "rsum": "rsum (of 600)",
    "loss": "training loss",
    "i2t R@1": "i2t R@1 (%)",
    "t2i R@1": "t2i R@1 (%)",
}
SIDES = {"i2t": ("image queries (i2t)", "captions"), "t2i": ("caption queries (t2i)", "images")}  # and what is found
_THIN: tuple[Any, ...] = ((0, (3, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)))

Line = Mapping[str, Sequence[Any]]


def epochs(courses: Mapping[str, Mapping[str, Line]], title: str) -> Figure:
    """rsum, training loss and R@1 both ways over the epochs of runs. A star marks the epoch with the best rsum.

    Args:
        courses: {name of a run: {member, or "ensemble": line}}. A line has "epoch" (whole numbers), "stage" (a name
            each, "" in the last stage) and the values of `PANELS`, NaN where an epoch has none; all of one length.
    """
    with style() as matplotlib:
        series = _series(courses)
        entries = [(matplotlib.lines.Line2D([], [], **kw), name) for name, kw in _legend(series, len(courses))]
        figure, axes = sheet(matplotlib, title, 2, 2, height=2.9, legend=entries, sharex=True)
        for axis, (key, says) in zip(axes.flat, PANELS.items(), strict=True):
            for _, line, kind in series:
                _over_epochs(axis, line, key, kind)
            axis.set_ylabel(says)
            axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        return figure


def best_epoch(line: Line) -> int | None:
    """The place of the first of the greatest rsums; None where there is none."""
    values = np.asarray(line["rsum"], float)
    return None if np.isnan(values).all() else int(np.nanargmax(values))


def _series(courses: Mapping[str, Mapping[str, Line]]) -> list[tuple[str, Line, dict[str, Any]]]:
    """(name, line, look). Of one run every member has a colour; of several every run has one, its members are thin."""
    out: list[tuple[str, Line, dict[str, Any]]] = []
    for number, (run, lines) in enumerate(courses.items()):
        thin = 0
        for name, line in lines.items():
            whole = name == ENSEMBLE or len(lines) == 1
            if len(courses) == 1:
                kind = look(len(out)) | {"linewidth": 1.6 if whole else 1.0}
                out.append((run if len(lines) == 1 else name, line, kind))
            elif whole:
                out.append((run, line, look(number) | {"linewidth": 1.4}))
            else:
                kind = look(number) | {"linestyle": _THIN[thin % len(_THIN)], "linewidth": 0.7, "alpha": 0.75}
                out.append((f"{run}/{name}", line, kind))
                thin += 1
    return out


def _legend(series: Sequence[tuple[str, Line, dict[str, Any]]], runs: int) -> list[tuple[str, dict[str, Any]]]:
    star = {"color": "0.3", "linestyle": "none", "marker": "*", "markersize": 5}
    thin = [kind for _, _, kind in series if runs > 1 and "alpha" in kind]
    entries = [(name, kind) for name, _, kind in series if kind not in thin]
    if thin:
        entries.append(("members of an ensemble", {"color": "0.3", "linestyle": _THIN[0], "linewidth": 0.7}))
    return [*entries, ("epoch with the best rsum", star)]


def _over_epochs(axis: Any, line: Line, key: str, kind: dict[str, Any]) -> None:
    """One line in one panel, broken where a stage ends: losses of different stages are of different kinds."""
    numbers, values, best = np.asarray(line["epoch"]), np.asarray(line[key], float), best_epoch(line)
    for _, places in groupby(range(len(numbers)), key=lambda place: line["stage"][place]):
        part = [place for place in places if not np.isnan(values[place])]
        if part:
            alone = {"marker": "o", "markersize": 2} if len(part) == 1 and part[0] != best else {}
            axis.plot(numbers[part], values[part], **kind, **alone)
    if best is not None and not np.isnan(values[best]):
        star = {"marker": "*", "markersize": 5 if "alpha" not in kind else 3.5, "markeredgewidth": 0}
        axis.plot(numbers[best], values[best], color=kind["color"], linestyle="none", zorder=3, **star)


def cmc(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """CMC curves: the percent of queries with a right answer among the first k, for every k.

    Args:
        curves: {name: {"i2t": [percent for k = 1, 2, ...], "t2i": [...]}}.
    """
    longest = max(len(percent) for sides in curves.values() for percent in sides.values())
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= longest]
    with style() as matplotlib:
        figure, axes = _both_sides(matplotlib, curves, title, lambda percent: range(1, len(percent) + 1))
        axes[0].set_ylabel("R@k (%)")
        for axis, (_, found) in zip(axes, SIDES.values(), strict=True):
            if longest > 10:
                axis.set_xscale("log")
            axis.set_xticks(ticks, [str(k) for k in ticks])
            axis.minorticks_off()
            axis.set_xlabel(f"k best {found}")
            axis.set_ylim(0, min(103, axis.get_ylim()[1]))
        return figure


def precision(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Precision over recall, interpolated at eleven points.

    Args:
        curves: {name: {"i2t": [percent at a recall of 0, 10, ..., 100 percent], "t2i": [...]}}.
    """
    with style() as matplotlib:
        figure, axes = _both_sides(matplotlib, curves, title, lambda percent: range(0, 101, 10), marker="o")
        axes[0].set_ylabel("precision (%)")
        for axis in axes:
            axis.set_xlabel("recall (%)")
            axis.set_xlim(-3, 103)
            axis.set_ylim(0, min(103, axis.get_ylim()[1]))
        return figure


def _both_sides(
    matplotlib: Any, curves: Mapping[str, Mapping[str, Sequence[float]]], title: str, xs: Any, **more: Any
) -> tuple[Figure, Any]:
    """Two panels on one scale, i2t and t2i, with a line of every series; figure and axes (2,)."""
    more |= {"markersize": 2, "linewidth": 1.1}
    looks = [look(number) | more for number in range(len(curves))]
    entries = [(matplotlib.lines.Line2D([], [], **kind), name) for name, kind in zip(curves, looks, strict=True)]
    figure, axes = sheet(matplotlib, title, 1, 2, height=1.75, legend=entries, sharey=True)
    for axis, (side, (says, _)) in zip(axes[0], SIDES.items(), strict=True):
        for sides, kind in zip(curves.values(), looks, strict=True):
            axis.plot(xs(sides[side]), sides[side], **kind)
        axis.set_title(says)
    return figure, axes[0]

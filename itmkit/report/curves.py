"""Curves: figures over epochs, CMC, precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.report.figure import GREY, MOST, look, sheet, style

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
# Below a panel of flat curves. With one right answer the precision is 1/rank at every recall.
ONE_RIGHT = "\nflat: one right answer a query,\nso precision is 1/rank always"
ALL_FIRST = "\nflat: every right answer is first"
NONE_LATER = "\nflat: no query finds its answer\nlater than at once"

Line = Mapping[str, Sequence[Any]]


def epochs(courses: Mapping[str, Mapping[str, Line]], title: str, *, numbers: Sequence[int] | None = None) -> Figure:
    """rsum, training loss and R@1 both ways over the epochs of runs. A star marks the epoch with the best rsum.

    Args:
        courses: {name of a run: {member, or "ensemble": line}}. A line has "epoch" (whole numbers), "stage" (a name
            each, "" in the last stage) and the values of `PANELS`, NaN where an epoch has none; all of one length.
        numbers: of the look of each run, see `itmkit.report.figure.look`; 0, 1, ... by default.
    """
    with style() as matplotlib:
        series = _series(courses, numbers or range(len(courses)))
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


def _series(
    courses: Mapping[str, Mapping[str, Line]], numbers: Sequence[int]
) -> list[tuple[str, Line, dict[str, Any]]]:
    """(name, line, look). Of one run every member has a colour too; of several the members are thin lines in that of
    their run."""
    out: list[tuple[str, Line, dict[str, Any]]] = []
    for number, (run, lines) in zip(numbers, courses.items(), strict=True):
        thin = 0
        for name, line in lines.items():
            whole = name == ENSEMBLE or len(lines) == 1
            if whole:
                kind = look(number) | {"linewidth": 1.4}
                out.append((run if len(courses) > 1 or len(lines) == 1 else name, line, kind))
            elif len(courses) == 1:
                kind = look((number + len(out) + 1) % MOST) | {"linewidth": 1.0}
                out.append((name, line, kind))
            else:
                kind = {"color": look(number)["color"], "linestyle": _THIN[thin % len(_THIN)], "linewidth": 0.7}
                kind |= {"alpha": 0.75}
                out.append((f"{run}/{name}", line, kind))
                thin += 1
    return out


def _legend(series: Sequence[tuple[str, Line, dict[str, Any]]], runs: int) -> list[tuple[str, dict[str, Any]]]:
    star = {"color": GREY, "linestyle": "none", "marker": "*", "markersize": 5, "markeredgewidth": 0}
    thin = [kind for _, _, kind in series if runs > 1 and "alpha" in kind]
    entries = [(name, kind) for name, _, kind in series if kind not in thin]
    if thin:
        entries.append(("members of an ensemble", {"color": GREY, "linestyle": _THIN[0], "linewidth": 0.7}))
    return [*entries, ("epoch with the best rsum", star)]


def _over_epochs(axis: Any, line: Line, key: str, kind: dict[str, Any]) -> None:
    """One line in one panel, broken where a stage ends: losses of different stages are of different kinds."""
    numbers, values, best = np.asarray(line["epoch"]), np.asarray(line[key], float), best_epoch(line)
    for _, places in groupby(range(len(numbers)), key=lambda place: line["stage"][place]):
        part = [place for place in places if not np.isnan(values[place])]
        if part:  # a mark at every epoch of a short line, at some epochs of a long one
            alone = {"marker": "o", "markersize": 2} if len(part) == 1 and "marker" not in kind else {}
            axis.plot(numbers[part], values[part], **kind, **alone, markevery=-(-len(part) // 6))
    if best is not None and not np.isnan(values[best]):
        star: dict[str, Any] = {"marker": "*", "markersize": 6 if "alpha" not in kind else 4}
        star |= {"markeredgecolor": "white", "markeredgewidth": 0.3}
        axis.plot(numbers[best], values[best], color=kind["color"], linestyle="none", zorder=3, **star)


def cmc(
    curves: Mapping[str, Mapping[str, Sequence[float]]], title: str, *, numbers: Sequence[int] | None = None
) -> Figure:
    """CMC curves: the percent of queries with a right answer among the first k, for every k.

    Args:
        curves: {name: {"i2t": [percent for k = 1, 2, ...], "t2i": [...]}}.
        numbers: as of `epochs`.
    """
    longest = max(len(percent) for sides in curves.values() for percent in sides.values())
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= longest]
    with style() as matplotlib:
        marked = [k - 1 for k in ticks]
        figure, axes = _both_sides(
            matplotlib, curves, title, lambda percent: range(1, len(percent) + 1), numbers, marked
        )
        axes[0].set_ylabel("R@k (%)")
        for axis, (side, (_, found)) in zip(axes, SIDES.items(), strict=True):
            if longest > 10:
                axis.set_xscale("log")
            axis.set_xticks(ticks, [str(k) for k in ticks])
            axis.minorticks_off()
            axis.set_xlabel(f"k best {found}" + _flat(curves, side, NONE_LATER))
            axis.set_ylim(0, min(103, axis.get_ylim()[1]))
        return figure


def precision(
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    title: str,
    *,
    numbers: Sequence[int] | None = None,
    one_right: bool = True,
) -> Figure:
    """Precision over recall, interpolated at eleven points. Curves that are flat, since each query has one right
    answer, say so below their panel.

    Args:
        curves: {name: {"i2t": [percent at a recall of 0, 10, ..., 100 percent], "t2i": [...]}}.
        numbers: as of `epochs`.
        one_right: whether queries have one right answer where a curve is flat.
    """
    with style() as matplotlib:
        figure, axes = _both_sides(matplotlib, curves, title, lambda percent: range(0, 101, 10), numbers)
        axes[0].set_ylabel("precision (%)")
        for axis, side in zip(axes, SIDES, strict=True):
            axis.set_xlabel("recall (%)" + _flat(curves, side, ONE_RIGHT if one_right else ""))
            axis.set_xlim(-3, 103)
            axis.set_ylim(0, min(103, axis.get_ylim()[1]))
        return figure


def _flat(curves: Mapping[str, Mapping[str, Sequence[float]]], side: str, why: str) -> str:
    """What a panel says below it if all its curves are flat; else nothing."""
    if any(len(mine[side]) < 2 or max(mine[side]) - min(mine[side]) > 1e-9 for mine in curves.values()):
        return ""
    return ALL_FIRST if all(mine[side][0] > 100 - 1e-9 for mine in curves.values()) else why


def _both_sides(
    matplotlib: Any,
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    title: str,
    xs: Any,
    numbers: Sequence[int] | None,
    marked: Sequence[int] | None = None,
) -> tuple[Figure, Any]:
    """Two panels on one scale, i2t and t2i, with a line of every series; figure and axes (2,).

    Args:
        marked: places of the points with a mark; None: all.
    """
    looks = [look(number) | {"linewidth": 1.1} for number in numbers or range(len(curves))]
    entries = [(matplotlib.lines.Line2D([], [], **kind), name) for name, kind in zip(curves, looks, strict=True)]
    flat = any(_flat(curves, side, "flat") for side in SIDES)
    figure, axes = sheet(matplotlib, title, 1, 2, height=2.05 if flat else 1.8, legend=entries, sharey=True)
    for axis, (side, (says, _)) in zip(axes[0], SIDES.items(), strict=True):
        for sides, kind in zip(curves.values(), looks, strict=True):
            places = None if marked is None else [place for place in marked if place < len(sides[side])]
            axis.plot(xs(sides[side]), sides[side], **kind, markevery=places)
        axis.set_title(says)
    return figure, axes[0]

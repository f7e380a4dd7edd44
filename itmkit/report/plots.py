"""`itmkit plot`: figures of the runs of a workspace, as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import protocol
from itmkit.evaluation.slices import CATEGORY
from itmkit.report import bars, curves, intervals
from itmkit.report.alpha import alpha
from itmkit.report.categories import categories
from itmkit.report.choice import SINGLE, Choice, Drawing, data_name, titled
from itmkit.report.colours import Colours
from itmkit.report.evaluated import evaluated
from itmkit.report.figure import Format, drawing_package, save
from itmkit.report.of_scores import retrieved, scores
from itmkit.report.results import comparison, course
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure that was written."""

    what: str
    path: Path
    title: str
    series: list[str]

    def to_json(self) -> dict[str, Any]:
        return {"plot": self.what, "file": str(self.path), "title": self.title, "series": self.series}


def plot(
    workspace: Workspace,
    what: Sequence[str],
    *,
    out: Path | None = None,
    format: Format = "svg",
    transparent: bool = False,
    **choice: Any,
) -> list[Plot]:
    """Draws figures and writes each to a file; none where one cannot be drawn.

    Args:
        what: names of `PLOTS`.
        out: a folder; plots/ of the workspace where it is None.
        transparent: no background, see `itmkit.report.figure.save`.
        choice: attributes of `itmkit.report.choice.Choice`: runs, split, comparison, ...

    Raises:
        ItmkitError: matplotlib is missing; what is not there to be drawn, with the command that makes it.
    """
    drawing_package()
    chosen = Choice(Colours(workspace), **choice)
    protocol(chosen.split)
    folder = out or workspace.root / "plots"
    problems = [f"{one!r}: no such plot; there are {', '.join(PLOTS)}" for one in what if one not in PLOTS]
    twice = [run for run in dict.fromkeys(chosen.runs) if list(chosen.runs).count(run) > 1]
    problems += [f"--run {run}: named twice" for run in twice]
    problems += [] if what else [f"nothing to draw is named; there are {', '.join(PLOTS)}"]
    if problems:
        raise ItmkitError(problems)
    drawings = []
    for one in dict.fromkeys(what):
        try:
            drawings.append(PLOTS[one](workspace, chosen))
        except ItmkitError as error:
            problems += error.problems
    if problems:
        raise ItmkitError(list(dict.fromkeys(problems)))
    plots = [Plot(one.what, folder / f"{one.name}.{format}", one.title, one.series) for one in drawings]
    for drawing, written in zip(drawings, plots, strict=True):
        save(drawing.figure, written.path, transparent=transparent)
    chosen.colours.write()
    return plots


def _epochs(workspace: Workspace, choice: Choice) -> Drawing:
    folder = workspace.root / "runs"
    names = choice.runs or tuple(sorted(path.parent.name for path in folder.glob("*/metrics.jsonl")))
    if not names:
        raise ItmkitError(f"{folder}: no run has finished an epoch; run `itmkit train --method mpsm` first")
    found, problems = {}, []
    for name in names:
        try:
            found[name] = course(workspace, name)
        except ItmkitError as error:
            problems += error.problems
    if problems:
        raise ItmkitError(problems)
    kinds = {run: f"ensemble of {len(lines) - 1}" if len(lines) > 1 else SINGLE for run, (lines, _) in found.items()}
    images = {run: count for run, (_, count) in found.items()}
    says = f"{data_name(workspace)}, val"
    title, named = titled(says, {run: f"{count:,} images" for run, count in images.items()}, kinds)
    title += "" if len(set(images.values())) == 1 else ": not comparable"
    title = f"{names[0] if len(found) == 1 else 'runs'} over epochs: {title}"
    lines_of = {named[run]: lines for run, (lines, _) in found.items()}
    series = lines_of if len(found) > 1 else next(iter(lines_of.values()))
    drawn = curves.epochs(lines_of, title, numbers=choice.colours.of(list(found)))
    return Drawing("epochs", "epochs", title, list(series), drawn)


def _cmc(workspace: Workspace, choice: Choice) -> Drawing:
    return _curve(workspace, choice, "cmc", "cmc", "R@k for every k", curves.cmc)


def _precision(workspace: Workspace, choice: Choice) -> Drawing:
    draw = partial(curves.precision, one_right=choice.by == "own")
    return _curve(workspace, choice, "precision", "eleven", "precision over recall", draw)


def _curve(
    workspace: Workspace, choice: Choice, what: str, kind: str, metric: str, draw: Callable[..., Figure]
) -> Drawing:
    """A line of every run, of its own captions and images, or by shared labels."""
    by_labels = choice.by == "labels"
    key, holds = ("curves by labels", "labels") if by_labels else ("curves", "curves")
    metric += " by shared labels" if by_labels else ""
    title, found, numbers = evaluated(workspace, choice, key, metric)
    drawn = {name: {side: mine[holds][side][kind] for side in curves.SIDES} for name, mine in found.items()}
    figure = draw(drawn, title, numbers=numbers)
    name = f"{what}-{choice.split}" + ("-labels" if by_labels else "")
    return Drawing(what, name, title, list(drawn), figure)


def _slices(workspace: Workspace, choice: Choice) -> Drawing:
    title, found, numbers = evaluated(workspace, choice, "slices", "R@1 of parts of the queries")
    drawn = {
        name: [*_of_all(mine), *(one for one in mine["slices"] if not one["name"].startswith(CATEGORY))]
        for name, mine in found.items()
    }
    figure = intervals.slices(drawn, title, numbers=numbers)
    return Drawing("slices", f"slices-{choice.split}", title, list(drawn), figure)


def _categories(workspace: Workspace, choice: Choice) -> Drawing:
    title, found, numbers = evaluated(workspace, choice, "slices by super-category", "R@K by super-category")
    drawn = {
        name: [
            one | {"name": one["name"].removeprefix(CATEGORY)}
            for one in mine["slices"]
            if one["name"].startswith(CATEGORY)
        ]
        for name, mine in found.items()
    }
    figure = categories(drawn, title, numbers=numbers)
    return Drawing("categories", f"categories-{choice.split}", title, list(drawn), figure)


def _of_all(result: dict[str, Any]) -> list[dict[str, Any]]:
    """R@1 of all queries of each direction that has slices, to compare them with; older files lack its interval."""
    out = []
    for side, queries in (("i2t", "images"), ("t2i", "captions")):
        if any(one["side"] == side for one in result["slices"]):
            none = {"value": result[side]["R@1"], "low": None, "high": None}
            value = (result.get("intervals") or {}).get(f"{side} R@1", none)
            out.append({"side": side, "name": intervals.ALL, "queries": result[queries], "figures": {"R@1": value}})
    return out


def _labels(workspace: Workspace, choice: Choice) -> Drawing:
    title, found, numbers = evaluated(workspace, choice, "by_label", "R@1 by label")
    drawn = {name: mine["by_label"] for name, mine in found.items()}
    there = max(len(rows) for rows in next(iter(drawn.values())).values())
    if there > choice.labels:
        title += f"; the {choice.labels} labels of {there:,} with the most queries"
    figure = bars.labels(drawn, title, most=choice.labels, numbers=numbers)
    return Drawing("labels", f"labels-{choice.split}", title, list(drawn), figure)


def _alpha(workspace: Workspace, choice: Choice) -> Drawing:
    title, found, numbers = evaluated(workspace, choice, "alpha", "R@1 by weight of the members")
    drawn = {name: mine["alpha"] for name, mine in found.items()}
    return Drawing("alpha", f"alpha-{choice.split}", title, list(drawn), alpha(drawn, title, numbers=numbers))


def _compare(workspace: Workspace, choice: Choice) -> Drawing:
    facts = comparison(workspace, choice.comparison, choice.split)
    rows = [*facts["rows"], *(facts["members"] if choice.members else [])]
    there = [name for name in facts["rows"][0]["values"] if all(name in row["values"] for row in rows)]
    if choice.figure not in there:
        raise ItmkitError(f"--figure {choice.figure!r}: the comparison has {', '.join(there)}")
    seeds = len(facts["seeds"])
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    title = f"{choice.figure} by method: {data_name(workspace)}, {choice.split}, {facts['images']:,} images; {over}"
    chance = facts["chance_rsum"] if choice.figure == "rsum" else None
    run_of = partial(Workspace.compared_run, choice.comparison, seed=facts["seeds"][0])  # whose colour a method has
    runs = [run_of(row["name"]) for row in facts["rows"]]
    if choice.members:
        pairs = [row["name"].rpartition("/") for row in facts["members"]]
        runs += [f"{run_of(label)}/{member}" for label, _, member in pairs]
    numbers = choice.colours.of(runs)
    figure = bars.methods(rows, title, figure=choice.figure, chance=chance, numbers=numbers)
    suffix = "" if choice.figure == "rsum" else "-" + choice.figure.replace(" R@", "-r")
    name = f"compare-{choice.comparison}-{choice.split}{suffix}"
    return Drawing("compare", name, title, [row["name"] for row in rows], figure)


def _of_a_pair(what: str) -> Callable[[Workspace, Choice], Drawing]:
    """A figure that is drawn with a trained matcher."""

    def draw(workspace: Workspace, choice: Choice) -> Drawing:
        from itmkit.report import of_pairs  # loads torch, which figures of files do without

        return of_pairs.draw(what, workspace, choice)

    return draw


# What may be drawn, in the order of the pipeline.
PLOTS: dict[str, Callable[[Workspace, Choice], Drawing]] = {
    "epochs": _epochs,
    "compare": _compare,
    "cmc": _cmc,
    "precision": _precision,
    "slices": _slices,
    "labels": _labels,
    "alpha": _alpha,
    "categories": _categories,
    "scores": scores,
    "retrieved": retrieved,
    "attention": _of_a_pair("attention"),
    "entropy": _of_a_pair("entropy"),
    "edges": _of_a_pair("edges"),
    "blocks": _of_a_pair("blocks"),
}

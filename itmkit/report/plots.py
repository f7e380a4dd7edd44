"""`itmkit plot`: figures of the runs of a workspace, as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import protocol
from itmkit.report import bars, curves, intervals
from itmkit.report.figure import MOST, drawing_package, save
from itmkit.report.results import comparison, course, evaluation
from itmkit.workspace import Workspace, result_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINGLE = "single"
# What `itmkit evaluate` writes only when asked: key of a result, option that asks for it.
ASKED = {"curves": "--curves", "slices": "--slices", "by_label": "--labels"}


@dataclass(frozen=True)
class Choice:
    """What to draw of: see `plot`."""

    runs: tuple[str, ...]
    split: str
    comparison: str
    figure: str
    members: bool
    labels: int


@dataclass(frozen=True)
class Drawing:
    """A figure, the name of its file without ending, and its series by the names that it shows."""

    what: str
    name: str
    title: str
    series: list[str]
    figure: Figure


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
    runs: Sequence[str] = (),
    split: str = "test",
    comparison: str = "compare",
    figure: str = "rsum",
    members: bool = False,
    labels: int = 20,
    out: Path | None = None,
    format: Literal["svg", "png"] = "svg",
) -> list[Plot]:
    """Draws figures and writes each to a file; none where one cannot be drawn.

    Args:
        what: names of `PLOTS`.
        runs: which; all that have what is drawn where none is named.
        split: of evaluations and comparisons.
        comparison: the prefix of an `itmkit compare`.
        figure: of that comparison: rsum, "i2t R@1", ...
        members: with the single members of ensembles. Figures over epochs have them in any case.
        labels: how many, those with the most queries.
        out: a folder; plots/ of the workspace where it is None.

    Raises:
        ItmkitError: matplotlib is missing; what is not there to be drawn, with the command that makes it.
    """
    drawing_package()
    protocol(split)
    folder = out or workspace.root / "plots"
    problems = [f"{one!r}: no such plot; there are {', '.join(PLOTS)}" for one in what if one not in PLOTS]
    problems += [f"--run {one}: named twice" for one in dict.fromkeys(runs) if list(runs).count(one) > 1]
    problems += [] if what else [f"nothing to draw is named; there are {', '.join(PLOTS)}"]
    if problems:
        raise ItmkitError(problems)
    choice = Choice(tuple(runs), split, comparison, figure, members, labels)
    drawings = []
    for one in dict.fromkeys(what):
        try:
            drawings.append(PLOTS[one](workspace, choice))
        except ItmkitError as error:
            problems += error.problems
    if problems:
        raise ItmkitError(list(dict.fromkeys(problems)))
    plots = [Plot(one.what, folder / f"{one.name}.{format}", one.title, one.series) for one in drawings]
    for drawing, written in zip(drawings, plots, strict=True):
        save(drawing.figure, written.path)
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
    title, named = _titled("val", {run: f"{count:,} images" for run, count in images.items()}, kinds)
    title += "" if len(set(images.values())) == 1 else ": not comparable"
    if len(found) == 1:
        title = f"{names[0]}: {title}"
    lines_of = {named[run]: lines for run, (lines, _) in found.items()}
    series = lines_of if len(found) > 1 else next(iter(lines_of.values()))
    return Drawing("epochs", "epochs", title, list(series), curves.epochs(lines_of, title))


def _cmc(workspace: Workspace, choice: Choice) -> Drawing:
    title, found = _evaluated(workspace, choice, "curves")
    drawn = {name: {side: mine["curves"][side]["cmc"] for side in curves.SIDES} for name, mine in found.items()}
    return Drawing("cmc", f"cmc-{choice.split}", title, list(drawn), curves.cmc(drawn, title))


def _precision(workspace: Workspace, choice: Choice) -> Drawing:
    title, found = _evaluated(workspace, choice, "curves")
    drawn = {name: {side: mine["curves"][side]["eleven"] for side in curves.SIDES} for name, mine in found.items()}
    figure = curves.precision(drawn, title)
    return Drawing("precision", f"precision-{choice.split}", title, list(drawn), figure)


def _slices(workspace: Workspace, choice: Choice) -> Drawing:
    title, found = _evaluated(workspace, choice, "slices")
    drawn = {name: [*_of_all(mine), *mine["slices"]] for name, mine in found.items()}
    return Drawing("slices", f"slices-{choice.split}", title, list(drawn), intervals.slices(drawn, title))


def _of_all(result: dict[str, Any]) -> list[dict[str, Any]]:
    """R@1 of all queries of each direction that has slices, to compare them with."""
    out = []
    for side, queries in (("i2t", "images"), ("t2i", "captions")):
        if any(one["side"] == side for one in result["slices"]):
            value = {"value": result[side]["R@1"], "low": None, "high": None}
            out.append({"side": side, "name": intervals.ALL, "queries": result[queries], "figures": {"R@1": value}})
    return out


def _labels(workspace: Workspace, choice: Choice) -> Drawing:
    title, found = _evaluated(workspace, choice, "by_label")
    drawn = {name: mine["by_label"] for name, mine in found.items()}
    there = max(len(rows) for rows in next(iter(drawn.values())).values())
    if there > choice.labels:
        title += f"; the {choice.labels} labels of {there:,} with the most queries"
    figure = bars.labels(drawn, title, most=choice.labels)
    return Drawing("labels", f"labels-{choice.split}", title, list(drawn), figure)


def _compare(workspace: Workspace, choice: Choice) -> Drawing:
    facts = comparison(workspace, choice.comparison, choice.split)
    rows = [*facts["rows"], *(facts["members"] if choice.members else [])]
    there = [name for name in facts["rows"][0]["values"] if all(name in row["values"] for row in rows)]
    if choice.figure not in there:
        raise ItmkitError(f"--figure {choice.figure!r}: the comparison has {', '.join(there)}")
    seeds = len(facts["seeds"])
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    title = f"{choice.split}, {facts['images']:,} images; {over}"
    chance = facts["chance_rsum"] if choice.figure == "rsum" else None
    figure = bars.methods(rows, title, figure=choice.figure, chance=chance)
    suffix = "" if choice.figure == "rsum" else "-" + choice.figure.replace(" R@", "-r")
    name = f"compare-{choice.comparison}-{choice.split}{suffix}"
    return Drawing("compare", name, title, [row["name"] for row in rows], figure)


# What may be drawn, in the order of the pipeline.
PLOTS: dict[str, Callable[[Workspace, Choice], Drawing]] = {
    "epochs": _epochs,
    "compare": _compare,
    "cmc": _cmc,
    "precision": _precision,
    "slices": _slices,
    "labels": _labels,
}


def _evaluated(workspace: Workspace, choice: Choice, key: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The title, and {name in the figure: a result of eval-SPLIT.json that has `key`}."""
    split, option = choice.split, ASKED[key]
    command = f"`itmkit evaluate --run {{}} --split {split} {option}`"
    folder = workspace.root / "runs"
    there = sorted(path.parent.name for path in folder.glob(f"*/{result_path(folder, split).name}"))
    found: dict[str, Any] = {}
    facts, problems = {}, []
    for name in choice.runs or there:
        try:
            facts[name] = evaluation(workspace, name, split)
        except ItmkitError as error:
            missing = not result_path(workspace.run(name), split).exists()
            problems += [f"{problem} {option}" for problem in error.problems] if missing else error.problems
            continue
        mine = [one for one in facts[name]["results"] if one["name"] == name or choice.members]
        without = [one["name"] for one in mine if not _has(one, key)]
        if not mine:
            wrong = f"has no result of {name} itself; run `itmkit evaluate --run {name} --split {split}` again"
            problems.append(f"{result_path(workspace.run(name), split)}: {wrong}")
        elif without and choice.runs:
            problems.append(f"{result_path(workspace.run(name), split)}: has no {key}; run {command.format(name)}")
        found |= {one["name"]: (one, facts[name]) for one in mine if one["name"] not in without}
    if problems:
        raise ItmkitError(problems)
    if not found:
        raise ItmkitError(f"{folder}: no run has {key} of split {split!r}; run {command.format('NAME')}")
    folds = {of["folds"] for _, of in found.values()}
    says = split if folds == {1} else f"{split} (mean of {max(folds)} folds)"
    images = {name: f"{of['images']:,} images" for name, (_, of) in found.items()}
    title, named = _titled(says, images, {name: one["kind"] for name, (one, _) in found.items()})
    return title, {named[name]: one for name, (one, _) in found.items()}


def _has(result: dict[str, Any], key: str) -> bool:
    """Whether a result has what is to be drawn: no slices, or no label in either direction, are nothing."""
    found = result.get(key) or {}
    return bool(found) and (key != "by_label" or all(found.values()))


def _titled(split: str, images: dict[str, str], kinds: dict[str, str]) -> tuple[str, dict[str, str]]:
    """A title, and {name: name in the figure}: what all have in common stands in the title, what differs in the names.

    Args:
        images: {name: how many in words}. kinds: {name: "single" or "ensemble of N"}.
    """
    if len(images) > MOST:
        raise ItmkitError(
            f"{len(images)} series: more than {MOST} cannot be told apart in a figure; name some with --run"
        )
    parts, suffixes = [split], dict.fromkeys(images, "")
    for facts, several in ((images, "different numbers of images"), (kinds, "singles and ensembles")):
        same = set(facts.values())
        parts.append(next(iter(same)) if len(same) == 1 else several)
        if len(same) > 1:
            suffixes = {name: f"{said}, {facts[name]}" if said else facts[name] for name, said in suffixes.items()}
    return ", ".join(parts), {name: f"{name} ({said})" if said else name for name, said in suffixes.items()}

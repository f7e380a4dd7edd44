"""`itmkit plot`: figures of the runs of a workspace, as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import protocol
from itmkit.report import bars, curves, intervals
from itmkit.report.alpha import alpha
from itmkit.report.colours import Colours
from itmkit.report.figure import MOST, drawing_package, save
from itmkit.report.results import comparison, course, evaluation
from itmkit.typed import read_strict_json
from itmkit.workspace import Workspace, result_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINGLE = "single"
NAMELESS = ("csv", "jsonl", "karpathy", "scan", "hand-made", "unknown")  # kinds that say nothing of what it is
# What `itmkit evaluate` writes only when asked: key of a result, option that asks for it.
ASKED = {"curves": "--curves", "slices": "--slices", "by_label": "--labels", "alpha": "--alpha 0,0.2,0.5,0.8,1"}


@dataclass(frozen=True)
class Choice:
    """What to draw of.

    Attributes:
        runs: which; all that have what is drawn where none is named.
        split: of evaluations and comparisons.
        comparison: the prefix of an `itmkit compare`.
        figure: of that comparison: rsum, "i2t R@1", ...
        members: with the single members of ensembles. Figures over epochs have them in any case.
        labels: how many, those with the most queries.
    """

    colours: Colours
    runs: Sequence[str] = ()
    split: str = "test"
    comparison: str = "compare"
    figure: str = "rsum"
    members: bool = False
    labels: int = 20


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
    out: Path | None = None,
    format: Literal["svg", "png"] = "svg",
    transparent: bool = False,
    **choice: Any,
) -> list[Plot]:
    """Draws figures and writes each to a file; none where one cannot be drawn.

    Args:
        what: names of `PLOTS`.
        out: a folder; plots/ of the workspace where it is None.
        transparent: no background, see `itmkit.report.figure.save`.
        choice: attributes of `Choice`: runs, split, comparison, figure, members, labels.

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
    title, named = _titled(says, {run: f"{count:,} images" for run, count in images.items()}, kinds)
    title += "" if len(set(images.values())) == 1 else ": not comparable"
    title = f"{names[0] if len(found) == 1 else 'runs'} over epochs: {title}"
    lines_of = {named[run]: lines for run, (lines, _) in found.items()}
    series = lines_of if len(found) > 1 else next(iter(lines_of.values()))
    drawn = curves.epochs(lines_of, title, numbers=choice.colours.of(list(found)))
    return Drawing("epochs", "epochs", title, list(series), drawn)


def _cmc(workspace: Workspace, choice: Choice) -> Drawing:
    title, found, numbers = _evaluated(workspace, choice, "curves", "R@k for every k")
    drawn = {name: {side: mine["curves"][side]["cmc"] for side in curves.SIDES} for name, mine in found.items()}
    figure = curves.cmc(drawn, title, numbers=numbers)
    return Drawing("cmc", f"cmc-{choice.split}", title, list(drawn), figure)


def _precision(workspace: Workspace, choice: Choice) -> Drawing:
    title, found, numbers = _evaluated(workspace, choice, "curves", "precision over recall")
    drawn = {name: {side: mine["curves"][side]["eleven"] for side in curves.SIDES} for name, mine in found.items()}
    figure = curves.precision(drawn, title, numbers=numbers)
    return Drawing("precision", f"precision-{choice.split}", title, list(drawn), figure)


def _slices(workspace: Workspace, choice: Choice) -> Drawing:
    title, found, numbers = _evaluated(workspace, choice, "slices", "R@1 of parts of the queries")
    drawn = {name: [*_of_all(mine), *mine["slices"]] for name, mine in found.items()}
    figure = intervals.slices(drawn, title, numbers=numbers)
    return Drawing("slices", f"slices-{choice.split}", title, list(drawn), figure)


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
    title, found, numbers = _evaluated(workspace, choice, "by_label", "R@1 by label")
    drawn = {name: mine["by_label"] for name, mine in found.items()}
    there = max(len(rows) for rows in next(iter(drawn.values())).values())
    if there > choice.labels:
        title += f"; the {choice.labels} labels of {there:,} with the most queries"
    figure = bars.labels(drawn, title, most=choice.labels, numbers=numbers)
    return Drawing("labels", f"labels-{choice.split}", title, list(drawn), figure)


def _alpha(workspace: Workspace, choice: Choice) -> Drawing:
    title, found, numbers = _evaluated(workspace, choice, "alpha", "R@1 by weight of the members")
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


# What may be drawn, in the order of the pipeline.
PLOTS: dict[str, Callable[[Workspace, Choice], Drawing]] = {
    "epochs": _epochs,
    "compare": _compare,
    "cmc": _cmc,
    "precision": _precision,
    "slices": _slices,
    "labels": _labels,
    "alpha": _alpha,
}


def data_name(workspace: Workspace) -> str:
    """What the data set is called: by its kind (flickr8k, scenes, ...), where that says nothing by the workspace."""
    path = workspace.dataset_info_path
    info = read_strict_json(path) if path.exists() else {}
    kind = info.get("kind") if isinstance(info, dict) else None
    return kind if isinstance(kind, str) and kind not in NAMELESS else workspace.root.resolve().name


def _evaluated(
    workspace: Workspace, choice: Choice, key: str, metric: str
) -> tuple[str, dict[str, dict[str, Any]], list[int]]:
    """The title, {name in the figure: a result of eval-SPLIT.json that has `key`}, and the numbers of their looks."""
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
    says = f"{metric}: {data_name(workspace)}, {split}" + ("" if folds == {1} else f" (mean of {max(folds)} folds)")
    images = {name: f"{of['images']:,} images" for name, (_, of) in found.items()}
    title, named = _titled(says, images, {name: one["kind"] for name, (one, _) in found.items()})
    return title, {named[name]: one for name, (one, _) in found.items()}, choice.colours.of(list(found))


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

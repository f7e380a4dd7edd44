"""The results of runs that a figure shows, from their eval-SPLIT.json."""

from __future__ import annotations

from typing import Any

from itmkit.errors import ItmkitError
from itmkit.evaluation.slices import CATEGORY
from itmkit.report.choice import Choice, data_name, titled
from itmkit.report.results import evaluation
from itmkit.workspace import Workspace, result_path

# What `itmkit evaluate` writes only when asked: what it is called here, and the option that asks for it.
ASKED = {
    "curves": "--curves",
    "curves by labels": "--labels",
    "slices": "--slices",
    "slices by super-category": "--slices",
    "by_label": "--labels",
    "alpha": "--alpha 0,0.2,0.5,0.8,1",
}
CURVES = ("cmc", "precision")  # the figures that may be by labels


def evaluated(
    workspace: Workspace, choice: Choice, key: str, metric: str
) -> tuple[str, dict[str, dict[str, Any]], list[int]]:
    """The title, {name in the figure: a result of eval-SPLIT.json that has `key`}, and the numbers of their looks.

    Args:
        key: one of `ASKED`.

    Raises:
        ItmkitError: a run that was named lacks it, or all do; or a file is damaged.
    """
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
        without = [one["name"] for one in mine if not has(one, key)]
        if not mine:
            wrong = f"has no result of {name} itself; run `itmkit evaluate --run {name} --split {split}` again"
            problems.append(f"{result_path(workspace.run(name), split)}: {wrong}")
        elif without and choice.runs:
            place = result_path(workspace.run(name), split)
            problems.append(f"{place}: has no {key}; run {command.format(name)}{_first(key)}")
        found |= {one["name"]: (one, facts[name]) for one in mine if one["name"] not in without}
    if problems:
        raise ItmkitError(problems)
    if not found:
        raise ItmkitError(f"{folder}: no run has {key} of split {split!r}; run {command.format('NAME')}{_first(key)}")
    folds = {of["folds"] for _, of in found.values()}
    says = f"{metric}: {data_name(workspace)}, {split}" + ("" if folds == {1} else f" (mean of {max(folds)} folds)")
    images = {name: f"{of['images']:,} images" for name, (_, of) in found.items()}
    title, named = titled(says, images, {name: one["kind"] for name, (one, _) in found.items()})
    return title, {named[name]: one for name, (one, _) in found.items()}, choice.colours.of(list(found))


def has(result: dict[str, Any], key: str) -> bool:
    """Whether a result has what is to be drawn: no slices, or no label in either direction, are nothing."""
    if key == "curves by labels":
        return len([side for side in (result.get("labels") or {}).values() if side.get("cmc")]) == 2
    if key == "slices by super-category":
        return any(one["name"].startswith(CATEGORY) for one in result.get("slices") or [])
    found = result.get(key) or {}
    return bool(found) and (key != "by_label" or all(found.values()))


def _first(key: str) -> str:
    """What has to be done before the evaluation, where the data set itself may lack something."""
    if key != "slices by super-category":
        return ""
    return ", once the data set has super-categories (`itmkit prepare coco` or `karpathy` with --instances)"

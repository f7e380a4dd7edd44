"""`itmkit compare`: several methods, each with several seeds, trained and evaluated on one workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import protocol
from itmkit.inputs import Sizes
from itmkit.matchers import Parameters, build, count_parameters
from itmkit.progress import SILENT, Progress
from itmkit.runs.facts import CONFIG, RunFacts
from itmkit.runs.records import FILE as METRICS
from itmkit.runs.records import records
from itmkit.runs.settings import RunConfig, read_config
from itmkit.studies.comparison import FIGURES, Comparison, ComparisonRow, Versus
from itmkit.studies.contenders import Contender, checked
from itmkit.studies.kept_ranks import evaluated
from itmkit.studies.over_runs import mean_differences, mean_intervals
from itmkit.training.budget import like
from itmkit.training.rates import left_still
from itmkit.training.train import train
from itmkit.typed import write_sealed
from itmkit.workspace import Workspace


@dataclass(frozen=True)
class Asked:
    """What is asked of the trained runs.

    Attributes:
        split: or protocol, on which they are evaluated.
        intervals: of the means over seeds, by bootstrap over images.
        against: one of the methods, with which all others are compared on the same images.
    """

    split: str = "test"
    intervals: bool = False
    against: str | None = None


FIGURES_ONLY = Asked()


def compare(
    workspace: Workspace,
    methods: Sequence[str],
    *,
    seeds: int | Sequence[int] = 3,
    recipe: str = "small",
    settings: Mapping[str, Any] | None = None,
    prefix: str = "compare",
    asked: Asked = FIGURES_ONLY,
    device: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Trains every method with every seed, evaluates each run, and puts the figures side by side.

    Runs are `runs/<prefix>-<method>-seed<N>`. Finished runs are not repeated, so a killed comparison continues where it
    stopped. The result is also written to `runs/<prefix>-<split>.json`.

    Args:
        methods: names, with settings of their own where wanted: "mefn:mfe=false"; "cmfg:seeds=1" for a single seed.
        seeds: how many (0, 1, ...), or which.
        settings: settings for all methods: those of training, or a method's setting if every method has it. With a
            "budget" the first seed of a method is measured, and its other seeds train for as many epochs. With
            several caches in "images" ("patches,regions") each method is trained with each of them.
        asked: the split, and whether intervals and a comparison are wanted.

    Raises:
        ItmkitError: unknown methods or settings, and missing caches, all in one error before any training.
    """
    split, against = asked.split, asked.against
    protocol(split)
    configs = checked(workspace, methods, seeds, recipe, settings or {}, prefix, split, against)
    _train(workspace, configs, prefix, device=device, force=force, progress=progress)
    rows, facts = _rows(workspace, configs, split, prefix, asked.intervals or against is not None, device, progress)
    if asked.intervals:
        for row in rows.values():
            row.intervals.update(mean_intervals(row.ranks))
    whole = {contender.label for contender, _ in configs}
    ordered = sorted(rows.values(), key=lambda row: (-row.mean("rsum"), row.name))
    methods_rows = [row for row in ordered if row.name in whole]
    budgets = {config.training.budget for _, each in configs for config in each.values()}
    result = Comparison(
        split=split,
        says=protocol(split).says,
        seeds=sorted({seed for _, each in configs for seed in each}),
        images=facts["images"],
        captions=facts["captions"],
        chance_rsum=facts["chance_rsum"],
        rows=methods_rows,
        members=[row for row in ordered if row.name not in whole],
        budget=(budgets.pop() or None) if len(budgets) == 1 else None,
        against=_against(methods_rows, Contender.read(against).label) if against is not None else [],
    )
    write_sealed(workspace.comparison(prefix, split), result.to_json())
    return result


def _train(
    workspace: Workspace,
    configs: Sequence[tuple[Contender, Mapping[int, RunConfig]]],
    prefix: str,
    *,
    device: str | None,
    force: bool,
    progress: Progress,
) -> None:
    """Trains every run. With a budget, a contender's later seeds train as long as its first, measured one."""
    for contender, each in configs:
        first: RunConfig | None = None
        for seed, config in each.items():
            name = contender.run(seed, prefix)
            progress.note(f"{contender.label}, seed {seed}: runs/{name}")
            config = config if first is None else like(config, first)
            first = train(workspace, config, run=name, device=device, force=force, progress=progress).config


def _rows(
    workspace: Workspace,
    configs: Sequence[tuple[Contender, Mapping[int, RunConfig]]],
    split: str,
    prefix: str,
    with_ranks: bool,
    device: str | None,
    progress: Progress,
) -> tuple[dict[str, ComparisonRow], dict[str, Any]]:
    """The rows of all contenders and of their members, and what else an evaluation says."""
    rows: dict[str, ComparisonRow] = {}
    facts: dict[str, Any] = {}
    for contender, each in configs:
        for seed in each:
            name = contender.run(seed, prefix)
            found = evaluated(workspace, name, split, with_ranks=with_ranks, device=device, progress=progress)
            counts = [(one["images"], one["captions"]) for one in (facts or found.facts, found.facts)]
            if counts[0] != counts[1]:
                raise ItmkitError(
                    f"runs/{name}: was evaluated on {counts[1][0]} images and {counts[1][1]} captions, others on"
                    f" {counts[0][0]} and {counts[0][1]}; evaluate all on the same split again"
                )
            facts = found.facts
            for one in facts["results"]:
                label = contender.label + one["name"].removeprefix(name)
                row = rows.setdefault(label, ComparisonRow(label, one["kind"], [], {figure: [] for figure in FIGURES}))
                row.runs.append(one["name"])
                row.seeds.append(seed)
                row.ranks.extend([found.ranks[one["name"]]] if with_ranks else [])
                for figure in FIGURES:
                    side, _, recall = figure.partition(" ")
                    row.values[figure].append(one[side][recall] if recall else one["rsum"])
            whole, trained = rows[contender.label], RunFacts.read(workspace.run(name))
            whole.core_minutes.append(trained.core_minutes)
            whole.epochs.append(trained.epochs_done)
            whole.pairs_per_second.append(_pairs_per_second(workspace, name))
        any_seed = contender.run(next(iter(each)), prefix)
        rows[contender.label] = replace(rows[contender.label], parameters=_parameters(workspace, any_seed))
    return rows, facts


def _pairs_per_second(workspace: Workspace, run: str) -> float | None:
    """Of the last stage of its training, the mean over epochs; None where nothing was trained, or no record says."""
    folder = workspace.run(run)
    lines = [line for _, line in records(folder)] if (folder / METRICS).exists() else []
    last = [line.get("pairs_per_second") for line in lines if line.get("epoch") and not line.get("stage")]
    # 0: of an older version, where a signal had come during the validation
    known = [float(one) for one in last if isinstance(one, (int, float)) and one]
    return sum(known) / len(known) if known else None


def _parameters(workspace: Workspace, run: str) -> Parameters:
    """Of all members of a run. Nothing is read but its settings: the members are built without weights."""
    config, facts = read_config(workspace.run(run) / CONFIG), RunFacts.read(workspace.run(run))
    with torch.device("meta"):
        built = build(config.method, config.matcher, sizes=Sizes(**facts.sizes), seed=0)
    still = left_still(built, config.training)
    counts = [count_parameters(member, config.stages, still) for member in built.values()]
    return Parameters(sum(one.trained for one in counts), sum(one.scoring for one in counts))


def _against(rows: Sequence[ComparisonRow], label: str) -> list[Versus]:
    """The difference of every other row from the labelled one."""
    other = next(row for row in rows if row.name == label)
    theirs = dict(zip(other.seeds, other.values["rsum"], strict=True))
    found = []
    for row in rows:
        if row is not other:
            mine = zip(row.seeds, row.values["rsum"], strict=True)
            by_seed = {seed: value - theirs[seed] for seed, value in mine if seed in theirs}
            found.append(Versus(row.name, label, mean_differences(row.ranks, other.ranks), by_seed))
    return found

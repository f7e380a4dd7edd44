"""`itmkit compare`: several methods, each with several seeds, trained and evaluated on one workspace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import protocol
from itmkit.files import write_json
from itmkit.progress import SILENT, Progress
from itmkit.runs.begin import configured
from itmkit.runs.facts import RunFacts
from itmkit.runs.settings import RunConfig
from itmkit.statistics.bootstrap import Difference, Interval
from itmkit.statistics.seeds import Spread
from itmkit.studies.kept_ranks import Folds, evaluated
from itmkit.studies.over_runs import mean_differences, mean_intervals
from itmkit.training.budget import like
from itmkit.training.train import train
from itmkit.workspace import Workspace

FIGURES = ("i2t R@1", "i2t R@5", "i2t R@10", "t2i R@1", "t2i R@5", "t2i R@10", "rsum")


@dataclass(frozen=True)
class Contender:
    """A method with settings of its own, written "mefn" or "mefn:mfe=false:embed=128".

    "cmfg:seeds=1" has fewer seeds than the others, or more; that is no part of its label.
    """

    label: str
    method: str
    settings: Mapping[str, str]
    seeds: int | None = None

    @classmethod
    def read(cls, text: str) -> Contender:
        name, *settings = text.split(":")
        wrong = [one for one in settings if "=" not in one]
        if wrong:
            raise ItmkitError(f"{text!r}: a setting is written NAME:setting=value, and {wrong[0]!r} is none")
        of_seeds = [one.partition("=")[2] for one in settings if one.startswith("seeds=")]
        if any(not one.isdecimal() or not int(one) for one in of_seeds):
            raise ItmkitError(f"{text!r}: seeds={of_seeds[0]} is no number of seeds; write seeds=1 or more")
        settings = [one for one in settings if not one.startswith("seeds=")]
        pairs = (one.split("=", 1) for one in settings)
        chosen = {key.strip().removeprefix("--").replace("-", "_"): value for key, value in pairs}
        return cls(":".join([name, *settings]), name, chosen, int(of_seeds[-1]) if of_seeds else None)

    def numbers(self, seeds: int | Sequence[int]) -> list[int]:
        """Its seeds: its own number of them, the first of those of all where they are enough."""
        every = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        if self.seeds is None:
            return every
        return every[: self.seeds] if self.seeds <= len(every) else list(range(self.seeds))

    def run(self, seed: int, prefix: str) -> str:
        """The name of its run: a folder name."""
        return f"{prefix}-{self.label.replace(':', '+').replace('/', '_')}-seed{seed}"


@dataclass(frozen=True)
class ComparisonRow:
    """Figures of one contender, or of one member of it, over seeds: {figure: [value of each seed]}.

    Attributes:
        core_minutes, epochs: of each run's training; empty for a member, None of runs older than that figure.
        intervals: of the means over seeds, by bootstrap over images, where they were asked for.
        ranks: of each run, where intervals or differences were asked for.
    """

    name: str
    kind: str
    runs: list[str]
    values: dict[str, list[float]]
    seeds: list[int] = field(default_factory=list)
    core_minutes: list[float | None] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    intervals: dict[str, Interval] = field(default_factory=dict)
    ranks: list[Folds] = field(default_factory=list)

    def mean(self, figure: str) -> float:
        return Spread.of(self.values[figure]).mean

    def spread(self, figure: str) -> float:
        """The standard deviation over seeds; NaN for a single one."""
        return Spread.of(self.values[figure]).deviation

    @property
    def mean_core_minutes(self) -> float | None:
        """None where it is not known of every run."""
        known = [one for one in self.core_minutes if one is not None]
        return sum(known) / len(known) if known and len(known) == len(self.runs) else None

    def to_json(self) -> dict[str, Any]:
        spread = {name: None if math.isnan(self.spread(name)) else self.spread(name) for name in FIGURES}
        mean = {name: self.mean(name) for name in FIGURES}
        found = {"name": self.name, "kind": self.kind, "runs": self.runs, "seeds": self.seeds, "mean": mean}
        found |= {"spread": spread, "values": self.values}
        if self.core_minutes:
            found |= {"core_minutes": self.core_minutes, "epochs": self.epochs}
        if self.intervals:
            found["intervals"] = {name: one.to_json() for name, one in self.intervals.items()}
        return found


@dataclass(frozen=True)
class Versus:
    """Two contenders on the same images: what the mean over seeds of the first has more than that of the second.

    by_seed: the difference in rsum of each seed that both have.
    """

    first: str
    second: str
    figures: dict[str, Difference]
    by_seed: dict[int, float]

    def to_json(self) -> dict[str, Any]:
        figures = {name: one.to_json() for name, one in self.figures.items()}
        by_seed = {str(seed): value for seed, value in self.by_seed.items()}
        return {"first": self.first, "second": self.second, "figures": figures, "rsum_by_seed": by_seed}


@dataclass(frozen=True)
class Comparison:
    """rows: whole methods, best mean rsum first. members: the single members of ensembles, likewise.

    Attributes:
        budget: core minutes that were to be spent on each run; None where it was not the same of all, or none.
        against: every row less one that was named.
    """

    split: str
    says: str
    seeds: list[int]
    images: int
    captions: int
    chance_rsum: float
    rows: list[ComparisonRow]
    members: list[ComparisonRow]
    budget: float | None = None
    against: list[Versus] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"split": self.split, "seeds": self.seeds, "images": self.images}
        facts |= {"captions": self.captions, "chance_rsum": self.chance_rsum}
        facts |= {"rows": [row.to_json() for row in self.rows], "members": [row.to_json() for row in self.members]}
        facts |= {"budget": self.budget} if self.budget else {}
        return facts | ({"against": [one.to_json() for one in self.against]} if self.against else {})


def compare(
    workspace: Workspace,
    methods: Sequence[str],
    *,
    seeds: int | Sequence[int] = 3,
    recipe: str = "small",
    settings: Mapping[str, Any] | None = None,
    split: str = "test",
    prefix: str = "compare",
    intervals: bool = False,
    against: str | None = None,
    device: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Trains every method with every seed, evaluates each run, and puts the figures side by side.

    Runs are `runs/<prefix>-<method>-seed<N>`. What is finished is not done again, so that a killed comparison
    continues. The result is also written to `runs/<prefix>-<split>.json`.

    Args:
        methods: names, with settings of their own where wanted: "mefn:mfe=false"; "cmfg:seeds=1" for a seed alone.
        seeds: how many (0, 1, ...), or which.
        settings: for all of them; those of training, or of a method if every method has it. With a "budget" the
            first seed of a method is measured, and the others train as many epochs.
        intervals: of the means over seeds, by bootstrap over images.
        against: one of `methods`, with which all others are compared on the same images.

    Raises:
        ItmkitError: unknown methods or settings, caches that are missing: all of it at once, before any training.
    """
    configs = _checked(workspace, methods, seeds, recipe, settings or {}, prefix, against)
    protocol(split)
    for contender, each in configs:
        first: RunConfig | None = None
        for seed, config in each.items():
            name = contender.run(seed, prefix)
            progress.note(f"{contender.label}, seed {seed}: runs/{name}")
            config = config if first is None else like(config, first)
            first = train(workspace, config, run=name, device=device, force=force, progress=progress).config
    rows, facts = _rows(workspace, configs, split, prefix, intervals or against is not None, device, progress)
    if intervals:
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
    write_json(workspace.comparison(prefix, split), result.to_json())
    return result


def _checked(
    workspace: Workspace,
    methods: Sequence[str],
    seeds: int | Sequence[int],
    recipe: str,
    settings: Mapping[str, Any],
    prefix: str,
    against: str | None,
) -> list[tuple[Contender, dict[int, RunConfig]]]:
    """The contenders, and the settings of the run of each seed."""
    problems: list[str] = [] if methods else ["no method named"]
    problems += [] if seeds else ["at least one seed is needed"]
    configs: dict[str, tuple[Contender, dict[int, RunConfig]]] = {}
    for text in methods:
        try:
            contender = Contender.read(text)
            if contender.label in configs:
                raise ItmkitError("named twice")
            _, each = configs.setdefault(contender.label, (contender, {}))
            for seed in contender.numbers(seeds):
                chosen = {**settings, **contender.settings, "seed": seed}
                run = contender.run(seed, prefix)
                each[seed] = configured(workspace, contender.method, recipe=recipe, settings=chosen, run=run)
        except ItmkitError as error:
            problems += [f"{text}: {problem}" for problem in error.problems]
    if against is not None and Contender.read(against).label not in configs:
        problems.append(f"--against {against!r}: is none of the methods {', '.join(configs)}")
    if problems:
        raise ItmkitError(list(dict.fromkeys(problems)))
    return list(configs.values())


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
            trained = RunFacts.read(workspace.run(name))
            rows[contender.label].core_minutes.append(trained.core_minutes)
            rows[contender.label].epochs.append(trained.epochs_done)
    return rows, facts


def _against(rows: Sequence[ComparisonRow], label: str) -> list[Versus]:
    """Every other row less the one of the label."""
    other = next(row for row in rows if row.name == label)
    theirs = dict(zip(other.seeds, other.values["rsum"], strict=True))
    found = []
    for row in rows:
        if row is not other:
            mine = zip(row.seeds, row.values["rsum"], strict=True)
            by_seed = {seed: value - theirs[seed] for seed, value in mine if seed in theirs}
            found.append(Versus(row.name, label, mean_differences(row.ranks, other.ranks), by_seed))
    return found

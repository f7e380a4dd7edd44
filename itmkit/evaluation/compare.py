"""`itmkit compare`: several methods, each with several seeds, trained and evaluated on one workspace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.evaluation.protocols import protocol
from itmkit.evaluation.seeds import Spread
from itmkit.files import read_json, write_json
from itmkit.progress import SILENT, Progress
from itmkit.training.loop import train
from itmkit.training.runs import configured
from itmkit.training.settings import RunConfig
from itmkit.workspace import Workspace, result_path

FIGURES = ("i2t R@1", "i2t R@5", "i2t R@10", "t2i R@1", "t2i R@5", "t2i R@10", "rsum")


@dataclass(frozen=True)
class Contender:
    """A method with settings of its own, written "mefn" or "mefn:mfe=false:embed=128"."""

    label: str
    method: str
    settings: Mapping[str, str]

    @classmethod
    def read(cls, text: str) -> Contender:
        name, *settings = text.split(":")
        wrong = [one for one in settings if "=" not in one]
        if wrong:
            raise ItmkitError(f"{text!r}: a setting is written NAME:setting=value, and {wrong[0]!r} is none")
        pairs = (one.split("=", 1) for one in settings)
        return cls(text, name, {key.strip().removeprefix("--").replace("-", "_"): value for key, value in pairs})

    def run(self, seed: int, prefix: str) -> str:
        """The name of its run: a folder name."""
        return f"{prefix}-{self.label.replace(':', '+').replace('/', '_')}-seed{seed}"


@dataclass(frozen=True)
class Row:
    """Figures of one contender, or of one member of it, over seeds: {figure: [value of each seed]}."""

    name: str
    kind: str
    runs: list[str]
    values: dict[str, list[float]]

    def mean(self, figure: str) -> float:
        return Spread.of(self.values[figure]).mean

    def spread(self, figure: str) -> float:
        """The standard deviation over seeds; NaN for a single one."""
        return Spread.of(self.values[figure]).deviation

    def to_json(self) -> dict[str, Any]:
        spread = {name: None if math.isnan(self.spread(name)) else self.spread(name) for name in FIGURES}
        mean = {name: self.mean(name) for name in FIGURES}
        return {"name": self.name, "kind": self.kind, "runs": self.runs, "mean": mean, "spread": spread} | {
            "values": self.values
        }


@dataclass(frozen=True)
class Comparison:
    """rows: whole methods, best mean rsum first. members: the single members of ensembles, likewise."""

    split: str
    says: str
    seeds: list[int]
    images: int
    captions: int
    chance_rsum: float
    rows: list[Row]
    members: list[Row]

    def to_json(self) -> dict[str, Any]:
        facts = {"split": self.split, "seeds": self.seeds, "images": self.images, "captions": self.captions}
        rows = {"rows": [row.to_json() for row in self.rows], "members": [row.to_json() for row in self.members]}
        return {**facts, "chance_rsum": self.chance_rsum, **rows}


def compare(
    workspace: Workspace,
    methods: Sequence[str],
    *,
    seeds: int | Sequence[int] = 3,
    recipe: str = "small",
    settings: Mapping[str, Any] | None = None,
    split: str = "test",
    prefix: str = "compare",
    device: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Trains every method with every seed, evaluates each run, and puts the figures side by side.

    Runs are `runs/<prefix>-<method>-seed<N>`. What is finished is not done again, so that a killed comparison
    continues. The result is also written to `runs/<prefix>-<split>.json`.

    Args:
        methods: names, with settings of their own where wanted: "mefn:mfe=false".
        seeds: how many (0, 1, ...), or which.
        settings: for all of them; those of training, or of a method if every method has it.

    Raises:
        ItmkitError: unknown methods or settings, caches that are missing: all of it at once, before any training.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    contenders, configs = _checked(workspace, methods, numbers, recipe, settings or {}, prefix)
    protocol(split)
    for contender in contenders:
        for seed in numbers:
            name = contender.run(seed, prefix)
            progress.note(f"{contender.label}, seed {seed}: runs/{name}")
            config = configs[contender.label, seed]
            train(workspace, config, run=name, device=device, force=force, progress=progress)
    return _collected(workspace, contenders, numbers, split, prefix, device, progress)


def _checked(
    workspace: Workspace,
    methods: Sequence[str],
    seeds: Sequence[int],
    recipe: str,
    settings: Mapping[str, Any],
    prefix: str,
) -> tuple[list[Contender], dict[tuple[str, int], RunConfig]]:
    """The contenders and the settings of each of their runs."""
    problems: list[str] = [] if methods else ["no method named"]
    problems += [] if seeds else ["at least one seed is needed"]
    problems += [f"{one!r}: named twice" for one in dict.fromkeys(methods) if list(methods).count(one) > 1]
    contenders, configs = [], {}
    for text in dict.fromkeys(methods):
        try:
            contender = Contender.read(text)
            contenders.append(contender)
            for seed in seeds:
                chosen = {**settings, **contender.settings, "seed": seed}
                run = contender.run(seed, prefix)
                configs[contender.label, seed] = configured(
                    workspace, contender.method, recipe=recipe, settings=chosen, run=run
                )
        except ItmkitError as error:
            problems += [f"{text}: {problem}" for problem in error.problems]
    if problems:
        raise ItmkitError(list(dict.fromkeys(problems)))
    return contenders, configs


def _collected(
    workspace: Workspace,
    contenders: Sequence[Contender],
    seeds: Sequence[int],
    split: str,
    prefix: str,
    device: str | None,
    progress: Progress,
) -> Comparison:
    rows: dict[str, Row] = {}
    facts: dict[str, Any] = {}
    for contender in contenders:
        for seed in seeds:
            name = contender.run(seed, prefix)
            path = result_path(workspace.run(name), split)
            if not path.exists():  # training anew removes it
                evaluate(workspace, [name], split=split, device=device, progress=progress)
            facts = read_json(path)
            for found in facts["results"]:
                label = contender.label + found["name"].removeprefix(name)
                row = rows.setdefault(label, Row(label, found["kind"], [], {figure: [] for figure in FIGURES}))
                row.runs.append(found["name"])
                for figure in FIGURES:
                    side, _, recall = figure.partition(" ")
                    row.values[figure].append(found[side][recall] if recall else found["rsum"])
    whole = {contender.label for contender in contenders}
    ordered = sorted(rows.values(), key=lambda row: (-row.mean("rsum"), row.name))
    result = Comparison(
        split=split,
        says=protocol(split).says,
        seeds=list(seeds),
        images=facts["images"],
        captions=facts["captions"],
        chance_rsum=facts["chance_rsum"],
        rows=[row for row in ordered if row.name in whole],
        members=[row for row in ordered if row.name not in whole],
    )
    write_json(workspace.comparison(prefix, split), result.to_json())
    return result

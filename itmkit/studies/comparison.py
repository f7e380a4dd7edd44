"""The result of a comparison of methods: each one's figures over its seeds, and differences on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from itmkit.matchers import Parameters
from itmkit.statistics.bootstrap import Difference, Interval
from itmkit.statistics.seeds import Spread
from itmkit.studies.kept_ranks import Folds

FIGURES = ("i2t R@1", "i2t R@5", "i2t R@10", "t2i R@1", "t2i R@5", "t2i R@10", "rsum")


@dataclass(frozen=True)
class ComparisonRow:
    """Figures of one contender, or of one of its members, over seeds: {figure: [value of each seed]}.

    Attributes:
        core_minutes, epochs: of each run's training; empty for a member, None for runs older than that figure.
        pairs_per_second: of each run, pairs of image and caption scored in a second of the last stage of training, the
            mean over epochs; empty for a member, None where nothing was trained.
        parameters: of all its members: those that are trained in some stage, and those that a score is computed with.
        intervals: of the means over seeds, by bootstrap over images, if they were asked for.
        ranks: of each run, if intervals or differences were asked for.
    """

    name: str
    kind: str
    runs: list[str]
    values: dict[str, list[float]]
    seeds: list[int] = field(default_factory=list)
    core_minutes: list[float | None] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    pairs_per_second: list[float | None] = field(default_factory=list)
    parameters: Parameters | None = None
    intervals: dict[str, Interval] = field(default_factory=dict)
    ranks: list[Folds] = field(default_factory=list)

    def mean(self, figure: str) -> float:
        return Spread.of(self.values[figure]).mean

    def spread(self, figure: str) -> float:
        """The standard deviation over seeds; NaN for a single one."""
        return Spread.of(self.values[figure]).deviation

    @property
    def mean_core_minutes(self) -> float | None:
        """The mean over runs; None if it is not known for every run."""
        return self._mean_of_all(self.core_minutes)

    @property
    def mean_pairs_per_second(self) -> float | None:
        """The mean over runs; None if it is not known for every run."""
        return self._mean_of_all(self.pairs_per_second)

    def _mean_of_all(self, values: Sequence[float | None]) -> float | None:
        known = [one for one in values if one is not None]
        return sum(known) / len(known) if known and len(known) == len(self.runs) else None

    def to_json(self) -> dict[str, Any]:
        spread = {name: None if math.isnan(self.spread(name)) else self.spread(name) for name in FIGURES}
        mean = {name: self.mean(name) for name in FIGURES}
        found = {"name": self.name, "kind": self.kind, "runs": self.runs, "seeds": self.seeds, "mean": mean}
        found |= {"spread": spread, "values": self.values}
        if self.core_minutes:
            found |= {"core_minutes": self.core_minutes, "epochs": self.epochs}
            found |= {"pairs_per_second": self.pairs_per_second}
        if self.parameters is not None:
            found["parameters"] = asdict(self.parameters)
        if self.intervals:
            found["intervals"] = {name: one.to_json() for name, one in self.intervals.items()}
        return found


@dataclass(frozen=True)
class Versus:
    """Two contenders on the same images: the first one's mean over seeds minus the second one's.

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
        budget: core minutes that were to be spent on each run; None if there was no budget, or not one for all runs.
        against: the difference of every other row from the one that was named.
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

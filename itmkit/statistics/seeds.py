"""Figures over seeds: what training by chance does to them, which intervals of one run know nothing of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.scoring.metrics import Retrieval


@dataclass(frozen=True)
class Spread:
    """The mean over n seeds, and the standard deviation (of a sample, n - 1); NaN for a single seed."""

    mean: float
    deviation: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ItmkitError where there are no values."""
        if len(values) == 0:
            raise ItmkitError("there is nothing to average: no run")
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return cls(float(np.mean(values)), deviation, len(values))

    def to_json(self) -> dict[str, float | int | None]:
        deviation = None if math.isnan(self.deviation) else self.deviation
        return {"mean": self.mean, "deviation": deviation, "n": self.n}


def over_seeds(results: Sequence[Retrieval]) -> dict[str, Spread]:
    """{figure: its mean and spread} of runs that differ in their seed; figures as of `Retrieval.figures()`."""
    if not results:
        raise ItmkitError("there is nothing to average: no run")
    each = [result.figures() for result in results]
    return {name: Spread.of([figures[name] for figures in each]) for name in each[0]}

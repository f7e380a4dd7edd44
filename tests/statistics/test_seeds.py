from __future__ import annotations

import statistics

import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.scoring.metrics import retrieval
from itmkit.statistics.seeds import Spread, over_seeds


def test_mean_and_spread_of_every_figure() -> None:
    random = np.random.default_rng(0)
    results = [retrieval(random.random((20, 40)), np.repeat(np.arange(20), 2)) for _ in range(4)]
    found = over_seeds(results)
    assert list(found) == list(results[0].figures())
    for name, spread in found.items():
        values = [result.figures()[name] for result in results]
        assert (spread.mean, spread.deviation) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
        assert spread.n == 4


def test_one_seed_has_no_spread() -> None:
    found = over_seeds([retrieval(np.eye(3), np.arange(3))])["rsum"]
    assert found.mean == 600 and np.isnan(found.deviation)
    assert found.to_json() == {"mean": 600.0, "deviation": None, "n": 1}


def test_no_seed_is_an_error() -> None:
    with pytest.raises(ItmkitError, match="no run"):
        over_seeds([])
    with pytest.raises(ItmkitError, match="no run"):
        Spread.of([])

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.errors import ItmkitError
from itmkit.relevance.kendall import concordance, tau_b, tau_c

LISTS = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-3, 3) | st.floats(-1e6, 1e6), min_size=n, max_size=n),
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
    )
)


def by_all_pairs(x: list[float], y: list[float]) -> tuple[float, float]:
    """tau-b and tau-c, from the definitions."""
    n, difference, untied_x, untied_y = len(x), 0, 0, 0
    for i in range(n):
        for j in range(i):
            a, b = (x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])
            difference += a * b
            untied_x += a != 0
            untied_y += b != 0
    m = min(len(set(x)), len(set(y)))
    return difference / math.sqrt(untied_x * untied_y), 2 * m * difference / (n * n * (m - 1))


@settings(max_examples=50, deadline=None)
@given(LISTS)
def test_equals_the_definition(lists: tuple[list[float], list[float]]) -> None:
    x, y = lists
    if len(set(x)) == 1 or len(set(y)) == 1:
        with pytest.raises(ItmkitError, match="are equal; there is no order"):
            tau_b(x, y)
        return
    expected_b, expected_c = by_all_pairs(x, y)
    assert tau_b(x, y) == pytest.approx(expected_b, abs=1e-12)
    assert tau_c(x, y) == pytest.approx(expected_c, abs=1e-12)
    assert tau_b(y, x) == pytest.approx(expected_b, abs=1e-12)
    assert tau_c([-value for value in x], y) == pytest.approx(-expected_c, abs=1e-12)


@pytest.mark.parametrize("values", [2, 4, 1000, 10**9])
@pytest.mark.parametrize("n", [2, 3, 257, 5000])
def test_equals_scipy(n: int, values: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(n + values)
    x = random.normal(size=n).astype(np.float32)
    y = np.concatenate([[0, 1], np.round(values * (x[2:] + random.normal(size=n - 2)))])
    for variant, tau in (("b", tau_b), ("c", tau_c)):
        assert tau(x, y) == pytest.approx(stats.kendalltau(x, y, variant=variant).statistic, abs=1e-12)


def test_whole_agreement_and_its_opposite() -> None:
    x = np.array([1, 1, 2, 3, 3, 3])
    assert tau_b(x, x) == tau_b(x, 10 * x) == pytest.approx(1)
    assert tau_c(np.arange(4), -np.arange(4)) == pytest.approx(-1)


def test_counts_of_many_pairs_are_exact() -> None:
    """About 5e9 pairs, more than 32 bits hold."""
    n = 100_000
    found = concordance(np.arange(n), np.arange(n)[::-1])
    assert found.difference == -n * (n - 1) // 2 and found.untied_x == n * (n - 1) // 2


def test_what_has_no_correlation() -> None:
    with pytest.raises(ItmkitError, match="not two lists of one length"):
        tau_b([1, 2], [1, 2, 3])
    with pytest.raises(ItmkitError) as caught:
        tau_c([1, math.nan, math.inf], [1, 2, math.inf])
    assert caught.value.problems == [
        "rank correlation: 2 of 3 scores are not finite",
        "rank correlation: 1 of 3 judgements are not finite",
    ]
    for empty in ([], [1.0]):
        with pytest.raises(ItmkitError, match="no order"):
            tau_b(empty, empty)

"""Kendall's rank correlation: how far two orders of the same things agree. Ties count as neither for nor against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itmkit.errors import ItmkitError


@dataclass(frozen=True)
class Concordance:
    """Pairs of n things, counted: in the same order in both (concordant) less in the opposite one (discordant), and
    those that are not tied in x, and not tied in y; and how many different values each has."""

    n: int
    difference: int
    untied_x: int
    untied_y: int
    values_x: int
    values_y: int

    @property
    def tau_b(self) -> float:
        """-1 to 1; 1 where both orders are the same, with the same ties."""
        return self.difference / (float(self.untied_x) ** 0.5 * float(self.untied_y) ** 0.5)

    @property
    def tau_c(self) -> float:
        """-1 to 1 also where one has fewer different values than the other, as ratings have (Stuart's tau)."""
        m = min(self.values_x, self.values_y)
        return 2 * self.difference / (self.n**2 * (m - 1) / m)


def concordance(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> Concordance:
    """Counts all pairs, in O(n log n) steps a halving.

    Args:
        x, y: (n,) numbers.

    Raises:
        ItmkitError: different lengths, numbers that are not finite, or one of them has a single value: there is no
            order then that could agree with the other.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 1 or x.shape != y.shape:
        raise ItmkitError(f"rank correlation: {x.shape} and {y.shape} are not two lists of one length")
    problems = [
        f"rank correlation: {int((~np.isfinite(values)).sum())} of {len(values)} {what} are not finite"
        for what, values in (("scores", x), ("judgements", y))
        if not np.isfinite(values).all()
    ]
    if problems:
        raise ItmkitError(problems)
    a, b = (np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64) for values in (x, y))
    n = len(a)
    total = n * (n - 1) // 2
    both = np.lexsort((b, a))
    a, b = a[both], b[both]
    tied_x, tied_y, tied_both = _tied(a), _tied(b), _tied(a * (n + 1) + b)
    if tied_x == total or tied_y == total:
        what = "scores" if tied_x == total else "judgements"
        raise ItmkitError(f"rank correlation: all {n} {what} are equal; there is no order to compare")
    discordant = _inversions(b)
    concordant = total - tied_x - tied_y + tied_both - discordant
    return Concordance(n, concordant - discordant, total - tied_x, total - tied_y, len(np.unique(a)), len(np.unique(b)))


def tau_b(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Kendall's tau-b of two lists (n,). Raises ItmkitError as `concordance` does."""
    return concordance(x, y).tau_b


def tau_c(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Kendall's (Stuart's) tau-c of two lists (n,). Raises ItmkitError as `concordance` does."""
    return concordance(x, y).tau_c


def _tied(values: np.ndarray) -> int:
    """Pairs of equal values."""
    counts = np.unique(values, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: np.ndarray) -> int:
    """Pairs i < j with values[i] > values[j], of (n,) whole numbers 0..n-1: a merge sort, all blocks at once."""
    n, count, width = len(values), 0, 1
    # Adding the block's number times n + 1 keeps the blocks apart, so that one search serves all of them.
    place = np.arange(n)
    while width < n:
        block = place // (2 * width)
        keys = block * (n + 1) + values
        right = (place // width) % 2 == 1
        left = keys[~right]  # ascending: every left half is sorted, and the blocks follow each other
        not_greater = np.searchsorted(left, keys[right], side="right")
        ends = np.searchsorted(block[~right], block[right], side="right")
        count += int((ends - not_greater).sum())
        values = np.sort(keys, kind="stable") - block * (n + 1)
        width *= 2
    return count

"""Which queries are shown: a few, and the same ones every time.

Ranks are 0-based, as everywhere; a query is right if its rank is 0. What one list has is passed over by the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class List:
    """title, says: its heading, and what is in it. queries: their places, in the order in which they are shown."""

    title: str
    says: str
    queries: list[int]


def of_one(ranks: np.ndarray, count: int) -> list[List]:
    """At most `count` queries of one run. ranks: (q,) int."""
    sizes, seen = _sizes(count), set[int]()
    worst = _take(np.lexsort((np.arange(len(ranks)), -ranks)), ranks > 0, sizes[0], seen)
    near = _spread(np.flatnonzero((ranks > 0) & (ranks < 5)), sizes[1], seen)
    right = _spread(np.flatnonzero(ranks == 0), sizes[2], seen)
    return [
        List("Worst misses", "The true item is furthest down", worst),
        List("Near misses", "It is among the first five, but not first; some of them, evenly spaced", near),
        List("Found at once", "It comes first; some of them, evenly spaced", right),
    ]


def of_two(ours: np.ndarray, theirs: np.ndarray, count: int) -> list[List]:
    """At most `count` queries of a run beside its baseline. ours, theirs: (q,) int, ranks of the same queries."""
    sizes, seen = _sizes(count), set[int]()
    places, better = np.arange(len(ours)), np.log((theirs + 1) / (ours + 1))
    gains = _take(np.lexsort((places, ours, -better)), ours < theirs, sizes[0], seen)
    losses = _take(np.lexsort((places, theirs, better)), ours > theirs, sizes[1], seen)
    both = np.minimum(ours, theirs)
    still = _take(np.lexsort((places, -both)), both > 0, sizes[2], seen)
    return [
        List("Largest gains", "The rank falls by the largest factor: 60 to 1 counts more than 900 to 300", gains),
        List("Largest losses", "The rank rises by the largest factor", losses),
        List("Still wrong", "Neither run puts the true item first; where even the better one is furthest off", still),
    ]


def outcomes(ours: np.ndarray, theirs: np.ndarray) -> dict[str, int]:
    """How many queries are right by both runs, by the first alone, by the second alone, by neither."""
    mine, yours = ours == 0, theirs == 0
    return {
        "both right": int((mine & yours).sum()),
        "ours right, baseline wrong": int((mine & ~yours).sum()),
        "ours wrong, baseline right": int((~mine & yours).sum()),
        "both wrong": int((~mine & ~yours).sum()),
    }


def _sizes(count: int) -> list[int]:
    return [count // 3 + (number < count % 3) for number in range(3)]


def _take(order: Iterable[int], wanted: np.ndarray, count: int, seen: set[int]) -> list[int]:
    found = [int(query) for query in order if wanted[query] and int(query) not in seen][:count]
    seen.update(found)
    return found


def _spread(places: Sequence[int] | np.ndarray, count: int, seen: set[int]) -> list[int]:
    """Evenly spaced ones of those that no list has yet."""
    free = [int(place) for place in places if int(place) not in seen]
    found = free if len(free) <= count else [free[k * len(free) // count] for k in range(count)]
    seen.update(found)
    return found

"""How sure a figure is: intervals by bootstrap over images, and a test between two runs on the same images.

Both are about queries: which images, with their captions, happen to be in the split. What they compete with is taken as
it is. Training with another seed is not in them; see `itmkit.statistics.seeds`.

An image and all its captions are drawn together, since captions of a difficult image are difficult alike; drawn one by
one, the intervals of text queries would be too short.

Means (recalls, rsum, mR, meanr, mAP, ...) have intervals by bootstrap-t: how far the mean of a resample lies from that
of the data is measured in standard errors of that resample. Percentiles of resampled means would do as well for a
recall of 20 to 80 percent, but miss the truth too often where few queries decide: near 0 and 100 percent, in meanr.
A recall that fewer than ten images hit, or miss, has Wilson's interval with as many independent queries as have the
same standard error: resamples of data without a miss have none either, and yet 100 percent is not certain. medr, a
whole number, has percentiles of resampled medians, which hold the truth more often than 95 times of 100. meanr of a few
hundred images is held less often, 90 to 95 times: a few very bad ranks decide it, and may not be in the data.

The test swaps the two runs image by image at random: if they are equally good, their difference could as well have
the other sign for any image. Of equal runs 5 in 100 have p at most 0.05, fewer where many swaps give exactly the same
difference: in recalls of few images, in medr. tests/robustness/intervals.py counts all of this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.scoring.metrics import KS, Direction, QueryRanks, mean_over
from itmkit.statistics.resampling import Queries, resampled, swapped

RESAMPLES = 2000
NORMAL = 1.959964  # the 97.5th percentile of the normal distribution
RARE = 10  # images that hit, or that miss, below which a recall has Wilson's interval
SIDES = ("i2t", "t2i")
RECALLS = tuple(f"{side} R@{k}" for side in SIDES for k in KS)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval; NaN at both ends for one image, and for a mean of nothing but equal values."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": _number(self.low), "high": _number(self.high)}


@dataclass(frozen=True)
class Difference:
    """A figure of the first run less that of the second, its 95% interval, and how often luck alone gives as much.

    p is not corrected for the number of figures that are looked at.
    """

    value: float
    low: float
    high: float
    p: float

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": _number(self.low), "high": _number(self.high), "p": self.p}


def intervals(
    folds: QueryRanks | Sequence[QueryRanks], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """95% intervals of every figure of `Retrieval.figures()`, under the same names.

    Args:
        folds: the ranks of a split, or of each fold of it where the figures are means over folds.
        resamples: how often images are drawn anew.
        seed: the same one gives the same intervals.
    """
    parts = _parts(folds)
    figures = mean_over([part.retrieval() for part in parts]).figures()
    sides = {side: Queries.of(parts, side) for side in SIDES}
    influence = {
        f"{side} {name}": queries.influence(values)
        for side, queries in sides.items()
        for name, values in queries.values().items()
    }
    _add_sums(influence)
    found = _intervals(
        figures, influence, {f"{side} medr": queries for side, queries in sides.items()}, resamples, seed
    )
    for side, queries in sides.items():
        for k in KS:
            name = f"{side} R@{k}"
            found[name] = _recall(found[name], queries, queries.ranks < k, influence[name])
    if not influence["rsum"].any():  # the same recalls for every image: each is 0 or 100 percent
        low, high = (sum(getattr(found[name], end) for name in RECALLS) for end in ("low", "high"))
        found["rsum"] = Interval(figures["rsum"], low, high)
        found["mR"] = Interval(figures["mR"], low / len(RECALLS), high / len(RECALLS))
    return {name: _limited(name, found[name]) for name in figures}


def direction_intervals(
    ranks: np.ndarray, images: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """95% intervals of "R@1", "R@5", "R@10", "medr" and "meanr" of any queries of one direction.

    Args:
        ranks: (q,) int, 0-based; q is at least 1.
        images: (q,) int, the image of each query; what belongs to one image is drawn together.
    """
    queries = Queries.together(ranks, images)
    direction = Direction.of(ranks)
    figures = {f"R@{k}": getattr(direction, f"r{k}") for k in KS} | {"medr": direction.medr, "meanr": direction.meanr}
    influence = {name: queries.influence(values) for name, values in queries.values().items()}
    found = _intervals(figures, influence, {"medr": queries}, resamples, seed)
    for k in KS:
        found[f"R@{k}"] = _recall(found[f"R@{k}"], queries, ranks < k, influence[f"R@{k}"])
    return {name: _limited(name, found[name]) for name in figures}


def mean_intervals(
    values: Mapping[str, np.ndarray], images: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """95% intervals of means over queries, such as those of `itmkit.relevance.ranking.Ranking.values`.

    Args:
        values: {figure: (q,) float64 percent}; q is at least 1. One that is 0 or 100 for every query is a recall.
        images: (q,) int, the image of each query; what belongs to one image is drawn together.
    """
    queries = Queries.together(np.zeros(len(images), np.int64), images)
    influence = {name: queries.influence(mine) for name, mine in values.items()}
    found = _intervals({name: float(mine.mean()) for name, mine in values.items()}, influence, {}, resamples, seed)
    for name, mine in values.items():
        if np.isin(mine, (0, 100)).all():
            found[name] = _recall(found[name], queries, mine == 100, influence[name])
    return {name: _limited(name, interval) for name, interval in found.items()}


def differences(
    first: QueryRanks | Sequence[QueryRanks],
    second: QueryRanks | Sequence[QueryRanks],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Difference]:
    """What the first run has more than the second, of every figure of `Retrieval.figures()`.

    Args:
        first, second: ranks on the same images and captions in the same order, by folds where figures are means of
            those.
        resamples: how often images are drawn anew, and how often runs are swapped; the least p is 1 / (resamples + 1).
        seed: the same one gives the same result.

    Raises:
        ItmkitError: the runs were evaluated on different images or captions.
    """
    ours, theirs = _parts(first), _parts(second)
    if len(ours) != len(theirs) or any(
        len(a.of_images) != len(b.of_images) or not np.array_equal(a.image_of, b.image_of)
        for a, b in zip(ours, theirs, strict=True)
    ):
        raise ItmkitError("the two runs have ranks of different images or captions; evaluate both on the same split")
    pairs = {side: (Queries.of(ours, side), Queries.of(theirs, side)) for side in SIDES}
    influence, shares = {}, {}
    for side, (one, other) in pairs.items():
        values = other.values()
        for name, mine in one.values().items():
            influence[f"{side} {name}"] = one.influence(mine - values[name])
            shares[f"{side} {name}"] = one.per_image(mine - values[name])
    _add_sums(influence)
    _add_sums(shares)
    figures = mean_over([part.retrieval() for part in ours]).figures()
    others = mean_over([part.retrieval() for part in theirs]).figures()
    gains = {name: value - others[name] for name, value in figures.items()}
    medians = {f"{side} medr": pair for side, pair in pairs.items()}
    found = _intervals(gains, influence, medians, resamples, seed)
    chances = swapped(shares, medians, resamples=resamples, seed=seed)
    return {name: Difference(gain, found[name].low, found[name].high, chances[name]) for name, gain in gains.items()}


def _parts(folds: QueryRanks | Sequence[QueryRanks]) -> list[QueryRanks]:
    return [folds] if isinstance(folds, QueryRanks) else list(folds)


def _add_sums(figures: dict[str, np.ndarray]) -> None:
    """rsum and mR, whose parts are the sums of those of the recalls."""
    figures["rsum"] = np.sum([figures[name] for name in RECALLS], axis=0)
    figures["mR"] = figures["rsum"] / len(RECALLS)


def _intervals(
    figures: Mapping[str, float],
    influence: Mapping[str, np.ndarray],
    medians: Mapping[str, Queries | tuple[Queries, Queries]],
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Bootstrap-t of means, percentiles of medians, or of the differences of two medians."""

    def medr(of: Queries | tuple[Queries, Queries], counts: np.ndarray) -> np.ndarray:
        return of.medr(counts) if isinstance(of, Queries) else of[0].medr(counts) - of[1].medr(counts)

    functions = {name: partial(medr, of) for name, of in medians.items()}
    each = [one if isinstance(one, Queries) else one[0] for one in medians.values()]
    widest = max([len(one.ranks) for one in each], default=0)
    t, drawn = resampled(influence, functions, queries=widest, resamples=resamples, seed=seed)
    found = {}
    for name, mine in influence.items():
        low, high = np.quantile(t[name], (0.025, 0.975))
        error = math.sqrt(float((mine**2).mean()) / len(mine)) if len(mine) > 1 else math.nan
        found[name] = Interval(figures[name], figures[name] - float(high) * error, figures[name] - float(low) * error)
    n = len(next(iter(influence.values())))
    for name, values in drawn.items():
        low, high = np.quantile(values, (0.025, 0.975), method="inverted_cdf") if n > 1 else (math.nan, math.nan)
        found[name] = Interval(figures[name], float(low), float(high))
    return found


def _recall(found: Interval, queries: Queries, hit: np.ndarray, influence: np.ndarray) -> Interval:
    """Wilson's interval instead, where few images hit or few miss. hit: (q,) bool."""
    few = min(np.count_nonzero(np.bincount(queries.images, weights=which)) for which in (hit, ~hit))
    if few >= RARE:
        return found
    share, variance = found.value / 100, float((influence**2).mean()) / queries.n / 100**2
    # As many independent queries as have this error; where there is none to be seen, an image counts as one query.
    n = min(len(hit), share * (1 - share) / variance) if variance > 0 else queries.n
    middle = (share + NORMAL**2 / (2 * n)) / (1 + NORMAL**2 / n)
    half = NORMAL * math.sqrt(share * (1 - share) / n + NORMAL**2 / (4 * n**2)) / (1 + NORMAL**2 / n)
    return Interval(found.value, 100 * (middle - half), 100 * (middle + half))


def _limited(name: str, found: Interval) -> Interval:
    """Cut to what the figure can be."""
    lowest, highest = (1.0, math.inf) if name.endswith("r") else (0.0, 600.0 if name == "rsum" else 100.0)
    if found.low == found.high and not name.endswith("medr"):  # values that are all equal do not tell how others vary
        return Interval(found.value, math.nan, math.nan)
    if math.isnan(found.low):
        return found
    return Interval(found.value, min(max(found.low, lowest), highest), min(max(found.high, lowest), highest))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value

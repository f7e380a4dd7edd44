"""Intervals and tests of figures that are means over runs, such as those of several seeds.

They are computed as in `itmkit.statistics.bootstrap`, but what an image contributes to a figure is averaged over the
runs. An image that is drawn is drawn for all runs, so three seeds do not count as three times as many images. The
intervals say how other images would change the figures of these runs. The spread over seeds, shown beside them, says
how other seeds would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.scoring.metrics import mean_over
from itmkit.statistics.bootstrap import RECALLS, RESAMPLES, SIDES, Difference, Interval, differences, intervals
from itmkit.statistics.resampling import Queries, resampled, swapped
from itmkit.studies.kept_ranks import Folds

FIGURES = (*RECALLS, "rsum")


def mean_intervals(runs: Sequence[Folds], *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """95% intervals of the six recalls and rsum, each a mean over runs. A single run gives the same as `intervals`.

    Args:
        runs: the ranks of each run, on the same images and captions.
    """
    if len(runs) == 1:
        every = intervals(runs[0], resamples=resamples, seed=seed)
        return {name: every[name] for name in FIGURES}
    _check(runs)
    influence, _ = _brings(runs)
    found = _intervals(_means(runs), influence, resamples, seed)
    return {name: _limited(one, 600.0 if name == "rsum" else 100.0) for name, one in found.items()}


def mean_differences(
    first: Sequence[Folds], second: Sequence[Folds], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """The mean of some runs minus the mean of others, for the six recalls and rsum.

    Args:
        first, second: the ranks of each run, on the same images and captions. The numbers of runs may differ.

    Raises:
        ItmkitError: the runs were evaluated on different images or captions.
    """
    if len(first) == len(second) == 1:
        every = differences(first[0], second[0], resamples=resamples, seed=seed)
        return {name: every[name] for name in FIGURES}
    _check([*first, *second])
    (ours, our_shares), (theirs, their_shares) = _brings(first), _brings(second)
    mine, others = _means(first), _means(second)
    gains = {name: mine[name] - others[name] for name in FIGURES}
    found = _intervals(gains, {name: ours[name] - theirs[name] for name in FIGURES}, resamples, seed)
    shares = {name: our_shares[name] - their_shares[name] for name in FIGURES}
    chances = swapped(shares, {}, resamples=resamples, seed=seed)
    return {name: Difference(one.value, one.low, one.high, chances[name]) for name, one in found.items()}


def _check(runs: Sequence[Folds]) -> None:
    for run in runs:
        if len(run) != len(runs[0]) or any(
            len(a.of_images) != len(b.of_images) or not np.array_equal(a.image_of, b.image_of)
            for a, b in zip(run, runs[0], strict=True)
        ):
            raise ItmkitError("the runs have ranks of different images or captions; evaluate all on the same split")


def _means(runs: Sequence[Folds]) -> dict[str, float]:
    each = [mean_over([fold.retrieval() for fold in run]).figures() for run in runs]
    return {name: float(np.mean([figures[name] for figures in each])) for name in FIGURES}


def _brings(runs: Sequence[Folds]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """{figure: (n,) float64}: the influence of each image, and its share, as `Queries` has them; means over runs."""
    influence: dict[str, list[np.ndarray]] = {name: [] for name in RECALLS}
    shares: dict[str, list[np.ndarray]] = {name: [] for name in RECALLS}
    for run in runs:
        for side in SIDES:
            queries = Queries.of(run, side)
            for name, values in queries.values().items():
                if f"{side} {name}" in influence:
                    influence[f"{side} {name}"].append(queries.influence(values))
                    shares[f"{side} {name}"].append(queries.per_image(values))
    return _averaged(influence), _averaged(shares)


def _averaged(each: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    means = {name: np.mean(values, axis=0) for name, values in each.items()}
    return means | {"rsum": np.sum([means[name] for name in RECALLS], axis=0)}


def _limited(found: Interval, most: float) -> Interval:
    """The interval, cut to the range of the figure. Images that are all alike do not tell how others vary."""
    if not found.low < found.high:
        return Interval(found.value, math.nan, math.nan)
    return Interval(found.value, max(found.low, 0.0), min(found.high, most))


def _intervals(
    figures: Mapping[str, float], influence: Mapping[str, np.ndarray], resamples: int, seed: int
) -> dict[str, Interval]:
    """Bootstrap-t, as in `itmkit.statistics.bootstrap`; NaN at both ends for one image."""
    t, _ = resampled(influence, {}, queries=1, resamples=resamples, seed=seed)
    found = {}
    for name in FIGURES:
        mine = influence[name]
        low, high = np.quantile(t[name], (0.025, 0.975))
        error = math.sqrt(float((mine**2).mean()) / len(mine)) if len(mine) > 1 else math.nan
        found[name] = Interval(figures[name], figures[name] - float(high) * error, figures[name] - float(low) * error)
    return found

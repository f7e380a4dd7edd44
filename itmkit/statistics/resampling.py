"""Images drawn anew, and runs swapped at random: what `itmkit.statistics.bootstrap` is computed from.

A resample is how often each image was drawn, so that sums over a resample are products of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from itmkit.scoring.metrics import KS, QueryRanks

NUMBERS = 1 << 21  # of resamples that are in memory at a time


@dataclass(frozen=True)
class Queries:
    """Queries of one direction. A figure of theirs is the mean over folds of the figures of each fold.

    Attributes:
        ranks: (q,) int64, 0-based.
        images: (q,) int64, the image of each query, 0..n-1 with none missing.
        folds: (q,) int64, the fold of each, 0..F-1 with none missing.
    """

    ranks: np.ndarray
    images: np.ndarray
    folds: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[QueryRanks], side: str) -> Queries:
        """side: i2t or t2i. parts: the folds; images are counted through."""
        begins = np.cumsum([0, *(len(part.of_images) for part in parts)])
        ranks = [part.of_images if side == "i2t" else part.of_texts for part in parts]
        images = [np.arange(len(part.of_images)) if side == "i2t" else part.image_of for part in parts]
        return cls(
            np.concatenate(ranks),
            np.concatenate([mine + begin for mine, begin in zip(images, begins, strict=False)]),
            np.repeat(np.arange(len(parts)), [len(mine) for mine in ranks]),
        )

    @classmethod
    def together(cls, ranks: np.ndarray, images: np.ndarray) -> Queries:
        """One fold, of any images: (q,) names of any kind."""
        return cls(ranks, np.unique(images, return_inverse=True)[1], np.zeros(len(ranks), np.int64))

    @cached_property
    def n(self) -> int:
        """Images."""
        return int(self.images.max()) + 1

    def values(self) -> dict[str, np.ndarray]:
        """{figure: (q,) float64} of the figures that are means over queries."""
        return {f"R@{k}": np.where(self.ranks < k, 100.0, 0.0) for k in KS} | {"meanr": self.ranks + 1.0}

    def per_image(self, values: np.ndarray) -> np.ndarray:
        """(n,) float64, what each image brings to the figure: their mean is the figure."""
        sizes = np.bincount(self.folds)
        weights = self.n / (len(sizes) * sizes)
        return np.bincount(self.images, weights=weights[self.folds] * values, minlength=self.n)

    def influence(self, values: np.ndarray) -> np.ndarray:
        """(n,) float64, how much more than its part an image brings: their mean is 0, its error that of the figure."""
        means = np.bincount(self.folds, weights=values) / np.bincount(self.folds)
        return self.per_image(values - means[self.folds])

    @cached_property
    def _sorted(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each fold the ranks, rising, and their images."""
        order = np.lexsort((self.ranks, self.folds))
        cuts = np.cumsum(np.bincount(self.folds))[:-1]
        return list(zip(np.split(self.ranks[order], cuts), np.split(self.images[order], cuts), strict=True))

    def medr(self, counts: np.ndarray) -> np.ndarray:
        """(resamples,) float64, without sorting again. counts: (resamples, n) int, how often each image was drawn."""
        return np.mean([_medr(ranks, images, counts) for ranks, images in self._sorted], axis=0)


def _medr(ranks: np.ndarray, images: np.ndarray, counts: np.ndarray, margin: float = 0.1) -> np.ndarray:
    """(resamples,) float64. ranks: rising, images: of each. The median is looked for `margin` around that of ranks."""
    n, size = counts.shape[1], len(ranks)
    begin, end = int(size * (0.5 - margin)), math.ceil(size * (0.5 + margin))
    below = counts @ np.bincount(images[:begin], minlength=n)
    upto = below[:, None] + np.cumsum(counts[:, images[begin:end]], axis=1, dtype=np.int64)
    total = counts @ np.bincount(images, minlength=n)
    middle = np.stack([(total - 1) // 2, total // 2])  # the places of the middle two, or of the middle one twice
    if margin < 0.5 and ((middle < below) | (middle >= upto[:, -1])).any():
        return _medr(ranks, images, counts, 0.5)
    places = [begin + np.count_nonzero(upto <= place[:, None], axis=1) for place in middle]
    # A resample may hold nothing of a small fold: the last rank stands for it.
    low, high = (ranks[np.minimum(place, size - 1)] for place in places)
    return np.floor((low + high) / 2) + 1


def resampled(
    influence: Mapping[str, np.ndarray],
    medians: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    *,
    queries: int,
    resamples: int,
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draws images and says what becomes of each figure.

    Args:
        influence: {figure: (n,) float64} of means, see `Queries.influence`.
        medians: {figure: what gives it for counts (resamples, n)}.
        queries: the most that are looked at for a resample, for the size of what is in memory.

    Returns:
        {figure: (resamples,) float64 t}: how many standard errors the mean of a resample lies above that of the data;
        {figure: (resamples,) float64}: the medians.
    """
    names = list(influence)
    values = np.column_stack([influence[name] for name in names])  # (n, figures)
    n = len(values)
    squares, own = values**2, (values**2).mean(axis=0)
    t: list[np.ndarray] = []
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in medians}
    for counts in _draws(n, max(n, queries), resamples, seed):
        means = counts @ values / n
        spread = counts @ squares / n - means**2
        # A resample of images that are all alike has no error of its own; that of the data stands for it.
        spread = np.where(spread > 1e-9 * own, spread, own)
        t.append(means / np.sqrt(np.where(spread > 0, spread, 1) / n))
        for name, median in medians.items():
            drawn[name].append(median(counts))
    together = np.concatenate(t)
    return dict(zip(names, together.T, strict=True)), {name: np.concatenate(one) for name, one in drawn.items()}


def _draws(n: int, wide: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(some resamples, n) int64: how often each image was drawn, in n draws."""
    random = np.random.default_rng([seed, 0])
    for rows in _portions(wide, resamples):
        drawn = random.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


def swapped(
    shares: Mapping[str, np.ndarray],
    medians: Mapping[str, tuple[Queries, Queries]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """p of each difference: how often it is as large, to either side, where runs are swapped image by image at random.

    Args:
        shares: {figure: (n,) float64}: what each image brings to the difference; their mean is the difference.
        medians: {figure: the queries of both runs} of medr.
    """
    names = list(shares)
    values = np.column_stack([shares[name] for name in names])
    n = len(values)
    both = {name: (_joined(one, other), _joined(other, one)) for name, (one, other) in medians.items()}
    once = np.concatenate([np.ones((1, n), np.int64), np.zeros((1, n), np.int64)], axis=1)
    found = {name: abs(float((a.medr(once) - b.medr(once))[0])) for name, (a, b) in both.items()}
    found |= dict(zip(names, np.abs(values.mean(axis=0)).tolist(), strict=True))
    as_large = dict.fromkeys(found, 0)
    random = np.random.default_rng([seed, 1])
    widest = max([2 * len(one.ranks) for one, _ in medians.values()], default=n)
    for rows in _portions(max(n, widest), resamples):
        kept = random.integers(0, 2, (rows, n))
        differences = dict(zip(names, ((2 * kept - 1) @ values / n).T, strict=True))
        counts = np.concatenate([kept, 1 - kept], axis=1)
        differences |= {name: a.medr(counts) - b.medr(counts) for name, (a, b) in both.items()}
        for name, values_drawn in differences.items():
            as_large[name] += int(np.count_nonzero(np.abs(values_drawn) >= found[name] * (1 - 1e-9) - 1e-12))
    return {name: (1 + count) / (1 + resamples) for name, count in as_large.items()}


def _joined(one: Queries, other: Queries) -> Queries:
    """Both runs' queries, those of the other as of further images: which count is a matter of the counts."""
    return Queries(
        np.concatenate([one.ranks, other.ranks]),
        np.concatenate([one.images, other.images + one.n]),
        np.concatenate([one.folds, other.folds]),
    )


def _portions(wide: int, resamples: int) -> Iterator[int]:
    """How many resamples at a time, each of `wide` numbers."""
    at_once = max(1, NUMBERS // wide)
    for begin in range(0, resamples, at_once):
        yield min(at_once, resamples - begin)

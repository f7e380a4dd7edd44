"""Figures of retrieval where a query has any number of right answers: mAP, precision, R-precision, curves.

A tie counts against the query: an irrelevant item that scores as high as a relevant one stands before it. The rank of
a relevant item, from 1, is the number of irrelevant items that score at least as high, plus the number of relevant
ones that score higher, plus its place among the relevant ones that score the same. Of these ranks alone every figure
is made.

Queries without a relevant item have no figure. They are left out of every mean, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.relevance.relevance import Relevance
from itmkit.scoring.ranks import check_finite
from itmkit.scoring.stored import Scores

KS = (1, 5, 10)
MEMORY = 256 << 20  # bytes of columns of the matrix that are held at a time
PAIRS = 1 << 19  # compared at a time: what fits the cache of a processor
FEW = 16  # relevant items of a query up to which counting is quicker than sorting


@dataclass(frozen=True)
class Ranking:
    """One direction of retrieval, query by query. q queries have a relevant item, among N items.

    Attributes:
        queries: (q,) int64, which they are, rising.
        without: how many queries have no relevant item; they are in none of the figures.
        relevant: (q,) int64, how many relevant items each has (R).
        first: (q,) int64, the 0-based rank of the first relevant item.
        values: {figure: (q,) float64 percent}. With P(r) the share of relevant items among the first r:
            mAP: the mean of P(rank) over all R relevant items (its mean over queries is what carries the name).
            R-precision: P(R).
            mAP@R: the sum of P(rank) over the relevant items among the first R, divided by R.
            R@k: 100 where any of the first k is relevant, else 0.
            P@k: P(k); places beyond the last item count as irrelevant.
            mAP@k: the sum of P(rank) over the relevant items among the first k, divided by R (as trec_eval does).
            mAP@k found: the same divided by how many relevant items there are among the first k (as in work on
                retrieval by category); 0 where there is none.
            hits/min(k,R): the relevant items among the first k, divided by as many as could be there.
        precision, recall: (N,) float64 percent, P(k) and the share of the R relevant items within the first k, for
            k = 1..N, means over queries: the curve with all points.
        eleven: (11,) float64 percent, the best precision at a recall of at least 0, 10, ..., 100 percent, mean over
            queries: the interpolated curve.
    """

    queries: np.ndarray
    without: int
    relevant: np.ndarray
    first: np.ndarray
    values: dict[str, np.ndarray]
    precision: np.ndarray
    recall: np.ndarray
    eleven: np.ndarray

    def figures(self) -> dict[str, float]:
        """The mean of each figure over the queries, percent."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    def cmc(self, most: int) -> np.ndarray:
        """(most,) float64 percent: the queries whose first relevant item is within the first 1, 2, ... most."""
        return cmc(self.first, most)

    def to_json(self) -> dict[str, object]:
        facts = {"queries": len(self.queries), "without": self.without}
        return {**self.figures(), **facts, "eleven": self.eleven.tolist()}


def image_queries(scores: Scores, relevance: Relevance, *, ks: Sequence[int] = KS) -> Ranking:
    """Images as queries, texts as items (i2t).

    Args:
        scores: images x texts, finite; higher is better. Read once, a few rows at a time.
        relevance: of images x texts.
        ks: cut-offs, each at least 1.

    Raises:
        ItmkitError: a score is not finite, or no query has a relevant item (so for an empty split).
    """
    _check_shapes(scores.shape, relevance.shape)
    return _ranking(rows_of(scores, relevance.asked()), relevance, ks)


def text_queries(scores: Scores, relevance: Relevance, *, ks: Sequence[int] = KS, memory: int = MEMORY) -> Ranking:
    """Texts as queries, images as items (t2i).

    Args:
        scores: images x texts, finite; higher is better. Read as often as it takes to hold all columns that are asked
            for in parts of `memory`: 5,000 x 25,000 of float32 twice.
        relevance: of texts x images.
        ks: cut-offs, each at least 1.
        memory: bytes.

    Raises:
        ItmkitError: as `image_queries`.
    """
    _check_shapes(scores.shape[::-1], relevance.shape)
    return _ranking(columns_of(scores, relevance.asked(), memory), relevance, ks)


def cmc(first: np.ndarray, most: int) -> np.ndarray:
    """(most,) float64 percent: the share of queries whose first relevant item is within the first 1, 2, ... most.

    first: (q,) int, 0-based ranks, as of `Ranking` or of `itmkit.scoring.ranks`; q is at least 1.
    """
    return 100 * np.cumsum(np.bincount(np.minimum(first, most), minlength=most + 1)[:most]) / len(first)


def r1_by_label(first: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R@1 of the queries that carry a label, for each label: (labels,) float64 percent, and how many they are.

    A label that no query carries has NaN, and 0.

    Args:
        first: (q,) int, 0-based ranks of the first relevant item.
        labels: (q, labels) bool, of the same queries: `labels[ranking.queries]`.
    """
    if labels.shape[0] != len(first):
        raise ValueError(f"labels {labels.shape} of {len(first)} queries")
    queries = labels.sum(axis=0)
    hits = labels[first == 0].sum(axis=0)
    return np.where(queries > 0, 100 * hits / np.maximum(queries, 1), np.nan), queries


def _check_shapes(scores: tuple[int, int], relevance: tuple[int, int]) -> None:
    if scores != relevance:
        raise ValueError(f"scores of {scores} queries and items, relevance of {relevance}")


def rows_of(scores: Scores, images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some of the images (rising) at a time with their scores, (n, texts)."""
    for start, block in scores.blocks():
        check_finite(start, block)
        mine = images[np.searchsorted(images, start) : np.searchsorted(images, start + len(block))]
        yield mine, block if len(mine) == len(block) else block[mine - start]


def columns_of(scores: Scores, texts: np.ndarray, memory: int = MEMORY) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some of the texts at a time with their scores, (n, images)."""
    images = scores.shape[0]
    if images == 0 or len(texts) == 0:
        return
    _, sample = next(scores.blocks())
    at_once = max(1, memory // (images * sample.itemsize))
    for begin in range(0, len(texts), at_once):
        mine = texts[begin : begin + at_once]
        part = np.empty((len(mine), images), sample.dtype)
        for start, block in scores.blocks():
            if begin == 0:
                check_finite(start, block)
            part[:, start : start + len(block)] = block[:, mine].T
        yield mine, part


def _ranking(parts: Iterator[tuple[np.ndarray, np.ndarray]], relevance: Relevance, ks: Sequence[int]) -> Ranking:
    """parts: some queries at a time, (n,) with their scores (n, items)."""
    if not ks or min(ks) < 1:
        raise ValueError(f"cut-offs {list(ks)}: each must be at least 1")
    queries, items = relevance.shape
    at_once = max(1, PAIRS // max(items, 1))
    found: list[tuple[np.ndarray, ...]] = []
    values: dict[str, list[np.ndarray]] = {}
    hits, shares = np.zeros(items), np.zeros(items)  # relevant items at each rank: how many, and as shares of a query's
    for asked, scores in parts:
        for begin in range(0, len(asked), at_once):
            some = asked[begin : begin + at_once]
            mask = relevance.mask(some)
            counts = np.count_nonzero(mask, axis=1)
            if not counts.all():
                some, mask, counts = some[counts > 0], mask[counts > 0], counts[counts > 0]
            if len(some) == 0:
                continue
            block = scores[begin : begin + at_once]
            block = block if len(block) == len(some) else block[np.isin(asked[begin : begin + at_once], some)]
            ranks = _ranks(block, mask, counts)
            starts = np.cumsum(counts) - counts
            precision = (np.arange(len(ranks)) - np.repeat(starts, counts) + 1) / ranks
            found.append((some, counts, ranks[starts] - 1, _eleven(precision, starts, counts)))
            for name, mine in _figures(ranks, precision, starts, counts, ks).items():
                values.setdefault(name, []).append(100 * mine)
            hits += np.bincount(ranks - 1, minlength=items)
            shares += np.bincount(ranks - 1, weights=np.repeat(1 / counts, counts), minlength=items)
    if not found:
        raise ItmkitError("there is nothing to rank: no query has a relevant item")
    which, relevant, first, eleven = (np.concatenate(one) for one in zip(*found, strict=True))
    return Ranking(
        queries=which,
        without=queries - len(which),
        relevant=relevant,
        first=first,
        values={name: np.concatenate(mine) for name, mine in values.items()},
        precision=100 * np.cumsum(hits) / np.arange(1, items + 1) / len(which),
        recall=100 * np.cumsum(shares) / len(which),
        eleven=100 * eleven.mean(axis=0),
    )


def _figures(
    ranks: np.ndarray, precision: np.ndarray, starts: np.ndarray, counts: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Each figure of each query, 0..1. ranks: of the relevant items of one query after the other; precision: there."""

    def total(of: np.ndarray) -> np.ndarray:
        return np.add.reduceat(of, starts, dtype=np.float64)

    within = ranks <= np.repeat(counts, counts)
    out = {"mAP": total(precision) / counts, "R-precision": total(within) / counts}
    out["mAP@R"] = total(np.where(within, precision, 0)) / counts
    for k in ks:
        near = ranks <= k
        hits, sums = total(near), total(np.where(near, precision, 0))
        out |= {f"R@{k}": (hits > 0).astype(np.float64), f"P@{k}": hits / k}
        out |= {f"mAP@{k}": sums / counts, f"mAP@{k} found": sums / np.maximum(hits, 1)}
        out[f"hits/min({k},R)"] = hits / np.minimum(k, counts)
    return out


def _eleven(precision: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n, 11): the best precision from the relevant item on that brings recall to 0, 10, ... 100 percent."""
    needed = np.maximum(1, -(-counts[:, None] * np.arange(11) // 10))
    best = np.maximum.reduceat(precision, (starts[:, None] + needed - 1).ravel()).reshape(-1, 11)
    return np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]


def _ranks(scores: np.ndarray, mask: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks from 1 of the relevant items, rising for one query, one query after the other. scores, mask: (n, items)."""
    if counts.max() > FEW:
        return _ranks_by_sorting(scores, mask)
    rows, items = np.nonzero(mask)
    there = np.arange(int(counts.max())) < counts[:, None]  # (n, most)
    own = np.full(there.shape, np.inf, np.result_type(scores, np.float32))
    own[there] = -scores[rows, items]
    own = -np.sort(own, axis=1)
    ranks = np.empty(own.shape, np.int64)
    for place in range(own.shape[1]):
        worst = own[:, place : place + 1]
        others = np.count_nonzero(scores >= worst, axis=1) - np.count_nonzero((own >= worst) & there, axis=1)
        ranks[:, place] = others + place + 1
    return ranks[there]


def _ranks_by_sorting(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The same for many relevant items.

    Scores become whole numbers in the reverse order, whose last bit is free to say which item is relevant. Sorting
    them sorts relevant ones behind irrelevant ones of the same score.
    """
    values = scores.astype(np.float64) + 0.0  # minus zero becomes zero
    largest = float(np.abs(values).max())
    if largest >= 2:  # the keys of numbers below 2 leave the upper bit free, so that it may be shifted out
        values *= math.ldexp(1, 1 - math.frexp(largest)[1])
    keys = values.view(np.int64)
    keys ^= (keys >> 63) & np.int64(2**63 - 1)  # negative numbers, which have a sign and a size, in rising order
    np.invert(keys, out=keys)
    keys <<= 1
    keys |= mask
    keys.sort(axis=1)
    return np.flatnonzero((keys & 1).astype(bool)) % keys.shape[1] + 1

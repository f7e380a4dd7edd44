"""Which items answer a query: listed one by one, or all that share a label with it.

Both forms say it for some queries at a time, so that no matrix of queries x items has to be in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from itmkit.errors import ItmkitError


class Relevance(Protocol):
    @property
    def shape(self) -> tuple[int, int]:
        """Queries, items."""
        ...

    def asked(self) -> np.ndarray:
        """(n,) int64, rising: the queries that may have a relevant item. All others have none."""
        ...

    def mask(self, queries: np.ndarray) -> np.ndarray:
        """(len(queries), items) bool: which items are relevant to these queries."""
        ...


@dataclass(frozen=True)
class Listed:
    """The relevant items of each query, listed: those of query q are `items[offsets[q] : offsets[q + 1]]`.

    Args:
        offsets: (queries + 1,) int64, from 0, never falling. A query may have no relevant item.
        items: (offsets[-1],) int64, positions below `of`, in any order, none twice for a query.
        of: how many items there are.

    Raises:
        ItmkitError: an item that does not exist, or that a query has twice.
    """

    offsets: np.ndarray
    items: np.ndarray
    of: int

    def __post_init__(self) -> None:
        if len(self.offsets) == 0 or self.offsets[0] != 0 or (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets start with 0 and never fall")
        if self.items.shape != (self.offsets[-1],):
            raise ValueError(f"items {self.items.shape} and offsets up to {self.offsets[-1]} do not fit")
        owner = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        outside = np.flatnonzero((self.items < 0) | (self.items >= self.of))
        problems = []
        if len(outside):
            query, item = owner[outside[0]], self.items[outside[0]]
            problems.append(f"query {query}: relevant item {item} does not exist, there are {self.of:,} (from 0)")
        order = np.lexsort((self.items, owner))
        twice = np.flatnonzero((np.diff(owner[order]) == 0) & (np.diff(self.items[order]) == 0))
        if len(twice):
            at = order[twice[0]]
            problems.append(f"query {owner[at]}: item {self.items[at]} is listed twice; list each relevant item once")
        if problems:
            raise ItmkitError(problems)

    @classmethod
    def of_pairs(cls, queries: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> Listed:
        """From pairs of a query and an item relevant to it. queries, items: (pairs,) int, in any order."""
        order = np.argsort(queries, kind="stable")
        counts = np.bincount(queries, minlength=shape[0])
        if len(counts) > shape[0]:
            raise ItmkitError(f"query {int(queries.max())} does not exist, there are {shape[0]:,} (from 0)")
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items[order].astype(np.int64), shape[1])

    @classmethod
    def of_lists(cls, lists: Sequence[Sequence[int]], items: int) -> Listed:
        """From the relevant items of every query."""
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
        return cls(offsets, np.array([item for one in lists for item in one], np.int64), items)

    @classmethod
    def own_captions(cls, image_of: np.ndarray, images: int) -> Listed:
        """Queries are images, relevant are their own captions; `.transposed()` is for captions as queries.

        image_of: (texts,) int, the image of each caption; -1 where it has none, so that it is nobody's answer.
        """
        texts = np.flatnonzero(image_of >= 0)
        return cls.of_pairs(image_of[texts], texts, (images, len(image_of)))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.offsets) - 1, self.of

    def transposed(self) -> Listed:
        """The same pairs, asked from the other side."""
        queries = np.repeat(np.arange(self.shape[0]), np.diff(self.offsets))
        return Listed.of_pairs(self.items, queries, (self.of, self.shape[0]))

    def asked(self) -> np.ndarray:
        return np.flatnonzero(np.diff(self.offsets))

    def mask(self, queries: np.ndarray) -> np.ndarray:
        begins, counts = self.offsets[queries], self.offsets[queries + 1] - self.offsets[queries]
        rows = np.repeat(np.arange(len(queries)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        out = np.zeros((len(queries), self.of), bool)
        out[rows, self.items[begins[rows] + within]] = True
        return out


@dataclass(frozen=True)
class SharedLabels:
    """Retrieval by category: an item is relevant to a query if they share at least one label.

    Args:
        queries, items: (n, labels) bool.
    """

    queries: np.ndarray
    items: np.ndarray

    def __post_init__(self) -> None:
        if self.queries.ndim != 2 or self.items.ndim != 2 or self.queries.shape[1] != self.items.shape[1]:
            raise ValueError(f"labels {self.queries.shape} of queries and {self.items.shape} of items do not fit")

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.queries), len(self.items)

    def transposed(self) -> SharedLabels:
        return SharedLabels(self.items, self.queries)

    def asked(self) -> np.ndarray:
        return np.flatnonzero(self.queries.any(axis=1))

    def mask(self, queries: np.ndarray) -> np.ndarray:
        mine, theirs = _bits(self.queries[queries]), self._items_bits
        out = np.zeros((len(mine), len(self.items)), bool)
        for word in range(mine.shape[1]):
            out |= (mine[:, word, None] & theirs[word]) != 0
        return out

    @cached_property
    def _items_bits(self) -> np.ndarray:
        """(words, n) uint64: for 80 labels two comparisons a pair, and no product of matrices."""
        return np.ascontiguousarray(_bits(self.items).T)


def _bits(labels: np.ndarray) -> np.ndarray:
    """(n, words) uint64: 64 labels a word."""
    packed = np.packbits(labels, axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)

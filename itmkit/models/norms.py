"""Norms and sparsity of the vectors in a cache, from some of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from itmkit.cache import CacheReader, Column
from itmkit.errors import ItmkitError

ROWS = 200  # that are looked at, evenly spread
VECTORS = ("features", "cls", "vector", "vectors", "sentence")


@dataclass(frozen=True)
class Norms:
    """What the vectors of a column are like.

    low, median, high: of the norms, at 5 %, 50 % and 95 %. zeros: the share of numbers that are zero. count: vectors.
    """

    low: float
    median: float
    high: float
    zeros: float
    count: int

    def __str__(self) -> str:
        span = f"norms {self.low:.3g} to {self.high:.3g}, median {self.median:.3g}"
        return f"{span}; {self.zeros:.1%} of the numbers are zero"


def vector_columns(columns: Mapping[str, Column]) -> list[str]:
    """The names of those columns of a cache that hold vectors."""
    return [name for name in VECTORS if name in columns and columns[name].shape]


def norms(cache: CacheReader, name: str) -> Norms | None:
    """Of the vectors of a column, places past a picture's last region left out; None if there are none.

    Raises:
        ItmkitError: the cache is damaged.
    """
    total = cache.manifest.count
    rows = np.unique(np.linspace(0, total - 1, min(total, ROWS)).astype(np.int64)) if total else np.zeros(0, np.int64)
    if not len(rows):
        return None
    if cache.columns[name].kind == "row":
        found = cache.read(name, rows)
        if found.ndim == 3 and "count" in cache.columns:
            count = cache.read("count", rows)
            found = found[np.arange(found.shape[1]) < count[:, None]]
    else:
        found = cache.read_ragged([name], rows)[0][name]
    return norms_of(found.reshape(-1, found.shape[-1]))


def norms_of(vectors: np.ndarray) -> Norms | None:
    """Of vectors (n, D); None if there are none."""
    if not len(vectors):
        return None
    vectors = vectors.astype(np.float32)
    low, median, high = np.percentile(np.linalg.norm(vectors, axis=1), [5, 50, 95])
    return Norms(float(low), float(median), float(high), float((vectors == 0).mean()), len(vectors))


def facts_of_norms(cache: CacheReader) -> list[tuple[str, str]]:
    """Facts for a report: one of each column of vectors, as far as it can be read."""
    facts = []
    for name in vector_columns(cache.columns):
        try:
            found = norms(cache, name)
        except (ItmkitError, OSError) as error:
            facts.append((f"norms of {name}", f"not readable ({error})"))
        else:
            facts += [(f"norms of {name}", str(found))] if found else []
    return facts

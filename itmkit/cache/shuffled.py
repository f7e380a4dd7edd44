"""Shuffled batches of a cache that may be far larger than memory.

Rows are read one by one at their place in the file, so any order costs the same on a solid-state disk. A few threads
read ahead of whoever takes the batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from itmkit.cache.reader import CacheReader
from itmkit.machine.ahead import work_ahead


def shuffled_batches(
    reader: CacheReader,
    columns: Sequence[str],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rows: np.ndarray | None = None,
    threads: int = 2,
    ahead: int = 2,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Every row once, in an order that follows from (seed, epoch) alone.

    At most `ahead` batches are in memory besides the one given out last.

    Args:
        columns: names of row columns.
        rows: (n,) the row numbers to deliver; all by default.
        threads: how many threads read. The order and the content do not depend on their number.

    Yields:
        (row numbers (b,) int64, {column: (b, *shape)}), where b = batch_size. The last batch may be smaller.
    """
    order = np.arange(len(reader)) if rows is None else np.asarray(rows, np.int64)
    order = np.random.default_rng([seed, epoch]).permutation(order)
    batches = (order[start : start + batch_size] for start in range(0, len(order), batch_size))

    def read(item: tuple[np.ndarray, dict[str, np.ndarray]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        which, batch = item
        return which, {name: reader.read(name, which, out=batch[name]) for name in columns}

    # Made here, in the thread that gives them up again, so that the memory of one batch serves a later one.
    items = ((which, {name: reader.empty(name, len(which)) for name in columns}) for which in batches)
    reader.prepare(columns)  # opens the files here: HDF5's handles are made by one thread only
    with ThreadPoolExecutor(threads) as pool:
        yield from work_ahead(pool, read, items, ahead=ahead)

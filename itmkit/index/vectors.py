"""The candidate vectors of one side of an index, images or captions: in chunks on disk, mapped into memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

import numpy as np

BLOCK_BYTES = 1 << 25  # of vectors that are compared at once


class Vectors:
    """n vectors of one size, addressed by their position over all chunks.

    Attributes:
        chunks: (n_k, C) float32 each; starts: the first position of each chunk, and n.
        dead: (n,) bool, what is no longer found.
    """

    def __init__(self, chunks: Sequence[np.ndarray], dead: np.ndarray) -> None:
        self.chunks, self.dead = chunks, dead
        self.starts = np.concatenate([[0], np.cumsum([len(chunk) for chunk in chunks])]).astype(np.int64)

    def __len__(self) -> int:
        """Positions, dead ones among them."""
        return int(self.starts[-1])

    @property
    def alive(self) -> int:
        return len(self) - int(self.dead.sum())

    def blocks(self, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """(position of the first vector, vectors), from position `first` on, a few megabytes at a time."""
        for start, chunk in zip(self.starts[:-1].tolist(), self.chunks, strict=True):
            size = max(1, BLOCK_BYTES // max(1, chunk.shape[1] * chunk.itemsize))
            for at in range(max(0, first - start), len(chunk), size):
                yield start + at, chunk[at : at + size]

    def at(self, positions: np.ndarray) -> np.ndarray:
        """(n, C) float32 vectors at some positions, in their order; read in the order of the files."""
        return gathered(self.chunks, self.starts, positions)


def gathered(chunks: Sequence[np.ndarray], starts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows at some positions over all chunks, in the order asked for; they are read in the order of the files."""
    width = chunks[0].shape[1] if chunks else 0
    found = np.empty((len(positions), width), chunks[0].dtype if chunks else np.float32)
    number = np.searchsorted(starts, positions, side="right") - 1
    order = np.argsort(positions, kind="stable").tolist()
    places = [(int(number[place]), int(positions[place] - starts[number[place]])) for place in order]
    for k, row in places:
        _ask_for(chunks[k], row)
    for place, (k, row) in zip(order, places, strict=True):
        found[place] = chunks[k][row]
    return found


def _ask_for(chunk: np.ndarray, row: int) -> None:
    """Asks the system to read a row of a mapped file soon: a disk reads many at once faster than one by one."""
    if isinstance(chunk, np.memmap) and isinstance(chunk.base, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        size = chunk.shape[1] * chunk.itemsize
        begin = chunk.offset + row * size
        first = begin // mmap.PAGESIZE * mmap.PAGESIZE
        chunk.base.madvise(mmap.MADV_WILLNEED, first, begin + size - first)


def largest(products: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` largest numbers of (n,), the largest first; of equal ones the earlier position first."""
    if not count:
        return np.zeros(0, np.int64)
    edge = np.partition(products, len(products) - count)[len(products) - count]
    # All above the edge, and of those at the edge the earliest ones.
    above, at = np.flatnonzero(products > edge), np.flatnonzero(products == edge)
    chosen = np.concatenate([above, at[: count - len(above)]])
    return chosen[np.lexsort((chosen, -products[chosen]))]

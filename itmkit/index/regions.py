"""Search by a region: its vector against that of every region of the index, as the matcher made them.

A cosine is the weighted mean of those of the members. All rows of the index are read, some megabytes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.index.store import Store
from itmkit.index.vectors import largest
from itmkit.matchers import Encoded

BLOCK_BYTES = 1 << 25  # of rows that are read at once


def region_vector(store: Store, weights: Mapping[str, float], position: int, region: int) -> np.ndarray:
    """(D,) of a region of the image at a position: unit vectors of the members side by side.

    Raises:
        ItmkitError: the image has no such region, or the rows keep no regions.
    """
    if not store.facts.regions:
        raise ItmkitError(
            f"{store.folder}: {store.facts.method} keeps no vectors of regions; index a method that compares regions,"
            " such as mpsm or scan"
        )
    vectors, real = vectors_of_regions(store.format.unpack(store.read(np.array([position]))), weights)
    count = int(real[0].sum())
    if not 0 <= region < len(real[0]) or not real[0, region]:
        raise ItmkitError(f"--region {store.ids[position]}:{region}: the image has the regions 0 to {count - 1}")
    return vectors[0, region]


def nearest_regions(
    store: Store,
    weights: Mapping[str, float],
    query: np.ndarray,
    count: int,
    *,
    among: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, cosines and region numbers, (n,) each, of the images with the regions most like `query` (D,).

    Of each image its most similar region counts; of equal cosines the earlier position and region.

    Args:
        among: positions, in order, of the images that are compared; all by default.
    """
    here = np.arange(len(store)) if among is None else among
    best = np.empty(len(here), np.float32)
    which = np.empty(len(here), np.int64)
    done = 0
    for rows in _blocks(store, among):
        vectors, real = vectors_of_regions(store.format.unpack(rows), weights)
        cosines = np.where(real, vectors @ query, -np.inf)
        places = slice(done, done + len(rows))
        which[places], best[places] = cosines.argmax(axis=1), cosines.max(axis=1)
        done += len(rows)
    best[store.dead[here]] = -np.inf
    found = largest(best, min(count, int(np.isfinite(best).sum())))
    return here[found], best[found], which[found]


def _blocks(store: Store, among: np.ndarray | None) -> Iterator[np.ndarray]:
    """(n, bytes) uint8 rows, about `BLOCK_BYTES` at a time."""
    size = max(1, BLOCK_BYTES // store.format.bytes)
    if among is not None:
        for start in range(0, len(among), size):
            yield store.read(among[start : start + size])
        return
    for rows in store.rows():
        for start in range(0, len(rows), size):
            yield np.asarray(rows[start : start + size])


def vectors_of_regions(encoded: Mapping[str, Encoded], weights: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """(n, R, D) float32, the members side by side, and (n, R) bool, True where a region is real."""
    total = sum(weights[member] for member in encoded)
    parts = []
    for member, each in encoded.items():
        nodes = each["nodes"].float().cpu().numpy()
        length = np.sqrt(np.einsum("nrd,nrd->nr", nodes, nodes))[..., None]
        parts.append(nodes / np.maximum(length, 1e-12) * (weights[member] / total) ** 0.5)
    real = next(iter(encoded.values()))["mask"].cpu().numpy()
    return np.concatenate(parts, axis=2), real

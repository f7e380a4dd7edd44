"""Search by a region: its vector against that of every region of the index, as the matcher made them.

A cosine is the weighted mean of those of the members. All rows of the index are read, some megabytes at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    vectors, real = _regions(store.format.unpack(store.read(np.array([position]))), weights)
    count = int(real[0].sum())
    if not 0 <= region < len(real[0]) or not real[0, region]:
        raise ItmkitError(f"--region {store.ids[position]}:{region}: the image has the regions 0 to {count - 1}")
    return vectors[0, region]


def nearest_regions(
    store: Store, weights: Mapping[str, float], query: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, cosines and region numbers, (n,) each, of the images with the regions most like `query` (D,).

    Of each image its most similar region counts; of equal cosines the earlier position and region.
    """
    best = np.full(len(store), -np.inf, np.float32)
    which = np.zeros(len(store), np.int64)
    size = max(1, BLOCK_BYTES // store.format.bytes)
    for first, rows in store.rows():
        for at in range(0, len(rows), size):
            vectors, real = _regions(store.format.unpack(np.asarray(rows[at : at + size])), weights)
            cosines = np.where(real, vectors @ query, -np.inf)
            here = slice(first + at, first + at + len(cosines))
            which[here] = cosines.argmax(axis=1)
            best[here] = cosines.max(axis=1)
    best[store.dead] = -np.inf
    positions = largest(best, min(count, int(np.isfinite(best).sum())))
    return positions, best[positions], which[positions]


def _regions(encoded: Mapping[str, Encoded], weights: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """(n, R, D) float32 and (n, R) bool, True where a region is real."""
    total = sum(weights[member] for member in encoded)
    parts = []
    for member, each in encoded.items():
        nodes = each["nodes"].numpy()
        length = np.sqrt(np.einsum("nrd,nrd->nr", nodes, nodes))[..., None]
        parts.append(nodes / np.maximum(length, 1e-12) * (weights[member] / total) ** 0.5)
    real = next(iter(encoded.values()))["mask"].numpy()
    return np.concatenate(parts, axis=2), real

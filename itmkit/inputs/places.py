"""Where the patches of a picture lie: what caches/graphs/images holds of regions, from the boxes in a cache of patches.

It is computed batch by batch instead of stored: its room grows with the square of the number of patches. Of 196 it is
more than half that of the patches themselves, of 1,369 several times as much.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from itmkit.graphs import block_positions, polar_coordinates

Arrays = tuple[np.ndarray, np.ndarray]


def places_of_patches(boxes: np.ndarray, sizes: np.ndarray, *, polar: bool, blocks: bool) -> dict[str, np.ndarray]:
    """Positions of the patches of n pictures, by the names of the columns of caches/graphs/images.

    Args:
        boxes: (n, P, 4) x1 y1 x2 y2 in pixels of the picture; sizes: (n, 2) width, height.
        polar, blocks: which of the two are wanted.

    Returns:
        polar_rho and polar_theta (n, P, P) float16; blocks (n, P, 15) int16 and block_weights (n, P, 15) float32, of 16
        x 16 blocks.
    """
    found: dict[str, np.ndarray] = {}
    if polar:
        found["polar_rho"], found["polar_theta"] = _each_grid(polar_coordinates, boxes, sizes)
    if blocks:
        # As shares of the picture all grids of a cache are one, whatever size the pictures have.
        shares = np.round(boxes / np.tile(sizes, 2)[:, None].astype(np.float64), 6)
        found["blocks"], found["block_weights"] = _each_grid(block_positions, shares, np.ones_like(sizes))
    return found


def _each_grid(compute: Callable[[np.ndarray, np.ndarray], Arrays], boxes: np.ndarray, sizes: np.ndarray) -> Arrays:
    """`compute` of boxes and sizes, once for all pictures in which they are the same."""
    rows = np.concatenate([boxes.reshape(len(boxes), -1), sizes], axis=1)
    _, first, grid = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    # One grid after the other: in float64 those of a whole batch would need many times the room of the result.
    each = [compute(boxes[at : at + 1], sizes[at : at + 1]) for at in first]
    one, other = (np.concatenate(column) for column in zip(*each, strict=True))
    return one[grid.reshape(-1)], other[grid.reshape(-1)]

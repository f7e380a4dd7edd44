"""The fixed windows of `--backend grid`, and the mean of a feature map over each."""

from __future__ import annotations

import numpy as np

from itmkit.errors import ItmkitError


def windows(regions: int = 36) -> np.ndarray:
    """(regions, 4) float64 x1 y1 x2 y2 in [0, 1], the whole picture first, then ever smaller windows.

    1 whole; 2 x 2 of side 0.6; 3 upright and 3 lying strips of half the picture; 3 x 3 of side 0.4; 4 x 4 of side 0.3;
    5 x 5 of side 0.24; and so on: each overlaps its neighbours. Sums of these steps are possible: 1, 5, 11, 20, 36,
    61, 97, ...

    Raises:
        ItmkitError: another number of regions.
    """
    found = [np.array([[0.0, 0.0, 1.0, 1.0]])]
    steps = [1]
    for side in range(2, 64):
        if steps[-1] >= regions:
            break
        found.append(_tiles(side, side, 1.2 / side, 1.2 / side))
        steps.append(steps[-1] + side * side)
        if side == 2:
            found += [_tiles(3, 1, 0.5, 1.0), _tiles(1, 3, 1.0, 0.5)]
            steps.append(steps[-1] + 6)
    if regions not in steps:
        some = "1, 5, 11, 20, 36, 61, 97, 146"
        raise ItmkitError(f"--regions {regions}: the windows of --backend grid come in sets of {some}, ...")
    return np.concatenate(found)[:regions]


def _tiles(columns: int, rows: int, width: float, height: float) -> np.ndarray:
    left = np.linspace(0, 1 - width, columns)
    top = np.linspace(0, 1 - height, rows)
    x, y = np.meshgrid(left, top)
    return np.stack([x, y, x + width, y + height], axis=-1).reshape(-1, 4)


def pooling_weights(boxes: np.ndarray, side: int) -> np.ndarray:
    """(R, side * side) float32: how much of each window lies in each cell of the map; every row sums to 1."""
    edge = np.arange(side)
    low, high = boxes[:, :2, None] * side, boxes[:, 2:, None] * side
    share = np.clip(np.minimum(high, edge + 1) - np.maximum(low, edge), 0, None)  # (R, 2, side)
    weights = (share[:, 1, :, None] * share[:, 0, None, :]).reshape(len(boxes), -1)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

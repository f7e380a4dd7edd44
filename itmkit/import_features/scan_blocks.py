"""PFAN's and GLFN's `{name}_boxes.npy` in a folder of the SCAN layout: block positions instead of boxes.

The shape is (N, R, 30), or (N, R, 31) with a last column that means nothing. Columns 0 to 14 are numbers of blocks of a
16 x 16 grid, 0 to 255, with 256 for padding. Columns 15 to 29 are the shares of these blocks in the region. Here, as in
`itmkit.graphs`, blocks are numbered 1 to 256 and 0 is padding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from itmkit.cache import Column
from itmkit.import_features.npy import NpyRows
from itmkit.import_features.scan_layout import BadRows

KEEP, PADDING = 15, 256
WIDTHS = (2 * KEEP, 2 * KEEP + 1)


def block_columns(regions: int) -> dict[str, Column]:
    """The columns that a regions cache has besides the usual ones if block positions were imported."""
    return {"blocks": Column("int16", (regions, KEEP)), "block_weights": Column("float32", (regions, KEEP))}


def read_blocks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(numbers (n, R, 15) int16, shares (n, R, 15) float32) of rows (n, R, 30 or 31) of the file.

    A place is padding, number 0 and share 0, where the file says 256 and where its share is 0.
    """
    numbers, shares = values[..., :KEEP], values[..., KEEP : 2 * KEEP].astype(np.float32)
    real = (numbers != PADDING) & (shares > 0)
    return np.where(real, numbers + 1, 0).astype(np.int16), np.where(real, shares, np.float32(0))


def check_blocks(array: NpyRows, names: Callable[[int], str], bad: BadRows) -> None:
    """Adds the rows with wrong values to `bad`."""
    reasons = ("block numbers that are not whole numbers from 0 to 256", "shares that are negative, NaN or infinite")
    for start, block in array.blocks():
        numbers, shares = block[..., :KEEP], block[..., KEEP : 2 * KEEP]
        with np.errstate(invalid="ignore"):
            whole = (numbers >= 0) & (numbers <= PADDING) & (numbers == np.floor(numbers))
        for why, wrong in zip(reasons, (~whole, ~(np.isfinite(shares) & (shares >= 0))), strict=True):
            for row in np.flatnonzero(wrong.any(axis=(1, 2))):
                bad.add(array.path, why, int(start + row), names(int(start + row)))

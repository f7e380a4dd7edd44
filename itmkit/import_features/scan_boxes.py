"""`{name}_boxes.npy` of the SCAN layout: boxes in pixels, or in shares of their pictures, that lie inside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from itmkit.import_features.box_units import AROUND_ZERO, LARGER, NO_AREA, NOT_ORDERED, WITHIN_ONE, BoxUnits
from itmkit.import_features.region_sets import BOX_SLACK
from itmkit.import_features.scan_layout import BadRows, ScanSplit, SizeOrder

BEYOND = "a box beyond the edge of the picture"


def check_boxes(
    found: ScanSplit, sizes: np.ndarray | None, names: Callable[[int], str], size_order: SizeOrder, bad: BadRows
) -> None:
    """Adds the rows whose boxes cannot be used to `bad`, and sets `found.shares`.

    Args:
        sizes: (N, 2) width, height of the rows, 0 where unknown; None where all are unknown.
        names: how a row is called in messages.
    """
    boxes = found.arrays["boxes"]
    n = len(found.features)

    def note(why: str, where: np.ndarray, first: int) -> None:
        for row in np.flatnonzero(where):
            bad.add(boxes.path, why, int(first + row), names(int(first + row)))

    largest, smallest, fits = np.zeros(n), np.zeros(n), _Fits(sizes)
    for start, block in boxes.blocks():
        box = block.astype(np.float64)
        finite = np.isfinite(box).all(axis=(1, 2))
        note("NaN or infinity", ~finite, start)
        unordered: np.ndarray = (block[..., 2:] < block[..., :2]).any(axis=(1, 2)) & finite
        box = np.where(finite[:, None, None], box, 0.0)
        note(NOT_ORDERED, unordered, start)
        with_area = np.all(box[..., 2:] > box[..., :2], axis=2)
        flat: np.ndarray = finite & ~unordered & ~np.any(with_area, axis=1)
        for row in np.flatnonzero(flat):
            # A row of zeros is a picture without regions, and needs no boxes.
            flat[row] = found.features.read(start + int(row), start + int(row) + 1).any()
        note(NO_AREA, flat, start)
        largest[start : start + len(box)] = box.max(axis=(1, 2), initial=0)
        smallest[start : start + len(box)] = box.min(axis=(1, 2), initial=0)
        note(BEYOND, fits.beyond(box, start), start)
    if (boxes.path, BEYOND) in bad.found and fits.turned and not fits.inside:
        other = "height-width" if size_order == "width-height" else "width-height"
        bad.hints[boxes.path, BEYOND] = f"; with --size-order {other} all would fit"

    sides = np.full(n, np.inf) if sizes is None else sizes.max(axis=1)
    around = (sides > LARGER) & (largest > 0) & (largest <= WITHIN_ONE) & (smallest < 1 - WITHIN_ONE)
    note(AROUND_ZERO, around, 0)
    units = BoxUnits()
    for row in np.flatnonzero(~around):
        units.add(int(row), float(largest[row]), float(sides[row]))
    found.shares = units.shares
    odd, what = units.odd_ones()
    note(what, np.isin(np.arange(n), odd), 0)


class _Fits:
    """Whether boxes lie inside their pictures, and whether they would with width and height exchanged."""

    def __init__(self, sizes: np.ndarray | None) -> None:
        self._sizes = sizes
        self.inside = self.turned = True

    def beyond(self, box: np.ndarray, start: int) -> np.ndarray:
        """(n,) bool of boxes (n, R, 4), which are those of row `start` and the rows that follow."""
        if self._sizes is None:
            return np.zeros(len(box), bool)
        size = self._sizes[start : start + len(box)]
        limit = np.where(size > 0, size + BOX_SLACK, np.inf)
        far = box[..., 2:].max(axis=1, initial=0)
        self.inside &= bool((far <= limit).all())
        self.turned &= bool((far <= limit[:, ::-1]).all())
        return (box.min(axis=(1, 2), initial=0) < -BOX_SLACK) | (far > limit).any(axis=1)

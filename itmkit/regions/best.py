"""From the boxes a detector gives for a picture to its regions: the best ones, in pixels.

Q: boxes of one picture; D: width of their vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.regions.regions import Regions


@dataclass(frozen=True)
class Boxes:
    """What a detector gives for one picture.

    scores: (Q,) float32, of the best class of each box; classes: (Q,) its number.
    boxes: (Q, 4) float32, centre x, centre y, width, height as shares of the picture.
    vectors: (Q, D) float32.
    """

    scores: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    vectors: np.ndarray


def check_finite(found: Boxes, who: str) -> None:
    """Raises ItmkitError if there are NaN or infinities. who: "a.jpg: the detector models/x", for the message."""
    for what, values in (("class scores", found.scores), ("boxes", found.boxes), ("features", found.vectors)):
        if not np.isfinite(values).all():
            raise ItmkitError(f"{who} gives {what} that are not finite (NaN or infinite)")


def best_regions(
    found: Boxes, size: tuple[int, int], names: Sequence[str], *, most: int, nms: float | None = None
) -> Regions:
    """The boxes with the best scores, best first; equal ones by number.

    Args:
        size: (width, height) of the picture in pixels; boxes are clipped to it.
        names: of the classes.
        most: how many regions at most.
        nms: leave out a box that overlaps a better one by more than this IoU; None: leave out none.
    """
    corner = np.array([*size, *size])
    half = found.boxes[:, 2:] / 2
    pixels = np.concatenate([found.boxes[:, :2] - half, found.boxes[:, :2] + half], 1) * corner.astype(np.float32)
    pixels = np.clip(pixels, 0, corner).astype(np.float32)
    order = np.argsort(-found.scores, kind="stable")
    if nms is not None:
        order = _without_duplicates(pixels, order, nms, most)
    order = order[:most]
    return Regions(
        boxes=pixels[order],
        scores=found.scores[order].astype(np.float32),
        features=np.ascontiguousarray(found.vectors[order], dtype=np.float32),
        tags=[names[number] for number in found.classes[order]],
    )


def _without_duplicates(boxes: np.ndarray, order: np.ndarray, overlap: float, most: int) -> np.ndarray:
    """The first `most` of `order` (best first), where each box (Q, 4) drops later ones with an IoU above `overlap`."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(order) and len(kept) < most:
        first, order = int(order[0]), order[1:]
        kept.append(first)
        low = np.maximum(boxes[first, :2], boxes[order, :2])
        high = np.minimum(boxes[first, 2:], boxes[order, 2:])
        both = np.clip(high - low, 0, None).prod(1)
        iou = both / np.maximum(area[first] + area[order] - both, 1e-9)
        order = order[iou <= overlap]
    return np.array(kept, dtype=np.int64)

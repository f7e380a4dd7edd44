"""Which of a detector's proposals become the regions of a picture.

Shapes: n proposals of one picture, C classes without the background. Boxes are x1 y1 x2 y2, their area is
(x2 - x1) * (y2 - y1). IoU: area of the intersection over area of the union.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ORIGINAL_NMS = 0.3  # IoU above which the Caffe tool drops a box of the same class
KEEP = 0.2  # the confidence from which a region is kept beyond the least number
REGRESSED_NMS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # the first that leaves enough regions


@dataclass(frozen=True)
class Selected:
    """k regions of a picture, best first; equal scores by proposal number.

    proposals: (k,) int64, the rows of the proposals. scores: (k,) float32. classes: (k,) int64, the most probable
    class of each proposal.
    """

    proposals: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def select_original(
    boxes: np.ndarray, scores: np.ndarray, *, least: int, most: int, nms: float = ORIGINAL_NMS, keep: float = KEEP
) -> Selected:
    """The selection of the original Caffe tool, over boxes as the proposal network gives them.

    Boxes compete within each class: one that overlaps a better one of the class by IoU > `nms` loses its score there.
    The highest score that a proposal has left is its confidence. Those of confidence >= `keep` become regions, at
    least `least` (where there are that many proposals) and at most `most`.

    Args:
        boxes: (n, 4) proposals. scores: (n, C) class probabilities.
    """
    # Only scores above a floor can put out one another above it. A high floor leaves few classes to look at; it is
    # lowered until it leaves enough regions. The result is that of floor 0.
    floor = keep
    while True:
        confidence = surviving_scores(boxes, scores, nms=nms, floor=floor)
        if floor == 0 or (confidence > 0).sum() >= least:
            break
        floor = floor / 4 if floor > 1e-3 else 0.0
    order = np.argsort(-confidence, kind="stable")
    count = min(most, max(least, int((confidence >= keep).sum())))
    return _selected(order[:count], confidence, scores)


def select_regressed(
    boxes: np.ndarray, scores: np.ndarray, *, least: int, most: int, nms: tuple[float, ...] = REGRESSED_NMS
) -> Selected:
    """The selection of later ports, over boxes after regression: the best that do not overlap, whatever their class.

    Boxes compete by the score of their best class. The IoU above which one drops a worse one is the first of `nms`
    that leaves `least` regions; the best `most` of those left are taken.

    Args:
        boxes: (n, 4) each proposal's box as regressed for its best class. scores: (n, C) class probabilities.
    """
    best = scores.max(1) if len(scores) else np.zeros(0, np.float32)
    for threshold in nms:
        left = _survivors(boxes, best[:, None], threshold)[:, 0]
        if left.sum() >= least:
            break
    order = np.argsort(-best, kind="stable")
    return _selected(order[left[order]][:most], best, scores)


def surviving_scores(boxes: np.ndarray, scores: np.ndarray, *, nms: float, floor: float = 0.0) -> np.ndarray:
    """(n,) the highest score each box (n, 4) has left after non-maximum suppression within each class; 0 for none.

    In each column of `scores` (n, C), from the highest score to the lowest (equal ones by number), a box that still has
    its score puts out all later ones whose IoU with it is > `nms`. Scores below `floor` count as none.
    """
    columns = np.flatnonzero((scores >= floor).any(0))
    values = scores[:, columns]
    return np.where(_survivors(boxes, values, nms, floor), values, 0).max(1, initial=0)


def _survivors(boxes: np.ndarray, scores: np.ndarray, nms: float, floor: float = 0.0) -> np.ndarray:
    """(n, C) which scores are left; see `surviving_scores`."""
    close = overlaps(boxes) > nms
    order = np.argsort(-scores, axis=0, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(len(boxes))[:, None], axis=0)
    alive = scores >= floor
    every = np.arange(scores.shape[1])
    for turn in range(int(alive.sum(0).max(initial=0))):  # all classes at once: the turn-th best box of each
        first = order[turn]
        alive &= ~(close[first].T & alive[first, every] & (place > turn))
    return alive


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """(n, n) float64 IoU of every pair of boxes (n, 4); 0 where both are empty."""
    boxes = boxes.astype(np.float64)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(2)
    union = area[:, None] + area[None] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _selected(rows: np.ndarray, confidence: np.ndarray, scores: np.ndarray) -> Selected:
    classes = scores[rows].argmax(1) if len(rows) else np.zeros(0, np.int64)
    return Selected(rows, confidence[rows].astype(np.float32), classes)

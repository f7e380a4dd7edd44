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
    """(n, C) which scores are left; see `surviving_scores`.

    All classes take their turns at once: first the best box of each, then the second best, ... A box that is left when
    its turn comes overlaps none that was left before, so it can put out all it overlaps without looking at their order.
    Sets of boxes are rows of bits.
    """
    n, classes = scores.shape
    spared = np.packbits((overlaps(boxes) <= nms) | np.eye(n, dtype=bool), axis=1)  # (n, n / 8)
    left = np.packbits((scores >= floor).T, axis=1)  # (C, n / 8)
    order = np.argsort(-scores.T, axis=1, kind="stable")
    every = np.arange(classes)
    for turn in range(int((scores >= floor).sum(0).max(initial=0))):
        box = order[:, turn]
        on = np.flatnonzero(left[every, box >> 3] & (128 >> (box & 7)))
        left[on] &= spared[box[on]]
    return np.unpackbits(left, axis=1, count=n).T.astype(bool)


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

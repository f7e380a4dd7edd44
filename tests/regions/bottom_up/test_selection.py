"""The selections against literal versions, a pair of boxes at a time."""

from __future__ import annotations

import numpy as np
import pytest

from itmkit.regions.bottom_up.selection import (
    REGRESSED_NMS,
    overlaps,
    select_original,
    select_regressed,
    surviving_scores,
)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else 0.0


def literal_nms(boxes: np.ndarray, scores: np.ndarray, most: float) -> list[int]:
    kept: list[int] = []
    for one in sorted(range(len(boxes)), key=lambda k: (-scores[k], k)):
        if all(iou(boxes[one], boxes[other]) <= most for other in kept):
            kept.append(one)
    return kept


def literal_original(boxes: np.ndarray, scores: np.ndarray, least: int, most: int) -> tuple[list[int], list[float]]:
    confidence = [0.0] * len(boxes)
    for k in range(scores.shape[1]):
        for one in literal_nms(boxes, scores[:, k], 0.3):
            confidence[one] = max(confidence[one], float(scores[one, k]))
    order = sorted(range(len(boxes)), key=lambda k: (-confidence[k], k))
    good = sum(value >= 0.2 for value in confidence)
    count = min(most, max(least, good))
    return order[:count], [confidence[k] for k in order[:count]]


def literal_regressed(boxes: np.ndarray, scores: np.ndarray, least: int, most: int) -> list[int]:
    best = scores.max(1)
    for threshold in REGRESSED_NMS:
        kept = literal_nms(boxes, best, threshold)
        if len(kept) >= least:
            break
    return kept[:most]


def proposals(seed: int, *, n: int = 40, classes: int = 7, sharp: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in clusters, so that many overlap, and class probabilities that sum to less than 1."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 3, (n, 2)) * 60 + rng.integers(0, 12, (n, 2))
    boxes = np.concatenate([corners, corners + rng.integers(20, 60, (n, 2))], 1).astype(np.float32)
    logits = rng.normal(size=(n, classes + 1)) * sharp
    every = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return boxes, every[:, :-1].astype(np.float32)


LIMITS = ((36, 36), (5, 12), (1, 40))
CASES = [(seed, sharp, *limits) for seed in range(6) for sharp in (0.2, 4.0) for limits in LIMITS]


@pytest.mark.parametrize(("seed", "sharp", "least", "most"), CASES)
def test_original(seed: int, sharp: float, least: int, most: int) -> None:
    boxes, scores = proposals(seed, sharp=sharp)
    chosen = select_original(boxes, scores, least=least, most=most)
    rows, confidence = literal_original(boxes, scores, least, most)
    assert chosen.proposals.tolist() == rows
    np.testing.assert_array_equal(chosen.scores, np.float32(confidence))
    assert chosen.classes.tolist() == [int(scores[row].argmax()) for row in rows]


@pytest.mark.parametrize(("seed", "sharp", "least", "most"), CASES)
def test_regressed(seed: int, sharp: float, least: int, most: int) -> None:
    boxes, scores = proposals(seed, sharp=sharp)
    chosen = select_regressed(boxes, scores, least=least, most=most)
    assert chosen.proposals.tolist() == literal_regressed(boxes, scores, least, most)
    np.testing.assert_array_equal(chosen.scores, scores.max(1)[chosen.proposals])


@pytest.mark.parametrize("seed", range(3))
def test_equal_scores_go_by_number(seed: int) -> None:
    boxes, scores = proposals(seed)
    coarse = np.round(scores * 4) / 4  # many ties, and many exact zeros
    rows, _ = literal_original(boxes, coarse, 20, 30)
    assert select_original(boxes, coarse, least=20, most=30).proposals.tolist() == rows
    chosen = select_regressed(boxes, coarse, least=20, most=30)
    assert chosen.proposals.tolist() == literal_regressed(boxes, coarse, 20, 30)


def test_within_classes_only() -> None:
    """Two boxes on one object: of one class the worse has no score left, of two classes both have theirs."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 11]], np.float32)
    same = np.array([[0.9, 0.01], [0.6, 0.02]], np.float32)
    assert surviving_scores(boxes, same, nms=0.3).tolist() == pytest.approx([0.9, 0.02])
    other = np.array([[0.9, 0.01], [0.02, 0.6]], np.float32)
    assert select_original(boxes, other, least=1, most=9).proposals.tolist() == [0, 1]
    assert select_original(boxes, same, least=1, most=9).proposals.tolist() == [0]
    assert select_regressed(boxes, other, least=1, most=9).proposals.tolist() == [0]


def test_fewer_proposals_than_asked_for() -> None:
    boxes, scores = proposals(0, n=3)
    assert sorted(select_original(boxes, scores, least=36, most=36).proposals) == [0, 1, 2]
    none = select_original(boxes[:0], scores[:0], least=36, most=36)
    assert none.proposals.shape == none.scores.shape == none.classes.shape == (0,)
    assert len(select_regressed(boxes[:0], scores[:0], least=36, most=36).proposals) == 0


def test_overlaps() -> None:
    boxes, _ = proposals(1, n=12)
    boxes[3] = boxes[4] = [5, 5, 5, 5]  # empty
    found = overlaps(boxes)
    expected = [[iou(a, b) for b in boxes.astype(float)] for a in boxes.astype(float)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[3, 4] == 0


def test_a_picture_of_the_real_size_is_quick() -> None:
    """300 proposals and 1,600 classes, all probabilities alike: the worst case, in which no class can be left out."""
    boxes, scores = proposals(2, n=300, classes=1600, sharp=0.01)
    chosen = select_original(boxes, scores, least=36, most=36)
    assert len(chosen.proposals) == 36 and (np.diff(chosen.scores) <= 0).all()

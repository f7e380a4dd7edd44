from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from itmkit.parse_text.trees import best_trees, maximum_spanning_tree


def is_tree(heads: np.ndarray) -> bool:
    n = len(heads)
    if sum(heads[i] == i for i in range(n)) != 1:
        return False
    for i in range(n):
        node = i
        for _ in range(n):
            node = heads[node]
        if heads[node] != node:
            return False
    return True


def total(scores: np.ndarray, heads: np.ndarray) -> float:
    return float(scores[np.arange(len(heads)), heads].sum())


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_best_single_rooted_tree(n: int) -> None:
    generator = np.random.default_rng(n)
    trees = np.array([heads for heads in product(range(n), repeat=n) if is_tree(np.array(heads))])
    for trial in range(60):
        scores = generator.normal(size=(n, n))
        if trial % 2:
            scores[np.arange(n), np.arange(n)] += 5  # many would-be roots
        best = scores[np.arange(n), trees].sum(axis=1).max()
        found = maximum_spanning_tree(scores)
        assert is_tree(found)
        assert total(scores, found) == pytest.approx(best, abs=1e-9)


def test_batches_keep_greedy_trees_and_mend_the_rest() -> None:
    scores = np.random.default_rng(0).normal(size=(200, 7, 7)).astype(np.float32)
    heads = best_trees(scores)
    assert all(is_tree(row) for row in heads)
    for k, row in enumerate(heads):
        greedy = scores[k].argmax(1)
        expected = greedy if is_tree(greedy) else maximum_spanning_tree(scores[k])
        assert row.tolist() == expected.tolist()


def test_equal_scores_and_long_sentences_give_trees() -> None:
    assert is_tree(maximum_spanning_tree(np.zeros((6, 6), np.float32)))
    scores = np.random.default_rng(1).normal(size=(256, 256)).astype(np.float32)
    assert is_tree(maximum_spanning_tree(scores))

"""Recalls of the two stages of search, against sorting every query's candidates one by one."""

from __future__ import annotations

import numpy as np
import pytest

from itmkit.evaluation import two_stages as module
from itmkit.evaluation.two_stages import Stages, image_stages, text_stages
from itmkit.scoring.ranks import ranks
from itmkit.scoring.stored import InMemory

N, PER = 30, 3
OWNER = np.repeat(np.arange(N), PER)


def literal(products: np.ndarray, scores: np.ndarray, is_own: np.ndarray, rerank: int) -> tuple[int, int]:
    """Ranks of the best own item among others by products, and after the candidates are scored."""
    best = products[is_own].max()
    first = int((products[~is_own] >= best).sum())
    if first >= rerank:
        return first, first
    # Of equal products the own item counts last; the other own items stand behind or among the candidates.
    order = sorted(range(len(products)), key=lambda k: (-products[k], is_own[k]))
    chosen = np.zeros(len(products), bool)
    chosen[order[:rerank]] = True
    return first, int((scores[chosen & ~is_own] >= scores[chosen & is_own].max()).sum())


@pytest.mark.parametrize("rerank", [1, 5, 17, 90])
def test_stages_are_those_of_every_query_sorted(rerank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEXTS", 7)
    monkeypatch.setattr("itmkit.scoring.stored.ROWS", 8)
    random = np.random.default_rng(rerank)
    images, texts = random.standard_normal((N, 4)), random.standard_normal((N * PER, 4))
    scores = random.standard_normal((N, N * PER)).astype(np.float32)
    products = images @ texts.T
    i2t = image_stages(images, texts, InMemory(scores), OWNER, rerank)
    for k in range(N):
        assert (i2t.first[k], i2t.second[k]) == literal(products[k], scores[k], k == OWNER, min(rerank, N * PER))
    t2i = text_stages(images, texts, InMemory(scores), OWNER, rerank)
    for t in range(N * PER):
        own = np.arange(N) == OWNER[t]
        assert (t2i.first[t], t2i.second[t]) == literal(products[:, t], scores[:, t], own, min(rerank, N))
    if rerank >= N * PER:  # every pair is scored
        exact = ranks(InMemory(scores), OWNER)
        np.testing.assert_array_equal(i2t.second, exact[0])
        np.testing.assert_array_equal(t2i.second, exact[1])


def test_ties_count_against_the_query_and_what_is_not_found_keeps_its_rank() -> None:
    images, texts = np.ones((4, 2)), np.ones((4, 2))
    flat = InMemory(np.zeros((4, 4), np.float32))
    for stages in (text_stages, image_stages):
        found = stages(images, texts, flat, np.arange(4), 4)
        assert found.first.tolist() == found.second.tolist() == [3] * 4 and found.found == 100
        missed = stages(images, texts, flat, np.arange(4), 2)
        assert missed.second.tolist() == [3] * 4 and missed.found == 0
    facts = Stages(np.array([0, 4, 7, 20]), np.array([0, 0, 7, 20]), 5).to_json()
    assert facts["candidates"] == {"R@1": 25, "R@5": 50, "R@10": 75}
    assert facts["two_stages"]["R@1"] == 50 and facts["found"] == 50

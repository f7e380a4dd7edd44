from __future__ import annotations

import numpy as np
import pytest

from itmkit.report.html.walk import first, walk
from itmkit.scoring.metrics import query_ranks
from itmkit.scoring.stored import Chosen, InMemory
from tests.report.html.small import scores_of


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itmkit.scoring.stored.ROWS", 7)  # several blocks


def test_what_a_walk_finds_is_what_the_whole_matrix_says() -> None:
    scores, image_of = scores_of(0, images=20), np.repeat(np.arange(20), 5)
    found = walk(InMemory(scores), image_of, texts=[3, 77, 4], images=[19, 0, 8], pairs=100)
    own = scores[image_of, np.arange(100)]
    mine = image_of == np.arange(20)[:, None]
    assert found.edges[0] == pytest.approx(scores.min()) and found.edges[-1] == pytest.approx(scores.max())
    assert found.positives.tolist() == np.histogram(own, found.edges)[0].tolist() and found.positives.sum() == 100
    assert found.negatives.sum() == 1900 and (found.negatives >= 0).all()
    assert np.abs(found.negatives - np.histogram(scores[~mine], found.edges)[0]).sum() <= 4  # at edges, by rounding
    assert (found.columns == scores[:, [3, 77, 4]]).all() and (found.rows == scores[[19, 0, 8]]).all()
    best = np.where(mine, scores, -np.inf).max(axis=1)
    beats = [
        (-scores[i, t], i, t) for i in range(20) for t in range(100) if scores[i, t] > own[t] and scores[i, t] > best[i]
    ]
    kept: list[tuple[int, int]] = []
    seen: set[int] = set()
    for _, image, text in sorted(beats):
        if image not in seen and image_of[text] not in seen:
            kept.append((image, text))
            seen |= {image, int(image_of[text])}
    assert [(pair.image, pair.text) for pair in found.wrong] == kept and kept
    assert all(pair.score > max(pair.own_of_text, pair.own_of_image) for pair in found.wrong)
    one = walk(InMemory(scores), image_of, texts=[], images=[], pairs=1)
    assert len(one.wrong) == 1 and one.columns.shape == (20, 0)


def test_scores_that_are_all_equal() -> None:
    found = walk(InMemory(np.zeros((4, 4), np.float32)), np.arange(4), texts=[0], images=[0])
    assert found.wrong == [] and found.positives.sum() == 4 and found.negatives.sum() == 12


@pytest.mark.parametrize("seed", range(3))
def test_the_first_right_item_stands_where_its_rank_says(seed: int) -> None:
    scores, image_of = scores_of(seed, images=20), np.repeat(np.arange(20), 5)
    part = Chosen(InMemory(scores), np.arange(20), np.arange(100))
    ranks = query_ranks(part, image_of)
    for text in range(100):
        right = np.arange(20) == image_of[text]
        order = first(scores[:, text], right, 20)
        assert order.index(int(image_of[text])) == ranks.of_texts[text]
        assert order[:5] == first(scores[:, text], right, 5) and sorted(order) == list(range(20))
    for image in range(20):
        right = image_of == image
        order = first(scores[image], right, 100)
        assert next(k for k, text in enumerate(order) if right[text]) == ranks.of_images[image]

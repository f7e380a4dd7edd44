from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from itmkit.matchers import Encoded
from itmkit.scoring import tiles
from itmkit.scoring.tiles import AHEAD, larger_tiles, score_tiles, workers

CPU = torch.device("cpu")


def test_results_come_in_order_whoever_is_first() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number < 2 else 0)
        return number

    with workers(CPU) as in_order:
        assert list(in_order(slow_at_first, ((number,) for number in range(9)))) == list(range(9))
        assert list(in_order(slow_at_first, [])) == []


def test_workers_have_one_thread_each_and_no_gradients() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with workers(CPU) as in_order:
            inside = lambda number: (torch.get_num_threads(), torch.is_inference_mode_enabled())  # noqa: E731
            assert set(in_order(inside, ((number,) for number in range(6)))) == {(1, True)}
        assert torch.get_num_threads() == 3
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [3]  # threads of others have what they had
    finally:
        torch.set_num_threads(before)


def test_no_more_at_a_time_than_memory_allows() -> None:
    """Nor is much more read ahead than is worked on."""
    lock, counts = threading.Lock(), {"now": 0, "most": 0, "read": 0, "done": 0, "ahead": 0}

    def count(number: int) -> None:
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        time.sleep(0.005)
        with lock:
            counts["now"] -= 1
            counts["done"] += 1

    def things() -> object:
        for number in range(20):
            counts["ahead"] = max(counts["ahead"], number - counts["done"])
            yield (number,)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        with workers(CPU, at_most=1) as in_order:
            list(in_order(count, things()))  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(before)
    assert counts["most"] == 1 and counts["ahead"] <= AHEAD + 1


def test_an_error_is_raised_and_ends_the_work() -> None:
    done = []

    def fails(number: int) -> None:
        if number == 1:
            raise ValueError("no")
        time.sleep(0.001)
        done.append(number)

    with pytest.raises(ValueError, match="no"), workers(CPU) as in_order:
        list(in_order(fails, ((number,) for number in range(1000))))
    assert len(done) < 100


class Product(nn.Module):
    """Scores are products of the one tensor of each side."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.captions = name, list[int]()

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        self.captions.append(len(texts[self.name]))
        return images[self.name] @ texts[self.name].T


@pytest.mark.parametrize(("name", "sizes"), [("vector", [6, 5]), ("nodes", [2] * 5 + [1])])
def test_scores_are_in_the_order_of_captions_and_tiles_of_vectors_are_large(
    name: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "VECTORS_TILE", 5)
    images, texts = torch.randn(40, 3), torch.randn(11, 3)  # more images than one piece of rows
    order = np.random.default_rng(0).permutation(11)
    columns = [(places, {name: texts[places]}) for places in np.split(order, range(2, 11, 2))]
    matcher, out, done = Product(name), np.empty((40, 11), np.float32), list[int]()
    with workers(CPU) as in_order:
        rows = [(slice(0, 40), {name: images})]
        score_tiles(matcher, rows, larger_tiles(columns), out, in_order, done.append)
    np.testing.assert_allclose(out, (images @ texts.T).numpy(), atol=1e-6)
    assert sorted(matcher.captions, reverse=True) == sizes and sum(done) == 440


def test_no_caption_fills_nothing() -> None:
    with workers(CPU) as in_order:
        score_tiles(
            Product("vector"), [(slice(0, 1), {"vector": torch.ones(1, 2)})], [], np.empty((1, 0)), in_order, int
        )

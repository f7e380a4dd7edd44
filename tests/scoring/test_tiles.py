from __future__ import annotations

import threading
import time

import pytest
import torch

from itmkit.scoring.tiles import AHEAD, workers

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

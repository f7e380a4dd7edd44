from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from itmkit.machine.ahead import work_ahead


def test_results_come_in_order_and_no_more_than_so_many_are_under_way() -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.002 * (number % 3))
        return number * number

    with ThreadPoolExecutor(3) as pool:
        for place, found in enumerate(work_ahead(pool, work, range(20), ahead=4)):
            assert found == place * place
            assert len(begun) <= place + 1 + 4
    assert sorted(begun) == list(range(20))


def test_an_error_arrives_at_its_place() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = work_ahead(pool, lambda number: 1 // (3 - number), range(9), ahead=2)
        assert [next(results) for _ in range(3)] == [0, 0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)


@pytest.mark.parametrize("shut_down_first", [False, True])
def test_left_early_nothing_still_runs(shut_down_first: bool) -> None:
    """Also where the pool ended before: then nobody would ever tell of the work that was cancelled."""
    running, go = threading.Event(), threading.Event()

    def work(number: int) -> int:
        if number == 1:
            running.set()
            go.wait(60)
        return number

    pool = ThreadPoolExecutor(1)
    results = work_ahead(pool, work, range(9), ahead=4)
    assert next(results) == 0 and running.wait(60)
    threading.Timer(0.05, go.set).start()
    if shut_down_first:
        pool.shutdown(cancel_futures=True)
    closer = threading.Thread(target=results.close, daemon=True)  # type: ignore[attr-defined]
    closer.start()
    closer.join(60)
    assert not closer.is_alive() and go.is_set()
    pool.shutdown()


def test_threads_beside_compute_alone_and_leave_the_caller_its_threads() -> None:
    """In a process that has computed nothing yet: torch would hand what a thread sets on to the caller.

    Importing itmkit leaves the environment of such a process as it was, too; only its commands change it.
    """
    script = """
import os, threading
before = dict(os.environ)
import itmkit.commands, itmkit.training.train, torch
from itmkit.machine.ahead import threads_beside
assert before == os.environ
torch.set_num_threads(2)
begun = []
with threads_beside(1, lambda: begun.append(1)) as pool:
    inside = pool.submit(lambda: (float(torch.randn(1000, 1000).double().sum()), torch.get_num_threads())[1]).result()
    mine = torch.get_num_threads()
later = []
thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
thread.start()
thread.join()
print(inside, mine, later[0], begun)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "2", "2", "[1]"]

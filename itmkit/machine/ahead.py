"""Work done ahead of whoever needs its results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Generator[Result, None, None]:
    """`work(item)` for every item, in their order, computed in the pool while the caller uses earlier results.

    At most `ahead` results wait or are under way when one is given out. Left early (`contextlib.closing`), nothing
    of it still runs afterwards.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Nobody tells of the end of a cancelled one where the pool was shut down first: wait for the others only.
        wait([future for future in waiting if not future.cancel()])


@contextmanager
def threads_beside(count: int, begin: Callable[[], None] | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads for work beside that of the caller, each of which does the operations of torch by itself.

    torch gives every thread that computes a team of its own, one helper a core. With more of them than cores OpenMP
    lets all teams sleep between operations, the caller's too: a training step beside one thread that only converts
    what it reads then takes a quarter longer.

    Args:
        begin: called first by each thread.
    """
    import torch

    threads = torch.get_num_threads()  # also settles it for the caller, who otherwise would take over what comes below

    def alone() -> None:
        torch.set_num_threads(1)
        if begin is not None:
            begin()

    pool = ThreadPoolExecutor(count, initializer=alone)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # for threads that begin later

"""Work done ahead of whoever needs its results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
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

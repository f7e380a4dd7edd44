"""One thread that does one kind of work, and a queue before it that does not grow without end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Busy(Exception):
    """Too much waits already."""


class Worker:
    """Runs functions one after the other. To be used from one event loop."""

    def __init__(self, name: str, waiting: int) -> None:
        """waiting: how many calls may wait or run; a further one is refused."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting, self._most = 0, waiting

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns or raises. Raises Busy where too much waits."""
        if self._waiting >= self._most:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Waits for what runs; what waits is dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)

"""SIGINT and SIGTERM in work that is to end in good order: with its state saved, at the next place where it can."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds in which another signal is still the first one: torchrun and the like pass on what the terminal sent to all.
SAME = 1.0


class Stopped(BaseException):
    """The work ended because of a signal, and can be continued. Like KeyboardInterrupt it is not an Exception.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Stop:
    """What has been asked of the work. number: of the signal that came, else 0."""

    def __init__(self) -> None:
        self.number = 0
        self._at_once = False

    def ask(self, number: int) -> None:
        """Asks the work to stop, as a signal does."""
        self.number = number
        if self._at_once:
            raise Stopped(number, in_words(number))

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a signal raises Stopped where it arrives, for work that leaves nothing half done."""
        self._at_once = True
        try:
            if self.number:
                self.ask(self.number)
            yield
        finally:
            self._at_once = False


def in_words(number: int) -> str:
    """`stopped by SIGTERM`"""
    return f"stopped by {signal.Signals(number).name}"


@contextmanager
def stopping() -> Iterator[Stop]:
    """Within it the first signal only asks the work to stop; a later one does what it always does.

    Signals that are ignored stay ignored. Only the main thread can be asked.
    """
    stop, first = Stop(), 0.0
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def asked(number: int, _: FrameType | None) -> None:
        nonlocal first
        if not stop.number:
            first = time.monotonic()
            stop.ask(number)
        elif time.monotonic() - first >= SAME:
            restore()
            os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    for number in SIGNALS:
        handler: Any = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):  # None: set by something other than Python
            before[number] = handler
            signal.signal(number, asked)
    try:
        yield stop
    finally:
        restore()


def leave_signals_to_the_parent() -> None:
    """For a process that works for another one: a signal to both ends the work of both, in the order of the parent."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)

"""What is logged while a test runs. It stands in for `caplog`, whose plugin takes a millisecond of every other test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Kept(logging.Handler):
    """Keeps the lines that it is given, with their tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def logged(logger: str, level: int = logging.NOTSET) -> Iterator[list[str]]:
    """The lines of a logger and those below it, at this level and above."""
    log, kept = logging.getLogger(logger), Kept()
    before = log.level
    log.setLevel(level or before)
    log.addHandler(kept)
    try:
        yield kept.lines
    finally:
        log.removeHandler(kept)
        log.setLevel(before)

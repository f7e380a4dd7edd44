"""How long-running functions tell the outside what they do, without printing.

Every stage takes `progress: Progress = SILENT`. The commands pass an implementation that draws bars with rich
(`itmkit.commands.console`); a notebook or a service may pass its own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Advance(Protocol):
    """Tells that `n` more units are done; `status` is a short text shown beside the bar."""

    def __call__(self, n: int = 1, *, status: str | None = None) -> None: ...


class Progress(Protocol):
    def task(
        self, description: str, total: int | None = None, *, done: int = 0, unit: str = ""
    ) -> AbstractContextManager[Advance]:
        """A piece of work of `total` units (None: unknown), of which `done` were done by an earlier run."""
        ...

    def note(self, text: str) -> None:
        """A line the user should read, such as which model was chosen."""
        ...


class _Silent:
    def task(
        self, description: str, total: int | None = None, *, done: int = 0, unit: str = ""
    ) -> AbstractContextManager[Advance]:
        def advance(n: int = 1, *, status: str | None = None) -> None:
            pass

        return nullcontext(advance)

    def note(self, text: str) -> None:
        pass


SILENT: Progress = _Silent()

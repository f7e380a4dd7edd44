"""The bars of progress; loaded when the first one is drawn."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Any) -> Text:
        speed = task.finished_speed or task.speed
        text = f"{speed:,.0f}" if speed and speed >= 10 else f"{speed:.2g}" if speed else ""
        return Text(f"{text} {task.fields['unit']}/s" if text else "", style="progress.data.speed")


def bars(console: Console) -> Progress:
    """A bar a task, with rate and time left; nothing where the console is no terminal.

    A task has the fields `unit` and `status`.
    """
    return Progress(
        SpinnerColumn("dots" if console.encoding.startswith("utf") else "line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )

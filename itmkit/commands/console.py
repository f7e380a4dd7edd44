"""What commands print: progress bars and notes on standard error, results on standard output, errors in words."""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from itmkit.errors import ItmkitError
from itmkit.machine.part import Part
from itmkit.machine.stop import Stopped
from itmkit.progress import Advance

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class _Rate(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Any) -> Text:
        speed = task.finished_speed or task.speed
        text = f"{speed:,.0f}" if speed and speed >= 10 else f"{speed:.2g}" if speed else ""
        return Text(f"{text} {task.fields['unit']}/s" if text else "", style="progress.data.speed")


class ConsoleProgress:
    """Draws a bar with rate and time left per task when standard error is a terminal; else only notes."""

    @contextmanager
    def task(self, description: str, total: int | None = None, *, done: int = 0, unit: str = "") -> Iterator[Advance]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        with Bars(*columns, console=err, disable=not err.is_terminal) as bars:
            task = bars.add_task(description, total=total, completed=done, unit=unit or "items", status="")

            def advance(n: int = 1, *, status: str | None = None) -> None:
                bars.update(task, advance=n)
                if status is not None:
                    bars.update(task, status=status)

            yield advance

    def note(self, text: str) -> None:
        err.print(Text(text), soft_wrap=True)


def table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """Prints a table of results; columns named in `right` are aligned to the right and never folded."""
    if title:  # not the table's own title, which is folded to the width of its columns
        out.print(Text(title, style="italic"), soft_wrap=True)
    drawn = Table(header_style="bold")
    for column in columns:
        figures = column in right
        drawn.add_column(column, justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    for row in rows:
        drawn.add_row(*[cell if isinstance(cell, Text) else str(cell) for cell in row])
    # A file or a pipe has no width, so that no figure is folded there.
    (out if out.is_terminal else Console(highlight=False, width=1000)).print(drawn)


def skipped_pictures(cache: Path, skipped: Sequence[dict[str, str]]) -> None:
    """Prints the pictures that a stage left out, the first 20 with their reasons; nothing where there are none."""
    if not skipped:
        return
    out.print(f"{len(skipped)} pictures skipped (all are listed in {cache / 'manifest.json'}):")
    for item in skipped[:20]:
        out.print(f"  {item['id']}: {item['reason']}", markup=False)
    if len(skipped) > 20:
        out.print(f"  and {len(skipped) - 20} more")


def part_done(part: Part) -> None:
    """Says what a job of several has done, and what is left to do."""
    out.print(f"this was part {part}; `itmkit merge` makes one cache of the parts when all are done")


def print_json(value: Any) -> None:
    """One JSON document on standard output, never wrapped."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False, default=str))


def _hdf5_errno(error: OSError) -> int:
    """HDF5 reports a failed write as text: "... file write failed: ... errno = 28, ..."."""
    found = re.search(r"errno = (\d+)", str(error))
    return int(found.group(1)) if found else 0


def in_words(error: OSError) -> str:
    """An operating-system error as one message that says what to do."""
    place = f"{error.filename}: " if error.filename else ""
    advice = {
        errno.ENOSPC: "the disk is full; free space and run the same command again, it continues",
        errno.EDQUOT: "the disk quota is used up; free space and run the same command again, it continues",
        errno.EACCES: "no permission; change the permissions or name another folder",
        errno.EPERM: "no permission; change the permissions or name another folder",
        errno.EROFS: "the file system is read-only; name another folder",
        errno.ENOENT: "no such file or folder",
    }.get(error.errno or _hdf5_errno(error))
    return place + (advice or f"{error.strerror or error}")


def run(command: click.Command, args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0 fine, 2 the user must act, 130 or 143 stopped by a signal."""
    try:
        result = command.main(args=list(args) if args is not None else None, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except ItmkitError as error:
        shown = error.problems[:50]
        for problem in shown:
            err.print(Text.assemble(("error: ", "bold red"), problem), soft_wrap=True)
        if len(error.problems) > 1:
            more = len(error.problems) - len(shown)
            err.print(f"{len(error.problems)} problems" + (f", {more} more not shown" if more else ""))
        return 2
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except Stopped as stop:
        if str(stop):  # one of several processes speaks
            err.print(Text(str(stop)), soft_wrap=True)
        return 128 + stop.number
    except (click.Abort, KeyboardInterrupt):
        err.print("interrupted; run the same command again to continue")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        err.print(Text.assemble(("error: ", "bold red"), in_words(error)), soft_wrap=True)
        return 2

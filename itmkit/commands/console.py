"""What commands print: progress bars and notes on standard error, results on standard output, errors in words.

With --json, standard output holds one JSON document: the result, or {"error": ...}.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import select
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from itmkit.commands import tables
from itmkit.commands.visible import visible, visible_json
from itmkit.errors import ItmkitError
from itmkit.machine.part import Part
from itmkit.machine.stop import Stopped
from itmkit.progress import Advance


class Lines(Console):
    """Prints text as it is: nothing in it is markup, an emoji code or a command to the terminal, and no line is folded.

    A style is given with `styled`. What is asked with `markup=`, `emoji=` or `highlight=` is not done.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: Any = None,
        overflow: Any = None,
        emoji: bool | None = None,
        markup: bool | None = None,
        highlight: bool | None = None,
        highlighter: Any = None,
    ) -> Text:
        return Text(visible(text), style=style, justify=justify, overflow=overflow)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The net below: whatever way a text came here, no control character of it leaves."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text, keep="\n"), style, control)

    def on_broken_pipe(self) -> None:
        raise  # rich calls this while it handles the BrokenPipeError, which `run` is to see


out = Lines()
err = Lines(stderr=True)


def styled(*parts: str | tuple[str, str]) -> Text:
    """One line of text and (text, style)."""
    return Text.assemble(*[visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts])


class ConsoleProgress:
    """Draws a bar with rate and time left per task when standard error is a terminal; else only notes."""

    @contextmanager
    def task(self, description: str, total: int | None = None, *, done: int = 0, unit: str = "") -> Iterator[Advance]:
        from itmkit.commands.bars import bars

        with bars(err) as drawn:
            task = drawn.add_task(visible(description), total=total, completed=done, unit=unit or "items", status="")

            def advance(n: int = 1, *, status: str | None = None) -> None:
                drawn.update(task, advance=n)
                if status is not None:
                    drawn.update(task, status=visible(status))

            yield advance

    def note(self, text: str) -> None:
        err.print(text)


def table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """Prints a table of results. Columns named in `right` are figures: aligned to the right and never cut.

    A file or a pipe has no width. On a terminal, columns that have no room beside the others follow below.
    """
    if title:  # not the table's own title, which is folded to the width of its columns
        out.print(styled((title, "italic")))
    for drawn in tables.tables(columns, rows, right=right, width=out.width if out.is_terminal else None):
        out.print(drawn)


def skipped_pictures(cache: Path, skipped: Sequence[dict[str, str]]) -> None:
    """Prints the pictures that a stage left out, the first 20 with their reasons; nothing where there are none."""
    if not skipped:
        return
    out.print(f"{len(skipped)} pictures skipped (all are listed in {cache / 'manifest.json'}):")
    for item in skipped[:20]:
        out.print(f"  {item['id']}: {item['reason']}")
    if len(skipped) > 20:
        out.print(f"  and {len(skipped) - 20} more")


def part_done(part: Part) -> None:
    """Says what a job of several has done, and what is left to do."""
    out.print(f"this was part {part}; `itmkit merge` makes one cache of the parts when all are done")


def print_json(value: Any) -> None:
    """One JSON document on standard output, never wrapped."""
    text = visible_json(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False, default=str))
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # an output of few characters, such as ASCII
        text = json.dumps(value, indent=1, allow_nan=False, default=str)
    click.echo(text)


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
    """Runs the command line; returns the exit code: 0 fine, 2 the user must act, 130 or 143 stopped by a signal.

    Where the reader of the output has gone (`itmkit status | head`), the rest is not printed and the code is 0.
    """
    given = list(sys.argv[1:] if args is None else args)
    as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an output of few characters, such as ASCII, is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _result(command, args, as_json)
        finally:
            sys.stdout.flush()
    except SystemExit:  # click leaves this way if a pipe breaks, and after completing words for a shell
        if _reader_gone():
            return 0
        raise
    except BrokenPipeError as error:
        if _reader_gone():
            return 0
        return _told([in_words(error)], as_json)


def _result(command: click.Command, args: Sequence[str] | None, as_json: bool) -> int:
    try:
        result = command.main(args=list(args) if args is not None else None, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except ItmkitError as error:
        return _told(error.problems, as_json)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        _say_usage(error)
        return _told([error.format_message()], as_json, said=True)
    except Stopped as stop:
        code = 128 + stop.number
        if not str(stop):  # one of several processes speaks
            return code
        err.print(str(stop))
        return _told([str(stop)], as_json, code=code, said=True)
    except (click.Abort, KeyboardInterrupt):
        interrupted = "interrupted; run the same command again to continue"
        err.print(interrupted)
        return _told([interrupted], as_json, code=130, said=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _told([in_words(error)], as_json)
    except Exception as error:  # a fault of itmkit: its traceback goes to standard error
        _told([f"{type(error).__name__}: {error}"], as_json, code=1, said=True)
        raise


def _say_usage(error: click.ClickException) -> None:
    """As click says it, but through the console."""
    message = error.format_message()
    without_arguments = getattr(click.exceptions, "NoArgsIsHelpError", ())  # of click 8.2 on: its message is the help
    if not isinstance(error, without_arguments):
        message = f"Error: {message}"
        context = error.ctx if isinstance(error, click.UsageError) else None
        if context is not None:
            message = f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n\n{message}"
    for line in message.expandtabs(4).split("\n"):
        err.print(line)


def _told(problems: Sequence[str], as_json: bool, *, code: int = 2, said: bool = False) -> int:
    """Says what is wrong, the first 50 problems, and as JSON all of them; returns the exit code.

    Args:
        said: on standard error it has been said already.
    """
    if not said:
        shown = problems[:50]
        for problem in shown:
            err.print(styled(("error: ", "bold red"), problem))
        if len(problems) > 1:
            more = len(problems) - len(shown)
            err.print(f"{len(problems)} problems" + (f", {more} more not shown" if more else ""))
    if as_json:
        print_json({"error": {"problems": list(problems), "exit_code": code}})
    return code


def _reader_gone() -> bool:
    """Whether nobody reads standard output or standard error any more; if so, what is left in them is dropped."""
    gone = False
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            number = stream.fileno()  # type: ignore[union-attr]
            watch = select.poll()
            watch.register(number, 0)
            if any(event & select.POLLERR for _, event in watch.poll(0)):
                gone = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return gone

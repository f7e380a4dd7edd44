"""Child processes that parse captions: each loads the parser once and answers for its share of the captions.

The parent writes one line of JSON that names the parser, then a line with a list of captions for each request. The
child answers with a line, {"columns": {name: [dtype, count]}, "strings": {name: [...]}} and the columns' bytes after
it, or {"problems": [...]}. It ends when its standard input does, so that it never outlives a killed parent by more
than the captions under way.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.machine.ahead import work_ahead
from itmkit.machine.children import Child, ending, serve
from itmkit.parse_text.backends import load_backend
from itmkit.parse_text.parsed import Backend, Coded, ParsedTexts

FEW = 2000  # captions that are parsed before children have started
MOST = 8
AHEAD = 2  # requests a child that may wait or be under way

ParseAll = Callable[[Iterable[Sequence[str]]], Iterator[ParsedTexts]]


def count(workers: int | None, captions: int) -> int:
    """How many processes parse `captions` captions: the number asked for, else one per core if there are many."""
    if workers is not None:
        return workers
    return 1 if captions < FEW else min(MOST, os.cpu_count() or 1)


@contextmanager
def parsing_here(backend: Backend, batch_size: int) -> Iterator[ParseAll]:
    """Parses in this process. Torch has one thread, as in a child, so the result is the same to the last bit."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    try:
        yield lambda parts: (backend.parse(part, batch_size) for part in parts)
    finally:
        if torch:
            torch.set_num_threads(threads)


@contextmanager
def parsing_by(workers: int, parser: str, model: str | None, batch_size: int) -> Iterator[ParseAll]:
    """Parses in `workers` child processes, in order. No child survives the block, however it ends."""
    request = {"parser": parser, "model": model, "batch_size": batch_size, "folder": str(Path.cwd())}
    mine, lock = threading.local(), threading.Lock()
    children: list[_Parser] = []
    closed = False

    def one(texts: Sequence[str]) -> ParsedTexts:
        if not hasattr(mine, "child"):
            with lock:
                if closed:
                    raise ItmkitError("parsing was stopped")
                mine.child = _Parser(request)
                children.append(mine.child)
        return mine.child.parse(texts)

    def parse(parts: Iterable[Sequence[str]]) -> Iterator[ParsedTexts]:
        return work_ahead(pool, one, parts, ahead=AHEAD * workers)

    pool = ThreadPoolExecutor(workers)
    try:
        yield parse
    finally:
        with lock:
            closed = True
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:  # first: whoever waits for an answer stops waiting
            child.kill()
        pool.shutdown()
        for child in children:
            child.close()


class _Parser:
    """One child process, for one thread at a time."""

    def __init__(self, first: Mapping[str, object]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - what it writes to standard error
        self._child = Child("itmkit.parse_text.workers", errors=self._said)
        self._first = [first]  # what is asked before the first captions

    def parse(self, texts: Sequence[str]) -> ParsedTexts:
        try:
            self._child.ask(*self._first, list(texts))
            self._first = []
            return _received(self._child.answers)
        except (EOFError, BrokenPipeError):
            raise ItmkitError(
                f"a process that parses captions ended ({self._ending()}); what was finished is kept."
                " Run the same command again, with a smaller --workers if memory ran out"
            ) from None

    def _ending(self) -> str:
        code = self._child.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{ending(code)}: {said[-1].strip()}" if said and code >= 0 else ending(code)

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> None:
        self._child.close()
        self._said.close()


def _send(answers: IO[bytes], parsed: ParsedTexts) -> None:
    found = {field.name: getattr(parsed, field.name) for field in fields(ParsedTexts)}
    strings = {name: value.strings for name, value in found.items() if isinstance(value, Coded)}
    columns = {name: value.codes if isinstance(value, Coded) else value for name, value in found.items()}
    head = {"columns": {name: [str(c.dtype), len(c)] for name, c in columns.items()}, "strings": strings}
    answers.write(json.dumps(head).encode() + b"\n")
    for column in columns.values():
        answers.write(column.tobytes())
    answers.flush()


def _received(answers: IO[bytes]) -> ParsedTexts:
    line = answers.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    if "problems" in head:
        raise ItmkitError(head["problems"])
    columns: dict[str, np.ndarray] = {}
    for name, (dtype, length) in head["columns"].items():
        size = np.dtype(dtype).itemsize * length
        data = answers.read(size)
        if len(data) < size:
            raise EOFError
        columns[name] = np.frombuffer(data, dtype)
    coded = {name: Coded(columns[name], strings) for name, strings in head["strings"].items()}
    return ParsedTexts(**{**columns, **coded})  # type: ignore[arg-type]


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    first = requests.readline()
    if not first:
        return
    asked = json.loads(first)
    os.chdir(asked["folder"])  # where a model's relative path begins
    try:
        backend = load_backend(asked["parser"], asked["model"])
        with parsing_here(backend, asked["batch_size"]) as parse:
            texts = (json.loads(line) for line in requests)
            for parsed in parse(texts):
                _send(answers, parsed)
    except ItmkitError as error:
        answers.write(json.dumps({"problems": error.problems}).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    serve(_serve)

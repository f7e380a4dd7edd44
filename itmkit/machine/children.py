"""Child processes that run a module of itmkit: how they start, are asked, end, and what they may not do.

A child that serves reads requests, lines of JSON, from its standard input and ends when that does, so that it never
outlives a killed parent by more than the request under way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

FOLDER = Path(__file__).resolve().parents[2]  # of the package: children start here, so that they find the same package


class Child:
    """A child that serves, for one thread at a time."""

    def __init__(self, module: str, *, errors: int | IO[bytes] = subprocess.DEVNULL) -> None:
        """module: such as "itmkit.pictures.decode". errors: where its standard error goes."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=FOLDER,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self.answers: IO[bytes] = self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, *requests: object) -> None:
        """Sends each as a line of JSON. Raises BrokenPipeError where the child has ended."""
        self._requests.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
        self._requests.flush()

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        """The exit code of a child that has ended or was killed."""
        return self._process.wait()

    def close(self) -> int:
        """Closes the pipes, which ends the child, and returns its exit code."""
        self.answers.close()
        with suppress(BrokenPipeError):
            self._requests.close()
        return self._process.wait()


def serve(answer: Callable[[IO[bytes], IO[bytes]], None]) -> None:
    """For the child: calls `answer(requests, answers)` with its standard input and what was its standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not reach the parent as an answer
    with suppress(BrokenPipeError):
        answer(sys.stdin.buffer, answers)


def run_child(
    module: str, *arguments: str, timeout: float, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Runs a child to its end with these arguments. Raises subprocess.TimeoutExpired, and the child is killed."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        timeout=timeout,
        cwd=FOLDER,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def ending(code: int) -> str:
    """An exit code in words: "exit code 1", "SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"

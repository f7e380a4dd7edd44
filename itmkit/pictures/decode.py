"""Decodes pictures in a child process: one that crashes or hangs its decoder costs one picture, not the run.

The parent writes a line of JSON for each picture, {"path": ..., "sha256": ..., "square": [side, filter] or null}. The
child answers with a line, {"size": [w, h], "reduced": [w, h]} and w * h * 3 bytes of RGB after it, or
{"unreadable": reason}, or {"changed": what}. It ends when its standard input does, so that it never outlives a killed
parent.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image

from itmkit.machine.children import Child, ending, serve
from itmkit.pictures.load import ChangedImage, UnreadableImage, load_image, quiet_decoding

MOST_PIXELS_A_SIDE = 2000  # larger pictures are reduced first: no model looks at them closer than this
TIMEOUT = 120.0  # seconds by the clock for one picture
_PIPE_BYTES = 1 << 20


class Square(NamedTuple):
    """What a picture is squashed to: pixels of a side, and Pillow's number of the filter that resizes."""

    side: int
    resample: int


@dataclass(frozen=True)
class Picture:
    """A decoded upright RGB picture, perhaps squashed or reduced, and its size (width, height) before that."""

    image: Image.Image
    size: tuple[int, int]


def decode(path: Path, sha256: str | None, square: Square | None = None) -> Picture:
    """Decodes in this process, and squashes the picture to a square if one is wanted.

    Raises UnreadableImage or ChangedImage as `load_image` does.
    """
    return reduced(load_image(path, expected_sha256=sha256), square)


def reduced(image: Image.Image, square: Square | None = None) -> Picture:
    """An upright RGB picture as models take it: no larger than they look at it, squashed if a square is wanted."""
    size = image.size
    if max(size) > MOST_PIXELS_A_SIDE:
        scale = MOST_PIXELS_A_SIDE / max(size)
        image = image.resize(
            (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))),
            Image.Resampling.BILINEAR,
            reducing_gap=2.0,
        )
    return Picture(squash(image, square) if square else image, size)


def squash(image: Image.Image, square: Square) -> Image.Image:
    """The whole picture as a square. A picture that is this square already is returned as it is."""
    if image.size == (square.side, square.side):
        return image
    return image.resize((square.side, square.side), Image.Resampling(square.resample))


class Decoder:
    """A child process that decodes, for one thread at a time. Started when first needed, and again after a crash."""

    def __init__(self, *, timeout: float = TIMEOUT, square: Square | None = None) -> None:
        self._timeout, self._square = timeout, square
        self._child: Child | None = None

    def decode(self, path: Path, sha256: str | None) -> Picture:
        """Raises ChangedImage, or UnreadableImage, also if the picture crashed the child or took too long."""
        child = self._child or self._start()
        try:
            child.ask({"path": str(path.absolute()), "sha256": sha256, "square": self._square})
            answer = _Answer(child.answers.fileno(), time.monotonic() + self._timeout)
            head = json.loads(answer.line())
            if "unreadable" in head:
                raise UnreadableImage(head["unreadable"])
            if "changed" in head:
                raise ChangedImage(head["changed"])
            width, height = head["reduced"]
            pixels = answer.take(width * height * 3)
        except TimeoutError:
            self.close()
            raise UnreadableImage(f"took longer than {self._timeout:g} s to decode") from None
        except (EOFError, BrokenPipeError):
            self._child = None
            raise UnreadableImage(f"crashed its decoder ({ending(child.close())})") from None
        return Picture(Image.frombuffer("RGB", (width, height), pixels), tuple(head["size"]))

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.close()

    def _start(self) -> Child:
        self._child = Child("itmkit.pictures.decode")
        _enlarge(self._child.answers.fileno())
        return self._child


@dataclass
class _Answer:
    """Reads what the child writes, until a moment of the monotonic clock."""

    handle: int
    until: float
    rest: bytes = b""

    def line(self) -> bytes:
        while b"\n" not in self.rest:
            self._wait()
            if not (more := os.read(self.handle, _PIPE_BYTES)):
                raise EOFError
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def take(self, count: int) -> bytearray:
        found = bytearray(count)
        view, done = memoryview(found), len(self.rest)
        view[:done] = self.rest
        while done < count:
            self._wait()
            if not (got := os.readv(self.handle, [view[done:]])):
                raise EOFError
            done += got
        return found

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        if not poll.poll(max(0.0, self.until - time.monotonic()) * 1000):
            raise TimeoutError


def _enlarge(handle: int) -> None:
    """A pipe that holds a picture lets the child go on to the next one. Not every system allows it."""
    with suppress(OSError):
        fcntl.fcntl(handle, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    with quiet_decoding():
        for line in requests:
            asked = json.loads(line)
            pixels = b""
            try:
                picture = decode(Path(asked["path"]), asked["sha256"], asked["square"] and Square(*asked["square"]))
            except UnreadableImage as problem:
                head: dict[str, object] = {"unreadable": problem.reason}
            except ChangedImage as problem:
                head = {"changed": problem.what}
            except MemoryError:
                head = {"unreadable": "needs more memory than there is"}
            else:
                head = {"size": picture.size, "reduced": picture.image.size}
                pixels = picture.image.tobytes()
            answers.write(json.dumps(head).encode() + b"\n")
            answers.write(pixels)
            answers.flush()


if __name__ == "__main__":
    serve(_serve)

"""Large JSON files, of which one item at a time is in memory: a list, or a list that an object has under a name."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from itmkit.errors import ItmkitError

MOST = 64 << 20  # characters of an item
_BLOCK = 1 << 20  # characters read at once
_CUT = 12  # characters before the end of a block where a word, a number or an escape may be cut
_SPACE = re.compile(r"[ \t\n\r]*")


def list_items(path: Path, key: str | None = None) -> Iterator[Any]:
    """The items of the list that a file is, or that its object has under `key`, one at a time.

    Raises:
        ItmkitError: the file has no list there, or is no JSON or no UTF-8; names the line.
    """
    with _opened(path) as text:
        yield from _items(text) if key is None else _items_of(path, text, key)
        text.end()


def has_list(path: Path, keys: Collection[str]) -> bool:
    """Whether a file is an object with a list under one of the keys. Raises ItmkitError as `list_items`."""
    with _opened(path) as text:
        if text.next() == "{":
            for name in _names(text):
                if name in keys and text.next() == "[":
                    return True
                _pass_over(text)
    return False


def one_value(path: Path) -> Any:
    """The value that a file is, of at most `MOST` characters. Raises ItmkitError as `list_items`."""
    with _opened(path) as text:
        value = text.value()
        text.end()
    return value


@contextmanager
def _opened(path: Path) -> Iterator[_Text]:
    if not path.is_file():  # a file is read more than once, which a pipe cannot be
        what = "is a folder, a file is needed" if path.is_dir() else "is a pipe, a file is needed"
        raise ItmkitError(f"{path}: {what if path.exists() else 'no such file'}")
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            yield _Text(path, file)
        except UnicodeDecodeError:
            raise ItmkitError(f"{path}: {_wrong_byte(path)}; convert the file to UTF-8 first") from None


def _wrong_byte(path: Path) -> str:
    """Where a file stops being UTF-8. It is read in blocks, since all of it may be one line."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, begins, offset, held = 1, 0, 0, 0  # where the line begins; bytes held back of a character that is cut
    with open(path, "rb") as file:
        while True:
            block, wrong = file.read(_BLOCK), None
            if not offset and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "is UTF-16"
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                wrong = offset - held + error.start, error.object[error.start]
                block = block[: max(0, wrong[0] - offset)]
            if ends := block.count(b"\n"):
                line, begins = line + ends, offset + block.rfind(b"\n") + 1
            if wrong:
                return f"line {line}: byte {wrong[0] - begins + 1} (0x{wrong[1]:02x}) is not UTF-8"
            if not block:
                return "is not UTF-8"  # only where the file has changed meanwhile
            offset, held = offset + len(block), len(decoder.getstate()[0])


class _Text:
    """The text of a file, from the place that has been read to the end of the block that has been fetched."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._decoder = json.JSONDecoder()
        self._text, self._at = "", 0
        self._line, self._column = 1, 1  # of the first character of the text

    def next(self) -> str:
        """The next character that is no white space, "" at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> str:
        """Passes over the next character, which must be one of those wanted."""
        found = self.next()
        if not found or found not in wanted:
            raise self._wrong(f"Expecting {' or '.join(map(repr, wanted))}", self._at)
        self._at += 1
        return found

    def value(self) -> Any:
        """The value that begins with the next character."""
        self.next()
        while True:
            wrong: tuple[str, int] | None = None
            try:
                found, stop = self._decoder.raw_decode(self._text, self._at)
                length, cut = stop - self._at, stop >= len(self._text) - _CUT  # a number may go on
            except json.JSONDecodeError as error:
                wrong = error.msg, error.pos - self._at
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _CUT
            except RecursionError:
                raise ItmkitError(f"{self._path}: nested too deeply to be read") from None
            except ValueError:  # Python refuses to read a number of more than 4,300 digits
                raise ItmkitError(f"{self._path}: holds a number of thousands of digits") from None
            if cut and wrong and len(self._text) - self._at > MOST:
                raise self._wrong(f"an item of more than {MOST >> 20} MiB, or one that does not end", self._at)
            if cut and self._more():
                continue
            if wrong:
                raise self._wrong(wrong[0], self._at + wrong[1])
            self._at += length
            return found

    def end(self) -> None:
        """Makes sure that nothing more follows."""
        if self.next():
            raise self._wrong("Extra data", self._at)

    def _more(self) -> bool:
        """Forgets what has been read and fetches another block; False where there is none."""
        passed = self._text[: self._at]
        if lines := passed.count("\n"):
            self._line, self._column = self._line + lines, len(passed) - passed.rfind("\n")
        else:
            self._column += len(passed)
        rest = self._text[self._at :]
        block = self._file.read(max(_BLOCK, len(rest)))  # twice as much each time, for items of many blocks
        self._text, self._at = rest + block, 0
        return bool(block)

    def _wrong(self, what: str, place: int) -> ItmkitError:
        before = self._text[:place]
        line = self._line + before.count("\n")
        column = len(before) - before.rfind("\n") if "\n" in before else self._column + len(before)
        return ItmkitError(f"{self._path}: line {line}, column {column}: not JSON ({what})")


def _items(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.next() == "]":
        text.take("]")
        return
    while True:
        yield text.value()
        if text.take(",]") == "]":
            return


def _items_of(path: Path, text: _Text, key: str) -> Iterator[Any]:
    if (begins := text.next()) != "{":
        kind = "is empty" if not begins else "is a list" if begins == "[" else "is no JSON object"
        raise ItmkitError(f"{path}: {kind}; an object with a list under {key!r} is needed")
    found = False
    for name in _names(text):
        if name != key:
            _pass_over(text)
            continue
        if text.next() != "[":
            raise ItmkitError(f"{path}: {key!r} is no list")
        found = True
        yield from _items(text)
    if not found:
        raise ItmkitError(f"{path}: {key!r} is missing")


def _names(text: _Text) -> Iterator[Any]:
    """The names of an object. At each of them the text is before its value, which the caller reads or passes over."""
    text.take("{")
    if text.next() == "}":
        text.take("}")
        return
    while True:
        name = text.value()
        text.take(":")
        yield name
        if text.take(",}") == "}":
            return


def _pass_over(text: _Text) -> None:
    """Passes over a value; of a list, one item is in memory at a time."""
    if text.next() != "[":
        text.value()
        return
    for _ in _items(text):
        pass

"""Files that appear whole or not at all, and digests that say whether two inputs are the same."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut (a no-op where folders cannot be opened, as on Windows)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def fresh_file(path: Path) -> None:
    """Makes an empty file under a temporary name. What a killed run left there goes.

    A link there, as a workspace from somewhere else may have, is removed and not followed: it could name any file.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))


def remove_folder(folder: Path) -> None:
    """Removes a folder of our own with all that is in it, if there is one. Of a link, only the link goes."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_path(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`, of an empty file; on success it is flushed to disk and renamed to `path`.

    On any exception the temporary file is removed and `path` keeps what it had. The temporary name is fixed
    (`.NAME.partial`), so a killed run leaves at most one such file, which the next run overwrites.

    Args:
        flush: False leaves the flushing to a caller who writes many files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        fresh_file(partial)
        yield partial
        if flush:
            with open(partial, "rb+") as handle:
                os.fsync(handle.fileno())
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that failed does not say of which file
        raise
    if flush:
        _sync_folder(path.parent)


def check_replaces(path: Path, is_of_kind: Callable[[Path], bool], what: str, *, force: bool = False) -> None:
    """Raises ItmkitError if a file that the user names is there already and is none of ours.

    Args:
        is_of_kind: whether the file at a path is of the kind that is written. what: that kind, in words: "a figure".
        force: replace whatever file is there.
    """
    if path.is_dir():
        raise ItmkitError(f"{path}: is a folder, a file is needed")
    if os.path.lexists(path) and not force and not is_of_kind(path):
        raise ItmkitError(f"{path}: is there already and is not {what}; name another file, or remove it first")


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, non-ASCII kept; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_text(path: Path, *, most: int | None = None) -> str:
    """The file as UTF-8 text. Errors name the file and the byte that is not UTF-8.

    Args:
        most: bytes that the file may have; a larger one is refused without being read.
    """
    try:
        found = path.stat()
        if most is not None and found.st_size > most:
            raise ItmkitError(f"{path}: has {found.st_size:,} bytes; at most {most:,} are read")
        if stat.S_ISFIFO(found.st_mode):  # reading it would wait for ever
            raise ItmkitError(f"{path}: is a pipe, a file is needed")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ItmkitError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ItmkitError(f"{path}: is a folder, a file is needed") from None
    return decode_utf8(data, path)


def decode_utf8(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ItmkitError(
            f"{path}: line {line}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8;"
            " convert the file to UTF-8 first"
        ) from None


def utf8_lines(path: Path, problems: list[str]) -> Iterator[tuple[int, str]]:
    """(line number, line without its end) of a text file, read a line at a time.

    Lines that are not UTF-8 are added to `problems` and still yielded, with the wrong bytes replaced, so that
    what else is wrong with the file is found too.
    """
    with open(path, "rb") as lines:
        for number, data in enumerate(lines, 1):
            if number == 1 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                problems.append(f"{path}: is UTF-16; convert the file to UTF-8 first")
                return
            try:
                line = data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong = f"byte {error.start + 1} (0x{data[error.start]:02x})"
                problems.append(f"{path}: line {number}: {wrong} is not UTF-8; convert the file to UTF-8 first")
                line = data.decode("utf-8", "replace")
            yield number, line.rstrip("\r\n")


def read_json(path: Path, *, most: int | None = None) -> Any:
    """A JSON file of whatever form, `most` as for `read_text`. Files of itmkit itself are read by `itmkit.typed`."""
    try:
        return json.loads(read_text(path, most=most))
    except json.JSONDecodeError as error:
        raise ItmkitError(f"{path}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except ValueError:  # Python refuses to read a number of more than 4,300 digits
        raise ItmkitError(f"{path}: holds a number of thousands of digits") from None
    except RecursionError:
        raise ItmkitError(f"{path}: nested too deeply to be read") from None


def size_in_words(count: int) -> str:
    """Bytes as people read them: 512 B, 1.5 kB, 23 MB (powers of 1,000)."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.1f} {units[0]}" if size < 9.95 and units[0] != "B" else f"{size:.0f} {units[0]}"


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(handle)


def _sha256(handle: Any) -> str:
    state = hashlib.sha256()  # Python 3.10 has no hashlib.file_digest
    while block := handle.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def digest(value: Any) -> str:
    """Hex sha256 of a JSON-able value; equal values have equal digests, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

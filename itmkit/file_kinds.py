"""Which files are no text, though somebody named them where text is read: archives, tables of other programs, pages."""

from __future__ import annotations

import re
from pathlib import Path

from itmkit.errors import ItmkitError

_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf|hdfs):/", re.IGNORECASE)
_TABLE = "save it as a table with a picture and a caption in each line (.csv, UTF-8)"
_UNPACK = "unpack it and name the file inside"
# The first bytes of a file, what such a file is, and what to do with it.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"PAR1", "a Parquet file", f"{_TABLE}, such as with pandas.read_parquet(FILE).to_csv(NEW)"),
    (b"ARROW1", "an Arrow file", f"{_TABLE}, such as with pandas.read_feather(FILE).to_csv(NEW)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", _TABLE),
    (b"\x89HDF", "an HDF5 file", _TABLE),
    (b"SQLite format 3", "an SQLite database", _TABLE),
    (b"\x93NUMPY", "a NumPy array", _TABLE),
    (b"%PDF", "a PDF file", _TABLE),
    (b"\xff\xd8\xff", "a picture", "name the file with the captions"),
    (b"\x89PNG", "a picture", "name the file with the captions"),
    (b"\xff\xfe", "UTF-16", "convert the file to UTF-8 first"),
    (b"\xfe\xff", "UTF-16", "convert the file to UTF-8 first"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself", "run `git lfs pull`"),
    (b"<!doctype html", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
)


def check_is_text(path: Path) -> None:
    """Raises ItmkitError where there is no such file, or its first bytes say that it is no text; says what to do."""
    if _ADDRESS.match(str(path)):
        raise ItmkitError(f"{path}: is an address; download the file first and name the copy")
    if path.is_dir():
        raise ItmkitError(f"{path}: is a folder, a file is needed")
    if not path.exists():
        raise ItmkitError(f"{path}: no such file")
    if not path.is_file():
        return  # a pipe, whose bytes can be read only once
    with open(path, "rb") as file:
        head = file.read(1024)
    if told := _kind(head):
        raise ItmkitError(f"{path}: is {told[0]}; {told[1]}")


def is_address(text: str) -> bool:
    """Whether a text that should name a file is an address in a network."""
    return _ADDRESS.match(text) is not None


def _kind(head: bytes) -> tuple[str, str] | None:
    if head[:4] == b"PK\3\4":
        if b"[Content_Types].xml" in head or b"xl/" in head or b"_rels/" in head:
            return "an Excel workbook (.xlsx) or the like", _TABLE
        return "a zip archive", _UNPACK
    if head[257:262] == b"ustar":
        unpacked = "unpack it, and write a table (.csv) with a picture and a caption in each line"
        return "a tar archive (a shard of WebDataset?)", unpacked
    if head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5" and len(head) > 1:
        return "a Python pickle, which is never read", _TABLE
    for beginning, what, advice in _BEGINNINGS:
        if head[: len(beginning)].lower() == beginning.lower():
            return what, advice
    return None

"""The names of objects and attributes that a bottom-up-attention detector numbers: text files beside its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import decode_utf8

OBJECTS, ATTRIBUTES = "objects_vocab.txt", "attributes_vocab.txt"
_MOST_BYTES = 1 << 22


def read_vocabulary(folder: Path) -> dict[str, list[str]]:
    """{"tags": names of the objects, "attributes": names of the attributes} of a folder with the two files.

    A line is a name, or several names with one meaning and commas between them. The first one is taken. Line k (from 0)
    is number k of the detector.

    Raises:
        ItmkitError: everything that is wrong with the two files, in one error.
    """
    tables: dict[str, list[str]] = {}
    problems: list[str] = []
    for table, name in (("tags", OBJECTS), ("attributes", ATTRIBUTES)):
        path = folder / name
        try:
            tables[table] = read_names(path)
        except ItmkitError as error:
            problems += error.problems
    limit = np.iinfo(np.int16).max
    if len(tables.get("attributes", [])) > limit:
        problems.append(f"{folder / ATTRIBUTES}: has {len(tables['attributes'])} lines; at most {limit} fit")
    if problems:
        raise ItmkitError(problems)
    return tables


def read_names(path: Path, count: int | None = None) -> list[str]:
    """The names of one of the two files, in lower case, single spaces.

    Args:
        count: how many names the detector numbers, if that is known.

    Raises:
        ItmkitError: the file is missing, is not text, has a line without a name, or does not have `count` lines.
    """
    if not path.is_file():
        raise ItmkitError(f"{path}: no such file; --vocabulary names a folder with {OBJECTS} and {ATTRIBUTES}")
    if path.stat().st_size > _MOST_BYTES:
        raise ItmkitError(f"{path}: has {path.stat().st_size:,} bytes; a list of names is needed")
    lines = decode_utf8(path.read_bytes(), path).removesuffix("\n").split("\n")
    names = [" ".join(line.split(",")[0].lower().split()) for line in lines]
    problems = []
    empty = [str(number) for number, name in enumerate(names, 1) if not name]
    if empty:
        problems.append(f"{path}: no name in line {', '.join(empty[:5])}")
    if count is not None and len(names) != count:
        problems.append(f"{path}: has {len(names):,} lines, the model has {count:,} of them")
    if problems:
        raise ItmkitError(problems)
    return names

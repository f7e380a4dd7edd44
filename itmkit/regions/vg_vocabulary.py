"""Names of objects and attributes: those a bottom-up-attention detector numbers, those an open detector looks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import decode_utf8

OBJECTS, ATTRIBUTES = "objects_vocab.txt", "attributes_vocab.txt"
VISUAL_GENOME = Path(__file__).parent / "weights" / "visual-genome" / OBJECTS
_MOST_BYTES = 1 << 22
_MOST_NAMES = 20_000  # each is compared with every patch of a picture


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


def names_to_find(place: Path | None) -> list[str]:
    """The names that an open-vocabulary detector looks for, each once, in lower case.

    Args:
        place: a text file with a name in each line, or a folder with objects_vocab.txt; None: the 1,600 of Visual
            Genome.

    Raises:
        ItmkitError: there is no such file, it is not text, or has a line without a name or too many lines.
    """
    if place is None:
        return list(dict.fromkeys(read_names(VISUAL_GENOME)))
    path = place / OBJECTS if place.is_dir() else place
    if not path.is_file():
        raise ItmkitError(f"{path}: no such file; --vocabulary names a text file with a name in each line")
    names = list(dict.fromkeys(read_names(path)))
    if len(names) > _MOST_NAMES:
        raise ItmkitError(f"{path}: has {len(names):,} names; a detector is asked for at most {_MOST_NAMES:,}")
    return names

"""Fields of other people's JSON: the value, or a line in `problems` that names file, place and key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itmkit.json_items import list_items


def objects_in(file: Path, key: str, damaged: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of each object in the list `key` of the object that a file is, one in memory at a time.

    Items that are no objects stand in `damaged`.

    Raises:
        ItmkitError: the file is no JSON, or has no such list.
    """
    for number, item in enumerate(list_items(file, key)):
        if isinstance(item, dict):
            yield f"{file}: {key}[{number}]", item
        else:
            damaged.append(f"{file}: {key}[{number}]: not an object")


def list_of_objects(
    entry: dict[str, Any], key: str, place: str, problems: list[str], damaged: list[str]
) -> list[tuple[str, dict[str, Any]]]:
    """(place, object) of each object in the list `entry[key]`; `place` becomes "PLACE.key[3]".

    Items that are no objects stand in `damaged`.
    """
    items = entry.get(key)
    if not isinstance(items, list):
        problems.append(f"{place}: {key!r} {'is no list' if key in entry else 'is missing'}")
        return []
    found = []
    for number, item in enumerate(items):
        where = f"{place}.{key}[{number}]"
        if isinstance(item, dict):
            found.append((where, item))
        else:
            damaged.append(f"{where}: not an object")
    return found


def string(entry: dict[str, Any], key: str, place: str, problems: list[str]) -> str:
    value = entry.get(key)
    if isinstance(value, str):
        return value
    problems.append(f"{place}: {key!r} is missing" if value is None else f"{place}: {key!r} is {value!r}, not a string")
    return ""


def integer_or_string(entry: dict[str, Any], key: str, place: str, problems: list[str]) -> str:
    """An id, as a string. Some programs write the number 7 as 7.0."""
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    problems.append(f"{place}: {key!r} is missing" if value is None else f"{place}: {key!r} is {value!r}, not an id")
    return ""

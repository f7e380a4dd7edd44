"""Reads `{name}_tags.json` of the SCAN layout, which may be larger than memory, a picture at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from itmkit.errors import ItmkitError
from itmkit.json_items import list_items


def read_tags(path: Path) -> Iterator[list[str]]:
    """The rows of a tags file, one at a time: a JSON list of lists of strings, however large.

    Raises:
        ItmkitError: not UTF-8, or not such a list; names the row or the line.
    """
    for row, tags in enumerate(list_items(path)):
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise ItmkitError(f"{path}: row {row}: must be a list of strings")
        yield tags

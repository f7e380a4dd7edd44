"""Reads `{name}_tags.json` of the SCAN layout, which may be larger than memory, a picture at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from itmkit.errors import ItmkitError


def read_tags(path: Path) -> Iterator[list[str]]:
    """The rows of a tags file, one at a time: a JSON list of lists of strings, however large.

    Raises:
        ItmkitError: not UTF-8, or not such a list; names the row.
    """
    decoder, row, text, place = json.JSONDecoder(), 0, "", 0
    with open(path, encoding="utf-8-sig") as file:
        try:
            text = file.read(1 << 20).lstrip()
            if not text.startswith("["):
                raise ItmkitError(f"{path}: must be a JSON list with one list of tags a picture")
            place, ended = 1, False
            while True:
                match = re.compile(r"[\s,]*").match(text, place)
                place = match.end() if match else place
                if text[place : place + 1] == "]":
                    return
                try:
                    tags, stop = decoder.raw_decode(text, place)
                    complete = True
                except (json.JSONDecodeError, RecursionError):
                    complete = False
                if not complete:
                    more = "" if ended or len(text) - place > (64 << 20) else file.read(1 << 20)
                    if not more:
                        raise ItmkitError(f"{path}: row {row}: not JSON, or the file was cut short")
                    text, place = text[place:] + more, 0
                    continue
                if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                    raise ItmkitError(f"{path}: row {row}: must be a list of strings")
                yield tags
                row, place = row + 1, stop
        except UnicodeDecodeError:
            raise ItmkitError(f"{path}: row {row}: not UTF-8") from None

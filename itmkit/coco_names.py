"""COCO's number of an image, which its files and everything about it are named by."""

from __future__ import annotations

import re

_NAME = re.compile(r"(?:COCO_(?:train|val|test)[0-9]{4}_)?0*([0-9]{1,12})")


def coco_number(name: str) -> str | None:
    """ "391895" of "391895", "000000391895" or "COCO_val2014_000000391895"; None of any other name."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None

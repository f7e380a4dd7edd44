"""Text of others - captions, ids, names, paths, messages of libraries - as characters that only show."""

from __future__ import annotations

import re

# What a terminal obeys, what hides or reorders text, and what no encoding can write:
NOT_SHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls, which begin escape sequences and links
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of writing
    "\u200b\u2028\u2029\u2060-\u2064\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible characters, line separators
    "\ufffe\uffff"  # no characters, which XML refuses
    "\ud800-\udfff]"  # bytes of a file name that are no UTF-8
)


def visible(text: str, *, keep: str = "") -> str:
    r"""The text with every character that would not show written as Python writes it: `\x1b`, `\n`, `\u202e`.

    Args:
        keep: characters that stay as they are, such as line breaks of a file.
    """
    return NOT_SHOWN.sub(lambda found: _written(found[0]) if found[0] not in keep else found[0], text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

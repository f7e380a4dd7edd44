"""Captions and words without white space and in one spelling of quotes, dashes and brackets.

Parsers that give no character offsets write some characters their own way: Stanford CoreNLP has `-LRB-` for `(` and
two quotes for `"`. In one spelling, the words of a caption one after the other are the caption.
"""

from __future__ import annotations

import re

from itmkit.parse_text.penn import ESCAPE, unescape

_AS = {
    **dict.fromkeys('"“”„‟«»', "''"),
    **dict.fromkeys("`´‘’‚‛", "'"),
    **dict.fromkeys("‒–—―", "--"),
    "…": "...",
}
_ODD = re.compile(rf"{ESCAPE.pattern}|\s|[{''.join(_AS)}]", re.IGNORECASE)


def spelled(text: str) -> str:
    return _ODD.sub(lambda found: _respell(found[0]), text)


def spelled_with_places(text: str) -> tuple[str, list[int], list[int]]:
    """`spelled(text)`, and for each of its characters where in the text it starts and ends."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for found in _ODD.finditer(text):
        first, last = found.span()
        piece = _respell(found[0])
        pieces += (text[at:first], piece)
        starts += [*range(at, first), *[first] * len(piece)]
        ends += [*range(at + 1, first + 1), *[last] * len(piece)]
        at = last
    pieces.append(text[at:])
    starts += range(at, len(text))
    ends += range(at + 1, len(text) + 1)
    return "".join(pieces), starts, ends


def _respell(found: str) -> str:
    if found.isspace():
        return ""
    return _AS.get(found) or unescape(found)

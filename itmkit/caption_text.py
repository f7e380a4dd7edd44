"""What is a caption at all: text that holds something to read, in one spelling of what looks alike."""

from __future__ import annotations

import html
import re
import unicodedata

# Characters that Unicode counts as letters or symbols, though nothing is seen of them.
_BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffc")
_UNSEEN = frozenset(["Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me"])
_WORDS = frozenset(["Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "So"])
_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})


def is_blank(text: str) -> bool:
    """Whether nothing of a text is seen: it is empty, or only white space, controls, joiners and lone accents."""
    return all(char in _BLANK or unicodedata.category(char) in _UNSEEN for char in text)


def has_words(text: str) -> bool:
    """Whether a text holds a letter, a digit or an emoji, and not only punctuation or what `is_blank` passes over."""
    return any(char not in _BLANK and unicodedata.category(char) in _WORDS for char in text)


def _character(entity: re.Match[str]) -> str:
    found = html.unescape(entity[0])
    return " " if found.isspace() and found.isascii() else found


def evenly_spelled(text: str) -> str:
    """The text with composed accents (Unicode NFC), straight apostrophes, and characters in place of HTML entities.

    `caf\u00e9` is then one word however it was typed, and so is `it's`; `&amp;` is `&`. Text without any of these
    comes back as it is. Entities of line breaks and tabs become spaces: a caption is a line.
    """
    if text.isascii() and "&" not in text:
        return text
    for _ in range(3):  # &amp;amp; was escaped twice
        plain = _ENTITY.sub(_character, text)
        if plain == text:
            break
        text = plain
    return unicodedata.normalize("NFC", text).translate(_APOSTROPHES)

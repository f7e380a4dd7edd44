"""Text of others in a given room: broken into lines as wide as the font makes them."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from itmkit.report.page import shown


def lines_of(matplotlib: Any, text: str, inches: float, *, points: float, most: int) -> list[str]:
    """The text in at most `most` lines of at most `inches`; an ellipsis stands for what does not fit.

    Lines break after a space where one is in their second half, else anywhere, so that no word is too long.
    """
    rest = shown(" ".join(text.split()))
    found: list[str] = []
    while rest and len(found) < most:
        count = _fitting(matplotlib, rest, inches, points)
        if count < len(rest) and len(found) == most - 1:
            count = _fitting(matplotlib, rest, inches - _width(matplotlib, "\u2026", points), points)
            return [*found, rest[:count].rstrip() + "\u2026"]
        if count < len(rest):
            space = rest.rfind(" ", count // 2, count + 1)
            count = space if space > 0 else count
        found.append(rest[:count].rstrip())
        rest = rest[count:].lstrip()
    return found


def _fitting(matplotlib: Any, text: str, inches: float, points: float) -> int:
    """How many letters of the text fit, one at least."""
    wide = 0.0
    for count, letter in enumerate(text):
        wide += _width(matplotlib, letter, points)
        if wide > inches:
            return max(1, count)
    return len(text)


def _width(matplotlib: Any, letter: str, points: float) -> float:
    return _em(matplotlib, letter) * points / 72


@cache
def _em(matplotlib: Any, letter: str) -> float:
    """How wide a letter is, in sizes of the font. Letters that the font lacks are as wide as those of other fonts."""
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    font = matplotlib.font_manager.FontProperties(family="DejaVu Sans", size=72)
    file = matplotlib.font_manager.get_font(matplotlib.font_manager.findfont(font))
    if not file.get_char_index(ord(letter)):
        return 1.0
    wide, _, _ = matplotlib.textpath.text_to_path.get_text_width_height_descent(letter, font, False)
    return float(wide) / 72

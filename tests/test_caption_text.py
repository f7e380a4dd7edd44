from __future__ import annotations

import pytest

from itmkit.caption_text import evenly_spelled, has_words, is_blank


@pytest.mark.parametrize("text", ["", " \t", "\u200b\ufeff", "\ufe0f", "\u3164", "\u2800", "\u0301", "\u00ad"])
def test_texts_of_which_nothing_is_seen(text: str) -> None:
    assert is_blank(text) and not has_words(text)


@pytest.mark.parametrize(
    ("text", "words"), [("...", False), ("- ?", False), ("a", True), ("7", True), ("🐶", True), ("狗", True)]
)
def test_texts_of_which_something_is_seen(text: str, words: bool) -> None:
    assert not is_blank(text) and has_words(text) == words


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("a man's dog & R&D", "a man's dog & R&D"),
        ("cafe\u0301 d’e\u0301te\u0301", "caf\u00e9 d'\u00e9t\u00e9"),
        ("&lt;b&gt; &#39;x&#x27; &amp;amp; &copycat &nosuch;", "<b> 'x' & &copycat &nosuch;"),
        ("“quoted” ½", "“quoted” ½"),
        ("a&#10;b&#9;c&amp;#13;d &#32;", "a b c d  "),
    ],
)
def test_one_spelling(written: str, stored: str) -> None:
    assert evenly_spelled(written) == stored == evenly_spelled(stored)

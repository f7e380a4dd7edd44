"""Captions in the pieces of BERT: as its published tokeniser cuts them."""

from __future__ import annotations

import pytest

from itmkit.parse_text.wordpieces import basic_words, word_pieces

KNOWN = {
    "a",
    "un",
    "##aff",
    "##able",
    "t",
    "-",
    "shirt",
    "##s",
    "mask",
    "[",
    "]",
    "[MASK]",
    "$",
    "5",
    "el",
    "##an",
    "中",
    "文",
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A T-shirt.", ["a", "t", "-", "shirt", "."]),
        ("[MASK] it", ["[", "mask", "]", "it"]),  # no special token
        ("Élan naïve ÅNGSTRÖM", ["elan", "naive", "angstrom"]),
        ("中文 x中", ["中", "文", "x", "中"]),
        ("a\u200db\u00a0c\td\u2028e\x00f\x85g", ["ab", "c", "d", "efg"]),  # joiners and controls go, spaces divide
        ("ΟΔΟΣ", ["οδος"]),  # the last sigma of a word is another letter
        ("İI", ["ii"]),
        ("한", ["\u1112\u1161\u11ab"]),
        ("$5 a`b ≮", ["$", "5", "a", "`", "b", "<"]),
        (" \u0301 ", []),
        ("", []),
    ],
)
def test_basic_words(text: str, words: list[str]) -> None:
    assert [word for word, _ in basic_words(text)] == words


@pytest.mark.parametrize(
    ("text", "pieces", "characters"),
    [
        ("Unaffable T-Shirts", ["un", "##aff", "##able", "t", "-", "shirt", "##s"],
         ["Un", "aff", "able", "T", "-", "Shirt", "s"]),
        ("É lan x", ["[UNK]", "[UNK]", "[UNK]"], ["É", "lan", "x"]),
        ("e\u0301lan", ["el", "##an"], ["e\u0301l", "an"]),
        ("unaffx a", ["[UNK]", "a"], ["unaffx", "a"]),  # a part of it is no piece
        ("a" * 101, ["[UNK]"], ["a" * 101]),
        ("[MASK]", ["[", "mask", "]"], ["[", "MASK", "]"]),
        ("İ$", ["[UNK]", "$"], ["İ", "$"]),
    ],
)  # fmt: skip
def test_pieces_and_where_they_stand(text: str, pieces: list[str], characters: list[str]) -> None:
    found, places = word_pieces(text, KNOWN)
    assert found == pieces
    assert [text[start:end] for start, end in places] == characters

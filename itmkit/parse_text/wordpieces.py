"""Captions cut as BERT (uncased) cuts them: basic words, then the pieces of a vocabulary, and where each stands.

The steps are those of the tokeniser that published code uses, in its order. Characters that control something are
dropped, Chinese characters stand alone, white space divides. Of each word the letters are made small, accents are
dropped, and punctuation marks are set apart. Each word is then cut into the longest pieces that the vocabulary has,
from its beginning on. Names of special tokens in a caption, such as "[MASK]", are plain text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from functools import cache
from typing import Literal

PADDING, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
LONGEST_WORD = 100  # letters; a longer word is unknown
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
Word = tuple[str, list[int]]  # its letters, and the character of the caption that each comes from


def word_pieces(text: str, vocabulary: Collection[str]) -> tuple[list[str], list[tuple[int, int]]]:
    """The pieces of a caption, without [CLS] and [SEP], and the characters (start, end) of each.

    Args:
        vocabulary: a set or dict with all pieces, those within a word beginning with ##.
    """
    pieces: list[str] = []
    places: list[tuple[int, int]] = []
    for word, characters in basic_words(text):
        for piece, begin, end in _cut(word, vocabulary):
            pieces.append(piece)
            places.append((characters[begin], characters[end - 1] + 1))
    return pieces, places


def basic_words(text: str) -> list[Word]:
    """The words of a caption: small letters without accents, or one punctuation mark."""
    words: list[Word] = []
    for raw, characters in _divided(text):
        word, kept = _plain(raw, characters)
        begin = 0
        for place, letter in enumerate(word):
            if _is_punctuation(letter):
                words += [(word[begin:place], kept[begin:place]), (letter, kept[place : place + 1])]
                begin = place + 1
        words.append((word[begin:], kept[begin:]))
    return [word for word in words if word[0]]


def _divided(text: str) -> list[Word]:
    words: list[Word] = []
    letters: list[str] = []
    characters: list[int] = []
    for place, character in enumerate(f"{text} "):
        kind = _kind(character)
        if kind == "letter":
            letters.append(character)
            characters.append(place)
        elif kind != "nothing":
            if letters:
                words.append(("".join(letters), characters))
                letters, characters = [], []
            if kind == "alone":
                words.append((character, [place]))
    return words


@cache
def _kind(character: str) -> Literal["letter", "alone", "space", "nothing"]:
    code, category = ord(character), unicodedata.category(character)
    if character in "\t\n\r":
        return "space"
    if code in (0, 0xFFFD) or category.startswith("C"):
        return "nothing"
    if character.isspace():
        return "space"
    return "alone" if any(first <= code <= last for first, last in _CHINESE) else "letter"


def _plain(word: str, characters: list[int]) -> Word:
    """Small letters without accents. One character may become several: each keeps its place."""
    for change in (str.lower, _decomposed):
        characters = [place for place, one in zip(characters, word, strict=True) for _ in change(one)]
        word = change(word)
    kept = [k for k, letter in enumerate(word) if unicodedata.category(letter) != "Mn"]
    return "".join(word[k] for k in kept), [characters[k] for k in kept]


def _decomposed(word: str) -> str:
    return unicodedata.normalize("NFD", word)


@cache
def _is_punctuation(character: str) -> bool:
    """All marks of ASCII count, such as $ and ^, which are no punctuation to Unicode."""
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")


def _cut(word: str, vocabulary: Collection[str]) -> list[tuple[str, int, int]]:
    """The pieces of a word and their letters, begin and end; one unknown piece where some part of it is none."""
    unknown = [(UNKNOWN, 0, len(word))]
    if len(word) > LONGEST_WORD:
        return unknown
    found: list[tuple[str, int, int]] = []
    begin = 0
    while begin < len(word):
        for end in range(len(word), begin, -1):
            piece = ("##" if begin else "") + word[begin:end]
            if piece in vocabulary:
                break
        else:
            return unknown
        found.append((piece, begin, end))
        begin = end
    return found

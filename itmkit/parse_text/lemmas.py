"""Lemmas as edit scripts: how many letters to cut from a word's end and what to put there.

A script is `<case><cut>|<ending>`: case `l` lowers the word first, `k` keeps it. `l3|y` makes `Flies` -> `fly`.
"""

from __future__ import annotations


def script(word: str, lemma: str) -> str:
    """The script that turns word into lemma."""
    lowered = word.lower()
    case = "k" if _common(word, lemma) > _common(lowered, lemma) else "l"
    base = word if case == "k" else lowered
    shared = _common(base, lemma)
    return f"{case}{len(base) - shared}|{lemma[shared:]}"


def apply(script: str, word: str) -> str:
    """The lemma that a script makes from a word. If the script cuts more than there is, the word in lower case."""
    cut, _, ending = script[1:].partition("|")
    base = word if script[0] == "k" else word.lower()
    length = int(cut)
    if length > len(base):
        return word.lower()
    return (base[: len(base) - length] + ending) or word.lower()


def _common(a: str, b: str) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))

"""Captions in languages that put no spaces between words, which a parser of English takes for one long word each."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Thai and Lao, Burmese, Khmer, kana, and Chinese characters.
_RUN = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_LONG = 3.5  # characters a run, on the average: between spaces, words of these languages have one to three
_LONGEST_WORD = 24  # letters of a caption of any script without a space
_LOOKED_AT = 2000  # captions


def note_if_unspaced(texts: Sequence[str], parser: str, model: str) -> str | None:
    """A note if most captions have no spaces between their words and the parser does not divide such text."""
    if parser not in ("itmkit", "spacy") or (parser == "spacy" and not model.startswith("en")):
        return None
    looked_at = texts[:: max(1, len(texts) // _LOOKED_AT)]
    found = [text for text in looked_at if is_unspaced(text)]
    if 2 * len(found) <= len(looked_at):
        return None
    return (
        f"most captions have no spaces between their words ({found[0][:30]!r}), and the parser {parser} takes each for"
        " one long word, from which nothing can be learnt: parse with --parser stanza and a model of the language, or"
        " divide the words with another program and use --parser conllu"
    )


def is_unspaced(text: str) -> bool:
    """Whether a text is written without spaces between its words."""
    runs = _RUN.findall(text)
    letters = sum(char.isalpha() for char in text)
    if 2 * sum(map(len, runs)) > letters:
        return sum(map(len, runs)) >= _LONG * len(runs)
    return len(text.split()) == 1 and letters > _LONGEST_WORD

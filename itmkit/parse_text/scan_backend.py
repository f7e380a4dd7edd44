"""The parser `scan`: captions cut into the words of published code. It makes no trees."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.parse_text.parsed import ParsedTexts, code
from itmkit.parse_text.published_words import published_words, spans

RULES = 1  # counts up when the same caption may get other words


class ScanBackend:
    def __init__(self, model: str | None) -> None:
        if model is not None:
            raise ItmkitError(f"--model {model}: the parser scan has no model; leave the option out")

    @property
    def model(self) -> dict[str, Any]:
        return {"id": "words of NLTK", "rules": RULES}

    def parse(self, texts: Sequence[str], batch_size: int) -> ParsedTexts:
        """See `Backend`. The caches of this parser keep the words and their places; the rest says nothing."""
        words = [published_words(text) for text in texts]
        places = np.array(
            [place for text, found in zip(texts, words, strict=True) for place in spans(text, found)], np.int32
        ).reshape(-1, 2)
        coded = code(list(chain.from_iterable(words)))
        lengths = np.array([len(found) for found in words], np.int64)
        nothing = code([""] * len(places))
        firsts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        return ParsedTexts(
            lengths=lengths,
            words=coded,
            lemmas=coded,
            pos=nothing,
            relations=nothing,
            heads=(np.arange(len(places)) - firsts).astype(np.int32),
            starts=places[:, 0],
            ends=places[:, 1],
            sentences=np.zeros(len(places), np.int16),
        )

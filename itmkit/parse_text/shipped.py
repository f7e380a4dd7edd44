"""The parser that ships with itmkit as a backend of `parse_text`: own tokeniser, own network, no other package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.files import sha256_file
from itmkit.parse_text.parsed import LAST_SENTENCE, Coded, ParsedTexts, code
from itmkit.parse_text.parser import SHIPPED, Parser
from itmkit.parse_text.tokens import tokenise


class ShippedBackend:
    """`folder`: a parser saved by `examples/train_parser.py`; None for the one in the package."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = Path(folder) if folder is not None else SHIPPED
        self._parser = Parser.load(self._folder)

    @cached_property
    def model(self) -> dict[str, Any]:
        weights, labels = (sha256_file(self._folder / f"parser.{kind}") for kind in ("safetensors", "json"))
        return {"id": "itmkit-english", "sha256": weights, "labels_sha256": labels}

    def parse(self, texts: Sequence[str], batch_size: int) -> ParsedTexts:
        """See `Backend`. `batch_size` captions of 16 words, or fewer longer ones, go through the network at once."""
        tokens = [tokenise(text) for text in texts]
        words = list(chain.from_iterable(t.words for t in tokens))
        first_words: list[int] = []  # of each sentence, counted within its caption
        sentences: list[list[str]] = []
        for t in tokens:
            for start, end in t.sentence_bounds():
                first_words.append(start)
                sentences.append(t.words[start:end])
        parse = self._parser.parse(sentences, batch_words=16 * batch_size)
        shift = np.repeat(np.array(first_words, np.int32), np.diff(parse.offsets))
        coded = code(words)
        return ParsedTexts(
            lengths=np.array([len(t) for t in tokens], np.int64),
            words=coded,
            lemmas=self._lemmas(coded, parse.scripts),
            pos=Coded(parse.pos.astype(np.int32), self._parser.labels.pos),
            relations=Coded(parse.relations.astype(np.int32), self._parser.labels.relations),
            heads=parse.heads + shift,
            starts=np.fromiter(chain.from_iterable(t.starts for t in tokens), np.int32, len(words)),
            ends=np.fromiter(chain.from_iterable(t.ends for t in tokens), np.int32, len(words)),
            sentences=np.minimum(
                np.fromiter(chain.from_iterable(t.sentences for t in tokens), np.int32, len(words)), LAST_SENTENCE
            ).astype(np.int16),
        )

    def _lemmas(self, words: Coded, scripts: np.ndarray) -> Coded:
        """Applies each distinct pair of word and edit script once."""
        scripts_known = max(1, len(self._parser.labels.lemma_scripts))
        pairs, places = np.unique(words.codes.astype(np.int64) * scripts_known + scripts, return_inverse=True)
        made = code([self._parser.lemma(words.strings[p // scripts_known], p % scripts_known) for p in pairs.tolist()])
        return Coded(made.codes[places], made.strings)

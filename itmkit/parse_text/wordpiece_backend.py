"""The parser `wordpiece`: captions cut into the pieces of BERT, between [CLS] and [SEP]. It makes no trees.

Published code that trains BERT with the rest reads captions so, and counts both as words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from itmkit.errors import ItmkitError
from itmkit.files import digest
from itmkit.parse_text.parsed import ParsedTexts, code
from itmkit.parse_text.wordpieces import BEGIN, END, PADDING, UNKNOWN, word_pieces
from itmkit.typed import Count, read_checked

RULES = 1  # counts up when the same caption may get other pieces
MOST_BYTES = 32 << 20  # of a vocabulary: that of bert-base-uncased has 0.2 MiB
ASKED = "BERT's vocab.txt (of bert-base-uncased, for instance), or a folder with it"


class WordpieceBackend:
    def __init__(self, model: str | None) -> None:
        if model is None:
            raise ItmkitError(f"--model is needed: {ASKED}")
        self._pieces = read_pieces(Path(model))
        self._known = frozenset(self._pieces)

    @property
    def model(self) -> dict[str, Any]:
        return {
            "id": f"{len(self._pieces):,} word pieces",
            "sha256": pieces_sha256(self._pieces),
            "rules": RULES,
        }

    def parse(self, texts: Sequence[str], batch_size: int) -> ParsedTexts:
        """See `Backend`. The caches of this parser keep the pieces and their places; the rest says nothing."""
        pieces: list[str] = []
        places: list[tuple[int, int]] = []
        lengths = np.empty(len(texts), np.int64)
        for number, text in enumerate(texts):
            found, where = word_pieces(text, self._known)
            pieces += [BEGIN, *found, END]
            places += [(0, 0), *where, (len(text), len(text))]
            lengths[number] = len(found) + 2
        coded, nothing = code(pieces), code([""] * len(pieces))
        spans = np.array(places, np.int32).reshape(-1, 2)
        firsts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        return ParsedTexts(
            lengths=lengths,
            words=coded,
            lemmas=coded,
            pos=nothing,
            relations=nothing,
            heads=(np.arange(len(pieces)) - firsts).astype(np.int32),
            starts=spans[:, 0],
            ends=spans[:, 1],
            sentences=np.zeros(len(pieces), np.int16),
        )


@dataclass
class _Written:
    """The words of a run, as far as they are read."""

    word2idx: dict[str, Count]


def read_pieces(path: Path) -> tuple[str, ...]:
    """The pieces of a BERT, by their numbers.

    Args:
        path: vocab.txt with one piece a line, a folder with it, or the vocabulary.json of a run.

    Raises:
        ItmkitError: there is no such file, it is no vocabulary of BERT, or a piece is in it twice.
    """
    path = path / "vocab.txt" if path.is_dir() else path
    if not path.is_file():
        raise ItmkitError(f"{path}: no such file; {ASKED} is needed")
    if path.stat().st_size > MOST_BYTES:
        raise ItmkitError(f"{path}: has {path.stat().st_size:,} bytes, which is no vocabulary; {ASKED} is needed")
    if path.suffix == ".json":
        numbers = read_checked(path, TypeAdapter(_Written), f"{ASKED} is needed").word2idx
        pieces = sorted(numbers, key=numbers.__getitem__)
        if [numbers[piece] for piece in pieces] != list(range(len(pieces))):
            raise ItmkitError(f"{path}: the numbers of the words are not 0, 1, 2, ... without gaps")
    else:
        try:
            lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
        except UnicodeDecodeError as error:
            raise ItmkitError(f"{path}: is no text in UTF-8 ({error.reason}); {ASKED} is needed") from None
        pieces = lines[:-1] if lines[-1] == "" else lines
    lacking = [special for special in (UNKNOWN, BEGIN, END) if special not in pieces]
    if lacking or pieces[0] != PADDING:
        found = f"has no {', '.join(lacking)}" if lacking else f"begins with {pieces[0][:30]!r}, not with {PADDING}"
        raise ItmkitError(f"{path}: {found}, so it is no vocabulary of BERT; {ASKED} is needed")
    twice, count = Counter(pieces).most_common(1)[0]
    if count > 1:
        raise ItmkitError(f"{path}: has {twice[:30]!r} twice, so its pieces have no certain numbers")
    return tuple(pieces)


def pieces_sha256(pieces: Sequence[str]) -> str:
    """By which caches and runs know a vocabulary again, wherever it lies and in whatever form."""
    return digest(list(pieces))

"""The words a matcher knows, numbered. Read and written in the JSON format of SCAN."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, TypeAdapter

from itmkit.errors import ItmkitError
from itmkit.files import write_json
from itmkit.typed import Count, read_checked


@dataclass(frozen=True)
class _Written:
    """The JSON, as far as it is read."""

    word2idx: dict[str, Count]
    lower: Annotated[bool, Field(strict=True)] = True


_FORM = TypeAdapter(_Written)
SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
PIECE_UNKNOWN = "[UNK]"  # of the word pieces of BERT, whose number 0 is [PAD]


@dataclass(frozen=True)
class Vocabulary:
    """Words by number. Numbers 0 to 3 are padding, start, end and unknown, as in SCAN's files.

    Or they are word pieces of BERT, with [PAD] as number 0 and [UNK] anywhere.
    """

    words: tuple[str, ...]
    lower: bool = True
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    PADDING: ClassVar[int] = 0
    START: ClassVar[int] = 1
    END: ClassVar[int] = 2
    UNKNOWN: ClassVar[int] = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", {word: number for number, word in enumerate(self.words)})

    @classmethod
    def build(cls, counts: Mapping[str, int] | Iterable[str], *, minimum: int = 4, lower: bool = True) -> Vocabulary:
        """Words that occur at least `minimum` times, in order of frequency. Ties are in alphabetical order.

        Args:
            counts: how often each word occurs in the training captions, or the words themselves, one after the other.
            lower: whether words that differ only in case count as one.
        """
        folded: dict[str, int] = {}
        for word, count in (counts if isinstance(counts, Mapping) else Counter(counts)).items():
            key = word.lower() if lower else word
            folded[key] = folded.get(key, 0) + count
        kept = sorted((word for word, count in folded.items() if count >= minimum), key=lambda w: (-folded[w], w))
        return cls((*SPECIAL, *(word for word in kept if word not in SPECIAL)), lower)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def unknown(self) -> int:
        """The number of all words that are not in it."""
        return self._numbers[PIECE_UNKNOWN] if self.has_pieces else self.UNKNOWN

    @property
    def has_pieces(self) -> bool:
        """Whether these are word pieces of BERT."""
        return self.words[:1] == ("[PAD]",) and PIECE_UNKNOWN in self._numbers

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """(len(words),) int64 numbers; unknown words are `unknown`."""
        get, unknown = self._numbers.get, self.unknown
        if self.lower:
            return np.fromiter((get(word.lower(), unknown) for word in words), np.int64, len(words))
        return np.fromiter((get(word, unknown) for word in words), np.int64, len(words))

    def write(self, path: Path) -> None:
        """Writes SCAN's JSON: word2idx, idx2word, idx. `lower` has a key of its own."""
        numbers = {str(number): word for number, word in enumerate(self.words)}
        write_json(path, {"word2idx": self._numbers, "idx2word": numbers, "idx": len(self.words), "lower": self.lower})

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Reads SCAN's JSON. Raises ItmkitError if the numbers have gaps or the special words are out of place."""
        found = read_checked(path, _FORM, "this is not a vocabulary of itmkit or SCAN")
        numbers = found.word2idx
        words = sorted(numbers, key=numbers.__getitem__)
        if [numbers[word] for word in words] != list(range(len(words))):
            raise ItmkitError(f"{path}: the numbers of the words are not 0, 1, 2, ... without gaps")
        vocabulary = cls(tuple(words), found.lower)
        if vocabulary.words[: len(SPECIAL)] != SPECIAL and not vocabulary.has_pieces:
            raise ItmkitError(f"{path}: numbers 0 to 3 must be {', '.join(SPECIAL)}")
        return vocabulary

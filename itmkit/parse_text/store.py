"""Reads `caches/text`: parsed captions by their text, many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itmkit.cache import CacheReader, text_key
from itmkit.parse_text.parse import COLUMNS, TABLES

Ints = NDArray[np.int64]
AT_ONCE = 10_000  # captions whose words are counted together


@dataclass
class TextArrays:
    """Parsed captions, flat over their words: caption k is `offsets[k]:offsets[k + 1]` of every other array.

    words, lemmas (int32), pos, relations (int16) index the tables of the cache. heads (int32) count within the
    caption and the root of each sentence is its own head; starts and ends (int32) are characters of the caption;
    sentences (int16) count from 0 within the caption.
    """

    offsets: Ints  # (captions + 1,)
    words: NDArray[np.int32]
    lemmas: NDArray[np.int32]
    pos: NDArray[np.int16]
    relations: NDArray[np.int16]
    heads: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    sentences: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Words of each caption (captions,)."""
        return np.diff(self.offsets)


class TextCache:
    """A complete text cache. Rows are its distinct captions, in order of first appearance in the data set."""

    def __init__(self, reader: CacheReader) -> None:
        self.reader = reader
        # Not every cache has all of them: one that was imported may have words alone.
        none: list[str] = []
        self.words, self.lemmas, self.pos, self.relations = (reader.tables.get(name, none) for name in TABLES)

    @classmethod
    def open(cls, folder: str | Path) -> TextCache:
        """Opens the cache. Raises ItmkitError naming the stage to run if there is no complete text cache."""
        return cls(CacheReader.open(Path(folder), stage="parse-text"))

    def __len__(self) -> int:
        return len(self.reader)

    def rows(self, texts: Sequence[str]) -> Ints:
        """Row numbers (n,) of n caption texts, as they are written in the data set.

        Raises ItmkitError if a caption was not parsed, since the cache then belongs to other data.
        """
        return self.reader.rows([text_key(text) for text in texts])

    def load(self, rows: Ints | Sequence[int] | None = None) -> TextArrays:
        """The parsed captions of the given rows in their order, repeats allowed; all rows by default.

        Each shard's part is read in one go and put in place by index arithmetic, without a loop over captions.
        """
        count = len(self.reader)
        wanted = np.arange(count) if rows is None else np.asarray(rows, np.int64)
        lengths = self.reader.lengths()[wanted]
        offsets = np.concatenate((np.zeros(1, np.int64), lengths.cumsum()))
        flat = {name: np.empty(int(offsets[-1]), column.dtype) for name, column in COLUMNS.items()}
        edges = np.cumsum([0, *(int(shard["count"]) for shard in self.reader.manifest.shards)])
        shard_of = np.searchsorted(edges, wanted, side="right") - 1
        for shard in np.unique(shard_of).tolist():
            mine = np.flatnonzero(shard_of == shard)
            first, last = int(wanted[mine].min()), int(wanted[mine].max()) + 1
            part, starts = self.reader.read_ragged(list(COLUMNS), np.arange(first, last))
            # Place of every wanted word in the part read, and in the result.
            sizes = lengths[mine]
            within = np.arange(int(sizes.sum())) - np.repeat(sizes.cumsum() - sizes, sizes)
            source = within + np.repeat(starts[wanted[mine] - first], sizes)
            target = within + np.repeat(offsets[mine], sizes)
            for name, values in part.items():
                flat[name][target] = values[source]
        return TextArrays(offsets, **flat)

    def load_texts(self, texts: Sequence[str]) -> TextArrays:
        """The parsed captions of the given texts, in their order."""
        return self.load(self.rows(texts))

    def column(self, name: str, rows: Ints) -> tuple[np.ndarray, Ints]:
        """One column of the given rows, flat over their words, and its offsets (rows + 1,)."""
        flat, offsets = self.reader.read_ragged([name], rows)
        return flat[name], offsets

    def word_counts(self, texts: Iterable[str]) -> Counter[str]:
        """How often each word, as written, occurs in the given captions; a caption given twice counts twice."""
        occurs, totals = Counter(texts), np.zeros(len(self.words), np.int64)
        captions = iter(occurs.items())
        while some := dict(islice(captions, AT_ONCE)):
            words, offsets = self.column("words", self.rows(list(some)))
            times = np.fromiter(some.values(), np.int64, len(some))
            np.add.at(totals, words, np.repeat(times, np.diff(offsets)))
        return Counter({self.words[i]: int(totals[i]) for i in np.flatnonzero(totals)})

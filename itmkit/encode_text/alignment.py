"""Which pieces of a language model's tokeniser belong to which word of the parser.

The two cut a text in different ways ("doesn't": does n't; doesn ' t), so they are matched by characters: a piece
belongs to every word it shares a character with. Shapes: n texts, P pieces, W words, all flat, text after text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Spans:
    """Stretches of characters of n texts: those of text k are `offsets[k]:offsets[k + 1]` of starts and ends."""

    offsets: Ints  # (n + 1,)
    starts: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def texts(self) -> Ints:
        """(stretches,) the text of each."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def pieces_of_words(pieces: Spans, words: Spans) -> tuple[Ints, Ints]:
    """Every pair of a word and a piece that share a character.

    Pieces may be in any order, overlap, and be empty (an empty one belongs to no word); words likewise.

    Returns:
        (words (K,), pieces (K,)): indexes, by word, then by piece.
    """
    # All texts on one line, so far apart that nothing of one meets anything of another.
    room = max((int(spans.ends.max(initial=0)) for spans in (pieces, words)), default=0) + 1
    line = [(spans.starts + room * spans.texts, spans.ends + room * spans.texts) for spans in (pieces, words)]
    (piece_starts, piece_ends), (word_starts, word_ends) = line
    if not len(pieces) or not len(words):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # In the usual case, pieces in order, these are exactly the pieces of a word; otherwise there are some too many.
    first = np.searchsorted(np.maximum.accumulate(piece_ends), word_starts, side="right")
    last = np.searchsorted(np.minimum.accumulate(piece_starts[::-1])[::-1], word_ends, side="left")
    counts = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(words)), counts)
    candidates = np.arange(int(counts.sum())) - np.repeat(counts.cumsum() - counts, counts) + np.repeat(first, counts)
    shared = np.minimum(piece_ends[candidates], word_ends[which]) > np.maximum(
        piece_starts[candidates], word_starts[which]
    )
    return which[shared], candidates[shared]


def means(vectors: NDArray[np.float32], which: Ints, members: Ints, count: int) -> NDArray[np.float32]:
    """The mean vector of each of `count` groups.

    Args:
        vectors: (P, D). which, members: (K,) group and row of `vectors` of each pair, sorted by group.

    Returns:
        (count, D) float32; zeros where a group has no member.
    """
    found = np.zeros((count, vectors.shape[1]), np.float32)
    sizes = np.bincount(which, minlength=count)
    filled = np.flatnonzero(sizes)
    if len(filled):
        begins = (sizes.cumsum() - sizes)[filled]
        found[filled] = np.add.reduceat(vectors[members], begins, axis=0) / sizes[filled, None]
    return found

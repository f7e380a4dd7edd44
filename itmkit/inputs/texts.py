"""The text side of the inputs: words, dependency graphs and frozen vectors of captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from itmkit.cache import CacheReader, text_key
from itmkit.cache.name import PIECES_TEXT
from itmkit.errors import ItmkitError
from itmkit.inputs.batch import TextBatch
from itmkit.inputs.needs import Needs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.parse_text.store import TextCache
from itmkit.workspace import Workspace

MAX_WORDS = 100  # longer captions are cut: pairwise matchers need memory in proportion to the longest
MAX_PIECES = 512  # positions of BERT, [CLS] and [SEP] included


class TextInputs:
    """Batches of captions, addressed by position. Vectors stay on disk; words and edges are held in memory."""

    def __init__(
        self, workspace: Workspace, captions: Sequence[str], vocabulary: Vocabulary | None, needs: Needs
    ) -> None:
        self.needs = needs
        keys = [text_key(caption) for caption in captions]
        self._offsets: np.ndarray = np.arange(len(keys) + 1, dtype=np.int64)  # one vector a caption
        self._words: np.ndarray | None = None
        self._edges: np.ndarray | None = None
        if needs.text in needs.caches:
            text = TextCache.open(workspace.cache(needs.text))
            words, self._offsets = text.column("words", text.rows(captions))
            if needs.words:
                assert vocabulary is not None
                known = vocabulary.encode(text.words)  # vocabulary number of each distinct word
                self._words = known.astype(np.int32)[words]
        if needs.edges:
            graph = CacheReader.open(workspace.cache("graphs/texts"), stage="build-graphs")
            edges, self._edge_offsets = graph.read_ragged(["edges"], graph.rows(keys))
            self._edges = edges["edges"]
        self._vectors = CacheReader.open(workspace.cache(needs.vectors)) if needs.vectors else None
        if self._vectors is not None:
            self._vector_rows = self._vectors.rows(keys)
        self._sentences = CacheReader.open(workspace.cache(needs.sentence)) if needs.sentence else None
        if self._sentences is not None:
            if "sentence" not in self._sentences.columns:
                raise ItmkitError(
                    f"{self._sentences.folder}: has no vectors of whole captions, which --class-vectors reads; it was"
                    " made before they were stored. Run `itmkit encode-text --force`, or train with --class-vectors"
                    " none or image"
                )
            self._sentence_rows = self._sentences.rows(keys)

    @property
    def vector_size(self) -> int:
        if self._vectors is None:
            return 0
        return self._vectors.columns["vector" if self.needs.pooled else "vectors"].shape[-1]

    @property
    def sentence_size(self) -> int:
        return 0 if self._sentences is None else self._sentences.columns["sentence"].shape[-1]

    @cached_property
    def lengths(self) -> np.ndarray:
        """(m,) the number of words of each caption, as delivered: at least 1, at most `most_words`."""
        return np.clip(np.diff(self._offsets), 1, most_words(self.needs))

    def batch(self, which: np.ndarray) -> TextBatch:
        """The captions at positions `which` (Bt,), padded to the longest of them."""
        mask = padding_mask(self.lengths[which])
        words = edges = vectors = None
        if self._words is not None:
            words = padded_words(self._words, self._offsets[which], np.diff(self._offsets)[which], mask)
        if self._edges is not None:
            starts = self._edge_offsets[which]
            edges = adjacency(self._edges, starts, self._edge_offsets[which + 1] - starts, mask)
        if self._vectors is not None and self.needs.pooled:
            rows = self._vectors.read("vector", self._vector_rows[which])
            vectors = torch.from_numpy(rows.astype(np.float32))[:, None]
        elif self._vectors is not None:
            flat, offsets = self._vectors.read_ragged(["vectors"], self._vector_rows[which])
            vectors = padded_vectors(flat["vectors"], offsets, mask)
        return TextBatch(
            words, torch.from_numpy(mask), edges, vectors, self._sentence(which) if self._sentences else None
        )

    def _sentence(self, which: np.ndarray) -> Tensor:
        """(Bt, V)"""
        assert self._sentences is not None
        return torch.from_numpy(self._sentences.read("sentence", self._sentence_rows[which]).astype(np.float32))


def most_words(needs: Needs) -> int:
    """How many words of a caption are delivered; the others are cut."""
    return MAX_PIECES if needs.text == PIECES_TEXT else MAX_WORDS


def padding_mask(lengths: np.ndarray) -> np.ndarray:
    """(n, L) bool, True for the words of n captions with `lengths` (n,), L the longest of them."""
    return np.asarray(np.arange(int(lengths.max()))[None, :] < lengths[:, None])


def padded_words(flat: np.ndarray, starts: np.ndarray, counts: np.ndarray, mask: np.ndarray) -> Tensor:
    """(n, L) int64 vocabulary numbers of n captions; a caption without any token is one unknown word.

    Args:
        flat: (T,) the numbers of all captions; those of caption k are the `counts[k]` from `starts[k]`.
        mask: (n, L) bool, where words are wanted; longer captions are cut.
    """
    source = np.minimum(starts[:, None] + np.arange(mask.shape[1]), max(len(flat) - 1, 0))
    words = np.where(mask, flat[source], 0) if len(flat) else np.zeros(mask.shape, np.int64)
    words[counts == 0, 0] = Vocabulary.UNKNOWN
    return torch.from_numpy(words.astype(np.int64))


def adjacency(flat: np.ndarray, starts: np.ndarray, counts: np.ndarray, mask: np.ndarray) -> Tensor:
    """(n, L, L) bool, the dependency graphs of n captions: undirected, with self loops, without padding.

    Args:
        flat: (E, 2) the edges of all captions; those of caption k are the `counts[k]` from `starts[k]`.
        mask: (n, L) bool, the words; edges of words that were cut are left out.
    """
    batch = np.repeat(np.arange(len(mask)), counts)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    pairs = flat[np.repeat(starts, counts) + within]
    longest = mask.shape[1]
    inside = (pairs < longest).all(axis=1)
    batch, a, b = batch[inside], pairs[inside, 0], pairs[inside, 1]
    found = np.zeros((len(mask), longest, longest), dtype=bool)
    found[batch, a, b] = found[batch, b, a] = True
    found |= np.eye(longest, dtype=bool)
    found &= mask[:, :, None] & mask[:, None, :]
    return torch.from_numpy(found)


def padded_vectors(flat: np.ndarray, offsets: np.ndarray, mask: np.ndarray) -> Tensor:
    """(n, L, V) float32 vectors of the words of n captions, zeros for padding and for a caption without any token.

    Args:
        flat: (T, V); offsets: (n + 1,) caption k has the rows offsets[k] .. offsets[k + 1] - 1.
    """
    found = np.zeros((*mask.shape, flat.shape[-1]), np.float32)
    counts = np.minimum(np.diff(offsets), mask.sum(axis=1))
    real = np.arange(mask.shape[1]) < counts[:, None]
    caption, place = np.nonzero(real)
    found[real] = flat[offsets[:-1][caption] + place]
    return torch.from_numpy(found)

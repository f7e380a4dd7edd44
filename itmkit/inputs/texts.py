"""The text side of the inputs: words, dependency graphs and frozen vectors of captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from itmkit.cache import CacheReader, text_key
from itmkit.errors import ItmkitError
from itmkit.inputs.batch import TextBatch
from itmkit.inputs.needs import Needs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.parse_text.store import TextCache
from itmkit.workspace import Workspace

MAX_WORDS = 100  # longer captions are cut: pairwise matchers need memory in proportion to the longest


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
        if "text" in needs.caches:
            text = TextCache.open(workspace.cache("text"))
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
        """(m,) the number of words of each caption, as delivered: at least 1, at most MAX_WORDS."""
        return np.clip(np.diff(self._offsets), 1, MAX_WORDS)

    def batch(self, which: np.ndarray) -> TextBatch:
        """The captions at positions `which` (Bt,), padded to the longest of them."""
        lengths = self.lengths[which]
        longest = int(lengths.max())
        places = np.arange(longest)[None, :]
        mask = places < lengths[:, None]
        words = None
        if self._words is not None:
            source = np.minimum(self._offsets[which][:, None] + places, max(len(self._words) - 1, 0))
            words = np.where(mask, self._words[source], 0) if len(self._words) else np.zeros(mask.shape, np.int64)
            words[np.diff(self._offsets)[which] == 0, 0] = Vocabulary.UNKNOWN  # a caption without any token
        return TextBatch(
            None if words is None else torch.from_numpy(words.astype(np.int64)),
            torch.from_numpy(mask),
            self._adjacency(which, longest, mask) if self._edges is not None else None,
            self._frozen(which, mask) if self._vectors is not None else None,
            self._sentence(which) if self._sentences is not None else None,
        )

    def _adjacency(self, which: np.ndarray, longest: int, mask: np.ndarray) -> Tensor:
        assert self._edges is not None
        starts, counts = self._edge_offsets[which], self._edge_offsets[which + 1] - self._edge_offsets[which]
        batch = np.repeat(np.arange(len(which)), counts)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        pairs = self._edges[np.repeat(starts, counts) + within]
        inside = (pairs < longest).all(axis=1)
        batch, a, b = batch[inside], pairs[inside, 0], pairs[inside, 1]
        adjacency = np.zeros((len(which), longest, longest), dtype=bool)
        adjacency[batch, a, b] = adjacency[batch, b, a] = True
        adjacency |= np.eye(longest, dtype=bool)
        adjacency &= mask[:, :, None] & mask[:, None, :]
        return torch.from_numpy(adjacency)

    def _sentence(self, which: np.ndarray) -> Tensor:
        """(Bt, V)"""
        assert self._sentences is not None
        return torch.from_numpy(self._sentences.read("sentence", self._sentence_rows[which]).astype(np.float32))

    def _frozen(self, which: np.ndarray, mask: np.ndarray) -> Tensor:
        """(Bt, L, V); a caption without any token has one vector of zeros."""
        assert self._vectors is not None
        rows = self._vector_rows[which]
        if self.needs.pooled:
            return torch.from_numpy(self._vectors.read("vector", rows).astype(np.float32))[:, None]
        flat, offsets = self._vectors.read_ragged(["vectors"], rows)
        found = np.zeros((*mask.shape, self.vector_size), np.float32)
        counts = np.minimum(np.diff(offsets), mask.sum(axis=1))
        real = np.arange(mask.shape[1]) < counts[:, None]
        caption, place = np.nonzero(real)
        found[real] = flat["vectors"][offsets[:-1][caption] + place]
        return torch.from_numpy(found)

"""A batch of images and a batch of texts, as matchers see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageBatch:
    """A batch of images. What a method does not ask for (`Needs`) is None."""

    features: Tensor  # (Bi, R, F) float32
    mask: Tensor  # (Bi, R) bool, False where a picture has fewer regions
    rho: Tensor | None = None  # (Bi, R, R) float32, distance of region centres over the image diagonal
    theta: Tensor | None = None  # (Bi, R, R) float32, direction in radians
    blocks: Tensor | None = None  # (Bi, R, K) int64, numbers 1.. of the blocks that a region overlaps most, 0 = none
    block_weights: Tensor | None = None  # (Bi, R, K) float32, share of each block, 0 where there is none
    tags: Tensor | None = None  # (Bi, R, V) float32, frozen vector of the region's tag phrase, zeros without one
    attention: Tensor | None = None  # (Bi, R) float32, how much [CLS] of a vision transformer attends to each patch
    whole: Tensor | None = None  # (Bi, F) float32, the [CLS] vector of a vision transformer
    labels: Tensor | None = None  # (Bi, Y) bool, which of the data set's labels (or else tags) an image has

    def to(self, device: torch.device) -> ImageBatch:
        return ImageBatch(**_each(self, lambda value: value.to(device, non_blocking=True)))

    def pin_memory(self) -> ImageBatch:
        return ImageBatch(**_each(self, torch.Tensor.pin_memory))

    def rows(self, which: slice) -> ImageBatch:
        return ImageBatch(**_each(self, lambda value: value[which]))


@dataclass(frozen=True)
class TextBatch:
    words: Tensor | None  # (Bt, L) int64 vocabulary numbers, 0 = padding
    mask: Tensor  # (Bt, L) bool
    edges: Tensor | None = None  # (Bt, L, L) bool dependency graph, undirected, with self loops
    vectors: Tensor | None = None  # (Bt, L, V) float32, frozen vectors of the words, zeros for padding
    sentence: Tensor | None = None  # (Bt, V) float32, the [CLS] vector of a language model

    def to(self, device: torch.device) -> TextBatch:
        return TextBatch(**_each(self, lambda value: value.to(device, non_blocking=True)))

    def pin_memory(self) -> TextBatch:
        return TextBatch(**_each(self, torch.Tensor.pin_memory))

    def rows(self, which: slice) -> TextBatch:
        """Some of the texts, with the padding they have."""
        return TextBatch(**_each(self, lambda value: value[which]))

    def chosen(self, which: Tensor, longest: int) -> TextBatch:
        """The texts at places `which` (n,) int64, none of which has more than `longest` words, without the padding."""

        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[which][:, :longest]

        edges = None if self.edges is None else self.edges[which][:, :longest, :longest]
        sentence = None if self.sentence is None else self.sentence[which]
        return TextBatch(cut(self.words), self.mask[which][:, :longest], edges, cut(self.vectors), sentence)


def _each(batch: ImageBatch | TextBatch, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: None if value is None else change(value) for name, value in values.items()}


@dataclass(frozen=True)
class Sizes:
    """What the caches decide about a matcher's shape. A size is 0 if the matcher does not read it."""

    feature: int = 0  # F, of a region's, a patch's or a picture's vector
    regions: int = 0  # R, the most regions of a picture
    vocabulary: int = 0  # number of words, including the special ones
    word_vector: int = 0  # V, of a frozen word vector
    tag_vector: int = 0  # V, of a frozen tag vector
    blocks: int = 0  # highest number of a block
    sentence: int = 0  # V, of the vector of a whole caption
    # Of a BERT that came with published weights: no cache decides these.
    bert_layers: int = 0
    bert_width: int = 0  # numbers of a token
    bert_hidden: int = 0  # numbers between the two maps of a layer

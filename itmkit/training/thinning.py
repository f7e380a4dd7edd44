"""Regions and words that training batches leave out: the size augmentation of VSE-infinity.

A pooling, or an attention, that only ever sees whole images learns to rely on all of an image. So each image keeps a
random part of its regions. Of the words that are chosen half are masked, a tenth become other words, the rest are left
out. What happens to a batch follows from the seed, the epoch and the step alone, whoever reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from itmkit.inputs import ImageBatch, TextBatch
from itmkit.inputs.vocabulary import SPECIAL, Vocabulary
from itmkit.runs.settings import Training

MASKED, CHANGED = 0.5, 0.1  # of the chosen words; the rest is left out
IMAGES, TEXTS = 1, 2  # each side draws random numbers of its own


@dataclass(frozen=True)
class Thinning:
    """What one batch leaves out. regions, words: the shares that are chosen."""

    regions: float
    words: float
    seed: int
    epoch: int = 0
    step: int = 0

    @classmethod
    def of(cls, settings: Training) -> Thinning | None:
        """None where nothing is left out."""
        if not settings.drop_regions and not settings.drop_words:
            return None
        return cls(settings.drop_regions, settings.drop_words, settings.seed)

    def at(self, epoch: int, step: int) -> Thinning:
        return replace(self, epoch=epoch, step=step)

    def _random(self, side: int) -> np.random.Generator:
        return np.random.default_rng([side, self.seed, self.epoch, self.step])

    def images(self, batch: ImageBatch, *, first: int = 0) -> ImageBatch:
        """The same images with fewer regions in their mask. An image keeps one at least.

        Args:
            first: how many images of the batch come before these, where processes share it.
        """
        if not self.regions:
            return batch
        real = batch.mask.numpy()
        drawn = self._random(IMAGES).random((first + len(real), real.shape[1]))[first:]
        kept = real & (drawn >= self.regions)
        best = np.where(real, drawn, -1).argmax(axis=1)
        kept[np.arange(len(kept)), best] = real.any(axis=1)  # it is kept anyway, unless all would go
        return replace(batch, mask=torch.from_numpy(kept))

    def texts(self, batch: TextBatch, vocabulary: int) -> TextBatch:
        """The same captions, as wide as before, with some words masked, changed or left out.

        A caption keeps one word at least that can be read. A masked word is the unknown one, a changed one any of the
        vocabulary. Of frozen vectors a masked one is zero, a changed one that of any word of the batch.

        Args:
            vocabulary: how many numbers of words there are; 0 where words are not read by their numbers.
        """
        if not self.words:
            return batch
        real, random = batch.mask.numpy(), self._random(TEXTS)
        chosen = real & (random.random(real.shape) < self.words)
        how = random.random(real.shape)
        masked = chosen & (how < MASKED)
        changed = chosen & ~masked & (how < MASKED + CHANGED)
        gone = chosen & ~masked & ~changed
        unreadable = ~(real & ~masked & ~gone).any(axis=1)
        masked[unreadable] = gone[unreadable] = False
        words, vectors, count = batch.words, batch.vectors, int(changed.sum())
        if words is not None:
            words = words.masked_fill(torch.from_numpy(masked), Vocabulary.UNKNOWN)
            if vocabulary > len(SPECIAL):
                words[torch.from_numpy(changed)] = torch.from_numpy(random.integers(len(SPECIAL), vocabulary, count))
        if vectors is not None:
            every = vectors[batch.mask]  # (T, V)
            vectors = vectors.masked_fill(torch.from_numpy(masked).unsqueeze(-1), 0)
            vectors[torch.from_numpy(changed)] = every[torch.from_numpy(random.integers(0, len(every), count))]
        return _without_gaps(replace(batch, words=words, vectors=vectors), torch.from_numpy(real & ~gone))


def _without_gaps(batch: TextBatch, kept: Tensor) -> TextBatch:
    """The kept words of each caption, in order, at its beginning; recurrent encoders know no gaps."""
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    mask = kept.gather(1, order)
    words, vectors, edges = batch.words, batch.vectors, batch.edges
    if words is not None:
        words = words.gather(1, order) * mask
    if vectors is not None:
        vectors = vectors.take_along_dim(order.unsqueeze(-1), 1) * mask.unsqueeze(-1)
    if edges is not None:
        edges = edges.take_along_dim(order.unsqueeze(2), 1).take_along_dim(order.unsqueeze(1), 2)
        edges = edges & mask.unsqueeze(2) & mask.unsqueeze(1)
    return replace(batch, words=words, mask=mask, edges=edges, vectors=vectors)

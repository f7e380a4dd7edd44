"""The order of training: which captions form which batch, from (seed, epoch) alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from itmkit.cache import WHOLE, Part
from itmkit.errors import ItmkitError
from itmkit.inputs import ImageBatch, Inputs, TextBatch
from itmkit.runs.settings import Training
from itmkit.training.thinning import Thinning
from itmkit.training.together import Together


@dataclass(frozen=True)
class PairBatch:
    """A batch or, where several processes share it, one process's part of it."""

    images: ImageBatch  # distinct images, of this process
    texts: TextBatch  # their captions
    image_of: torch.Tensor  # (Bt,) int64: each caption's image, as a position among the images it is paired with
    captions: np.ndarray  # positions within the inputs, of the whole batch
    pairs: int  # formed by all processes
    together: Together | None = None  # where pairs are formed across processes

    def to(self, device: torch.device) -> PairBatch:
        image_of = self.image_of.to(device, non_blocking=True)
        return replace(self, images=self.images.to(device), texts=self.texts.to(device), image_of=image_of)

    def pin_memory(self) -> PairBatch:
        """Moves the batch into memory that a GPU reads by itself, so that the processor can go on."""
        image_of = self.image_of.pin_memory()
        return replace(self, images=self.images.pin_memory(), texts=self.texts.pin_memory(), image_of=image_of)


def epoch_order(
    image_of: np.ndarray,
    lengths: np.ndarray,
    *,
    batch_size: int,
    captions_per_image: int,
    length_buckets: int,
    seed: int,
    epoch: int,
) -> list[np.ndarray]:
    """Positions of the captions of each batch, shuffled by (seed, epoch). Every caption occurs once per epoch.

    Args:
        image_of: (m,) the image of each caption. The captions of an image stand together.
        lengths: (m,) the number of words in each caption.
        captions_per_image: how many captions of an image stay together. The cost of a pairwise matcher grows with
            images times captions. With several captions per image, the same number of pairs holds more positives.
        length_buckets: how many batches' worth of captions are sorted by length before they are cut into batches.

    The last, smaller batch is kept if it has at least half the full size. A batch of only a few captions has few
    negatives, and its gradient would be unlike the others.
    """
    random = np.random.default_rng([seed, epoch])
    grouped = np.lexsort((random.random(len(image_of)), image_of))  # captions of an image in random order
    first = np.searchsorted(image_of, image_of)  # (m,) where the captions of the same image begin
    starts_chunk = (np.arange(len(image_of)) - first) % captions_per_image == 0
    chunk = np.cumsum(starts_chunk) - 1
    by_chunk = np.argsort(random.random(chunk[-1] + 1)[chunk], kind="stable")
    order, chunk = grouped[by_chunk], chunk[by_chunk]
    remainder = len(order) % batch_size
    if len(order) > batch_size and remainder < max(2, batch_size // 2):
        order, chunk = order[: len(order) - remainder], chunk[: len(order) - remainder]
    if length_buckets > 1:
        stretch = np.arange(len(order)) // (batch_size * length_buckets)
        mean = np.bincount(chunk, weights=lengths[order]) / np.bincount(chunk).clip(1)
        order = order[np.lexsort((chunk, mean[chunk], stretch))]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if length_buckets > 1:
        batches = [batches[number] for number in random.permutation(len(batches))]
    return batches


def batches_of(inputs: Inputs, settings: Training, epoch: int) -> list[np.ndarray]:
    """The `epoch_order` of a run."""
    return epoch_order(
        inputs.image_of,
        inputs.lengths,
        batch_size=settings.batch_size,
        captions_per_image=settings.captions_per_image,
        length_buckets=settings.length_buckets,
        seed=settings.seed,
        epoch=epoch,
    )


def pair_batch(
    inputs: Inputs,
    captions: np.ndarray,
    *,
    part: Part = WHOLE,
    global_negatives: bool = False,
    thinning: Thinning | None = None,
) -> PairBatch:
    """Reads the captions at the given positions and their images, each image once.

    Args:
        part: which of several processes this is. Each has a share of the images, with their captions.
        global_negatives: whether pairs are formed across processes rather than within each.
        thinning: which regions and words are left out; None = all are there.
    """
    images, image_of = np.unique(inputs.image_of[captions], return_inverse=True)
    image_of = image_of.reshape(-1).astype(np.int64)
    if part.of == 1:
        pairs = len(images) * len(captions)
        mine, texts = inputs.image_batch(images), inputs.text_batch(captions)
        if thinning is not None:
            mine, texts = thinning.images(mine), thinning.texts(texts, inputs.sizes.vocabulary)
        return PairBatch(mine, texts, _tensor(image_of), captions, pairs)
    if len(images) < part.of:
        raise ItmkitError(f"a batch has captions of {len(images)} images, fewer than processes: raise --batch-size")
    by_image = np.argsort(image_of, kind="stable")
    captions, image_of = captions[by_image], image_of[by_image]
    ends = [share[-1] + 1 for share in np.array_split(np.arange(len(images)), part.of)]
    image_counts, text_counts = np.diff(ends, prepend=0), np.diff(np.searchsorted(image_of, ends), prepend=0)
    my_images, my_texts = _nth(image_counts, part.index), _nth(text_counts, part.index)
    mine = inputs.image_batch(images[my_images])
    texts = inputs.text_batch(captions)
    if thinning is not None:
        mine = thinning.images(mine, first=my_images.start)
        texts = thinning.texts(texts, inputs.sizes.vocabulary)
    texts = texts.rows(my_texts)  # as long as the longest of all
    if global_negatives:
        together = Together(part, image_counts.tolist(), text_counts.tolist())
        return PairBatch(mine, texts, _tensor(image_of), captions, len(images) * len(captions), together)
    pairs = int((image_counts * text_counts).sum())
    return PairBatch(mine, texts, _tensor(image_of[my_texts] - my_images.start), captions, pairs)


def _tensor(image_of: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image_of))


def _nth(counts: np.ndarray, index: int) -> slice:
    start = int(counts[:index].sum())
    return slice(start, start + int(counts[index]))

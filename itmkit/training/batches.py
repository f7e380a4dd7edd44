"""The order of training: which captions form which batch, from (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from itmkit.ahead import work_ahead
from itmkit.inputs import ImageBatch, Inputs, TextBatch


@dataclass(frozen=True)
class PairBatch:
    images: ImageBatch  # the distinct images of the batch
    texts: TextBatch
    image_of: torch.Tensor  # (Bt,) int64: the place, among `images`, of each caption's image
    captions: np.ndarray  # (Bt,) positions within the inputs


def epoch_order(
    image_of: np.ndarray, *, batch_size: int, captions_per_image: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Positions of the captions of each batch, shuffled by (seed, epoch); every caption occurs once an epoch.

    Args:
        image_of: (m,) the image of each caption, those of an image together.
        captions_per_image: captions of an image that stay together. A pairwise matcher pays for images times
            captions; with several captions an image, the same pairs teach it more positives.

    The last, smaller batch is kept if it has at least half the size: a batch of a few captions has few negatives
    and would give a gradient unlike the others.
    """
    random = np.random.default_rng([seed, epoch])
    grouped = np.lexsort((random.random(len(image_of)), image_of))  # captions of an image in random order
    first = np.searchsorted(image_of, image_of)  # (m,) where the captions of the same image begin
    starts_chunk = (np.arange(len(image_of)) - first) % captions_per_image == 0
    chunk = np.cumsum(starts_chunk) - 1
    order = grouped[np.argsort(random.random(chunk[-1] + 1)[chunk], kind="stable")]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) < max(2, batch_size // 2):
        batches.pop()
    return batches


def pair_batch(inputs: Inputs, captions: np.ndarray) -> PairBatch:
    """Reads the captions at the given positions and their images, each image once."""
    images, image_of = np.unique(inputs.image_of[captions], return_inverse=True)
    return PairBatch(
        inputs.image_batch(images),
        inputs.text_batch(captions),
        torch.from_numpy(image_of.reshape(-1).astype(np.int64)),
        captions,
    )


def pair_batches(inputs: Inputs, order: Sequence[np.ndarray], *, ahead: int = 2) -> Iterator[PairBatch]:
    """The batches of `order`, read by a thread while the one before is learnt from; at most `ahead` wait."""
    with ThreadPoolExecutor(1) as pool:  # one: the inputs open their files as they go
        yield from work_ahead(pool, partial(pair_batch, inputs), order, ahead=ahead)

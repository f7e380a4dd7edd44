"""Small random batches: pictures with different numbers of regions, captions of different lengths."""

from __future__ import annotations

import math

import torch

from itmkit.inputs import ImageBatch, TextBatch

FEATURE, VOCABULARY = 10, 20


def image_batch(counts: list[int] | None = None, *, regions: int = 4, seed: int = 0) -> ImageBatch:
    """Rows past an image's count hold garbage: no matcher may look at them."""
    random = torch.Generator().manual_seed(seed)
    counts = [4, 2, 3] if counts is None else counts
    shape = (len(counts), regions, regions)
    mask = torch.arange(regions) < torch.tensor(counts)[:, None]
    rho = torch.rand(shape, generator=random)
    theta = (torch.rand(shape, generator=random) * 2 - 1) * math.pi
    return ImageBatch(torch.randn(len(counts), regions, FEATURE, generator=random), mask, rho, theta)


def text_batch(lengths: list[int] | None = None, *, longest: int = 0, seed: int = 0) -> TextBatch:
    """Dependency trees at random, with self loops; padding is word 0 without edges, as `itmkit.inputs` makes it."""
    random = torch.Generator().manual_seed(seed + 1)
    lengths = [3, 1, 5, 2] if lengths is None else lengths
    longest = max(longest, *lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    words = torch.randint(3, VOCABULARY, (len(lengths), longest), generator=random) * mask
    edges = torch.zeros(len(lengths), longest, longest, dtype=torch.bool)
    for text, length in enumerate(lengths):
        edges[text, range(length), range(length)] = True
        for word in range(1, length):
            head = int(torch.randint(0, word, (), generator=random))
            edges[text, word, head] = edges[text, head, word] = True
    return TextBatch(words, mask, edges)


def take_images(batch: ImageBatch, which: list[int]) -> ImageBatch:
    assert batch.rho is not None and batch.theta is not None
    return ImageBatch(batch.features[which], batch.mask[which], batch.rho[which], batch.theta[which])


def take_texts(batch: TextBatch, which: list[int]) -> TextBatch:
    assert batch.edges is not None
    return TextBatch(batch.words[which], batch.mask[which], batch.edges[which])


def pad_images(batch: ImageBatch, extra: int) -> ImageBatch:
    """The same images with `extra` more regions that are not there, full of garbage."""
    bi, r, _ = batch.features.shape
    garbage = image_batch([0] * bi, regions=r + extra, seed=99)
    features, mask = garbage.features * 100, garbage.mask.clone()
    rho, theta = garbage.rho, garbage.theta
    assert rho is not None and theta is not None and batch.rho is not None and batch.theta is not None
    features[:, :r], mask[:, :r], rho[:, :r, :r], theta[:, :r, :r] = batch.features, batch.mask, batch.rho, batch.theta
    return ImageBatch(features, mask, rho, theta)


def pad_texts(batch: TextBatch, extra: int) -> TextBatch:
    """The same texts with `extra` more columns of padding."""
    bt, longest = batch.words.shape
    words = torch.zeros(bt, longest + extra, dtype=torch.int64)
    mask = torch.zeros(bt, longest + extra, dtype=torch.bool)
    edges = torch.zeros(bt, longest + extra, longest + extra, dtype=torch.bool)
    assert batch.edges is not None
    words[:, :longest], mask[:, :longest], edges[:, :longest, :longest] = batch.words, batch.mask, batch.edges
    return TextBatch(words, mask, edges)

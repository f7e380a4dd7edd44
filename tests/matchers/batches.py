"""Small random batches: pictures with different numbers of regions, captions of different lengths."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch
from torch import Tensor

from itmkit.inputs import ImageBatch, Sizes, TextBatch

FEATURE, VOCABULARY, VECTOR, BLOCKS, LABELS, REGIONS = 10, 20, 7, 16, 5, 4
SIZES = Sizes(
    feature=FEATURE,
    regions=REGIONS,
    vocabulary=VOCABULARY,
    word_vector=VECTOR,
    tag_vector=VECTOR,
    blocks=BLOCKS,
    sentence=VECTOR,
)

POOLED = Sizes(feature=FEATURE, regions=1, word_vector=FEATURE)  # one vector a picture and a caption, of one size


def image_batch(counts: list[int] | None = None, *, regions: int = REGIONS, seed: int = 0) -> ImageBatch:
    """Rows past an image's count hold garbage: no matcher may look at them."""
    random = torch.Generator().manual_seed(seed)
    counts = [4, 2, 3] if counts is None else counts
    images = len(counts)
    shape = (images, regions, regions)
    mask = torch.arange(regions) < torch.tensor(counts)[:, None]
    rho = torch.rand(shape, generator=random)
    theta = (torch.rand(shape, generator=random) * 2 - 1) * math.pi
    features = torch.randn(images, regions, FEATURE, generator=random)
    kept = torch.randint(1, 4, (images, regions, 1), generator=random)  # 1 to 3 blocks a region, of at most 3
    blocks = torch.rand(images, regions, BLOCKS, generator=random).argsort(-1)[..., :3] + 1
    blocks = blocks.masked_fill(torch.arange(3) >= kept, 0)
    weights = torch.rand(images, regions, 3, generator=random) * (blocks > 0)
    return ImageBatch(
        features,
        mask,
        rho,
        theta,
        blocks=blocks,
        block_weights=weights / weights.sum(-1, keepdim=True),
        tags=torch.randn(images, regions, VECTOR, generator=random),
        attention=torch.rand(images, regions, generator=random),
        labels=torch.rand(images, LABELS, generator=random) < 0.5,
        whole=torch.randn(images, FEATURE, generator=random),
    )


def text_batch(lengths: list[int] | None = None, *, longest: int = 0, seed: int = 0) -> TextBatch:
    """Dependency trees at random, with self loops; padding has word 0, no edges and vectors of zeros."""
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
    vectors = torch.randn(len(lengths), longest, VECTOR, generator=random) * mask.unsqueeze(-1)
    return TextBatch(words, mask, edges, vectors, torch.randn(len(lengths), VECTOR, generator=random))


def pooled_images(count: int = 3, *, seed: int = 0) -> ImageBatch:
    """One vector a picture, as caches of `embed` give it."""
    batch = image_batch([1] * count, regions=1, seed=seed)
    return ImageBatch(batch.features, batch.mask, labels=batch.labels)


def pooled_texts(count: int = 4, *, seed: int = 0) -> TextBatch:
    """One vector a caption and no words."""
    vectors = torch.randn(count, 1, FEATURE, generator=torch.Generator().manual_seed(seed + 2))
    return TextBatch(None, torch.ones(count, 1, dtype=torch.bool), vectors=vectors)


def _fields(batch: ImageBatch | TextBatch) -> dict[str, Tensor]:
    return {field.name: value for field in fields(batch) if (value := getattr(batch, field.name)) is not None}


def take_images(batch: ImageBatch, which: list[int]) -> ImageBatch:
    return replace(batch, **{name: value[which] for name, value in _fields(batch).items()})


def take_regions(batch: ImageBatch, order: list[int]) -> ImageBatch:
    """The same images with their regions in another order."""
    taken = {}
    for name, value in _fields(batch).items():
        if name in ("rho", "theta"):
            taken[name] = value[:, order][:, :, order]
        elif name not in ("labels", "whole"):
            taken[name] = value[:, order]
    return replace(batch, **taken)


def take_texts(batch: TextBatch, which: list[int]) -> TextBatch:
    return replace(batch, **{name: value[which] for name, value in _fields(batch).items()})


def pad_images(batch: ImageBatch, extra: int) -> ImageBatch:
    """The same images with `extra` more regions that are not there, full of garbage."""
    images, regions, _ = batch.features.shape
    garbage = _fields(image_batch([0] * images, regions=regions + extra, seed=99))
    garbage["features"] *= 100
    for name, value in _fields(batch).items():
        if name in ("rho", "theta"):
            garbage[name][:, :regions, :regions] = value
        elif name in ("labels", "whole"):
            garbage[name] = value
        else:
            garbage[name][:, :regions] = value
    return ImageBatch(**garbage)


def pad_texts(batch: TextBatch, extra: int) -> TextBatch:
    """The same texts with `extra` more columns of padding."""
    texts, longest = batch.mask.shape
    padded = {}
    for name, value in _fields(batch).items():
        if name == "edges":
            padded[name] = value.new_zeros(texts, longest + extra, longest + extra)
            padded[name][:, :longest, :longest] = value
        elif name == "sentence":
            padded[name] = value
        else:
            padded[name] = value.new_zeros(texts, longest + extra, *value.shape[2:])
            padded[name][:, :longest] = value
    return TextBatch(**padded)

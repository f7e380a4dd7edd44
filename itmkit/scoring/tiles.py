"""The grid in which pairs are scored, and the threads that score it.

A tile is a few images with captions of one length. It holds no padding, and its tensors are small enough to stay in the
processor's caches. The grid depends only on the split and the kind of device, not on memory, ranks, threads or where a
killed run stopped. So every way of doing the work gives the same matrix, to the last bit.

On a CPU each tile is the work of one thread, since the operations of a tile are too small to be split among threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import nn

from itmkit.inputs import Inputs
from itmkit.machine.ahead import threads_beside, work_ahead
from itmkit.machine.precision import Products, products_in
from itmkit.matchers import Encoded, as_matcher

IMAGE_TILE = 32
WORDS_TILE = 512  # words of a tile of captions: with 32 images, pair tensors of (32, 512, D) stay in the caches
GPU_IMAGE_TILE, GPU_WORDS_TILE = 128, 4096  # enough work for each kernel
VECTORS_TILE = 512  # captions of a tile that are one vector each: a product of matrices is the faster the larger it is
ENCODE_TILES = 2  # tiles of captions that are encoded together; with more, each thread needs more memory
AHEAD = 2  # tiles per thread that are read before they are needed

InOrder = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]  # what `workers` gives
Images = Sequence[tuple[slice, Encoded]]  # rows of the matrix, and the images there
Texts = Iterable[tuple[np.ndarray, Encoded]]  # columns of the matrix, and the captions there


def text_tiles(inputs: Inputs, texts: np.ndarray, device: torch.device) -> list[np.ndarray]:
    """Positions within `texts` of each tile's captions: all of one length, about `WORDS_TILE` words, shortest first."""
    words = WORDS_TILE if device.type == "cpu" else GPU_WORDS_TILE
    lengths = inputs.lengths[texts]
    order = np.argsort(lengths, kind="stable")
    tiles = []
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        size = max(1, words // int(lengths[same].max(initial=1)))
        tiles += [same[start : start + size] for start in range(0, len(same), size)]
    return tiles


def encoded_images(
    matcher: nn.Module, inputs: Inputs, images: np.ndarray, device: torch.device, in_order: InOrder
) -> Images:
    """Encodes the given images, tile by tile."""
    size = IMAGE_TILE if device.type == "cpu" else GPU_IMAGE_TILE
    rows = [slice(start, start + size) for start in range(0, len(images), size)]
    batches = ((inputs.image_batch(images[row]).to(device),) for row in rows)
    return list(zip(rows, in_order(as_matcher(matcher).encode_images, batches), strict=True))


def encoded_texts(
    matcher: nn.Module,
    inputs: Inputs,
    texts: np.ndarray,
    tiles: Sequence[np.ndarray],
    device: torch.device,
    in_order: InOrder,
) -> Texts:
    """Encodes the captions of the given tiles (see `text_tiles`). A few tiles of one length are encoded together.

    Where a caption is one vector, which has no length any more, tiles become larger ones (`larger_tiles`).
    """
    yield from larger_tiles(_encoded_texts(matcher, inputs, texts, tiles, device, in_order))


def _encoded_texts(
    matcher: nn.Module,
    inputs: Inputs,
    texts: np.ndarray,
    tiles: Sequence[np.ndarray],
    device: torch.device,
    in_order: InOrder,
) -> Texts:
    groups = []
    for _, same in groupby(tiles, key=lambda places: inputs.lengths[texts[places[0]]]):
        equal = list(same)
        groups += [equal[start : start + ENCODE_TILES] for start in range(0, len(equal), ENCODE_TILES)]
    encode = as_matcher(matcher).encode_texts
    batches = ((inputs.text_batch(texts[np.concatenate(group)]).to(device),) for group in groups)
    for group, encoded in zip(groups, in_order(encode, batches), strict=True):
        first = 0
        for places in group:
            yield places, {name: value[first : first + len(places)].clone() for name, value in encoded.items()}
            first += len(places)


def larger_tiles(tiles: Texts) -> Texts:
    """The same captions, where each is one vector in tiles of at least `VECTORS_TILE` (the last may have fewer)."""
    waiting: list[tuple[np.ndarray, Encoded]] = []
    for places, captions in tiles:
        if not _is_vector(captions):
            yield places, captions
            continue
        waiting.append((places, captions))
        if sum(len(some) for some, _ in waiting) >= VECTORS_TILE:
            yield _together(waiting)
            waiting = []
    if waiting:
        yield _together(waiting)


def _together(tiles: Sequence[tuple[np.ndarray, Encoded]]) -> tuple[np.ndarray, Encoded]:
    return np.concatenate([places for places, _ in tiles]), _joined([captions for _, captions in tiles])


def score_tiles(
    matcher: nn.Module,
    images: Images,
    texts: Texts,
    out: np.ndarray,
    in_order: InOrder,
    advance: Callable[[int], None],
    precision: Products = "float32",
) -> None:
    """Fills `out` (n_images, n_texts) with the scores of all tiles, and tells `advance` how many pairs are done.

    Each tile fills columns that stand beside each other, and every row is put in order in the end: a tile's own columns
    lie scattered over a row, and writing to them one by one takes as long as a product of vectors.

    Scores that are a product of one vector per image and one per text are always float32. That costs nothing, and
    rounded scores would be full of ties.
    """

    vectors = bool(images) and _is_vector(images[0][1])
    if vectors:
        together = slice(images[0][0].start, images[-1][0].stop)
        images = [(together, _joined([encoded for _, encoded in images]))]
    order: list[np.ndarray] = []

    def beside() -> Iterator[tuple[slice, Encoded]]:
        first = 0
        for places, captions in texts:
            order.append(places)
            yield slice(first, first + len(places)), captions
            first += len(places)

    def tile(columns: slice, captions: Encoded) -> int:
        for rows, regions in images:
            device = next(iter(regions.values())).device
            with products_in("float32" if vectors else precision, device):
                scores = as_matcher(matcher).score(regions, captions)
            out[rows, columns] = scores.float().cpu().numpy()
        return len(out) * (columns.stop - columns.start)

    for pairs in in_order(tile, beside()):
        advance(pairs)
    if not order:
        return
    column_of = np.argsort(np.concatenate(order), kind="stable")

    def put_in_order(start: int) -> None:
        rows = out[start : start + IMAGE_TILE]
        rows[:] = np.take(rows, column_of, axis=1)

    for _ in in_order(put_in_order, ((start,) for start in range(0, len(out), IMAGE_TILE))):
        pass


def products_of(matcher: nn.Module, inputs: Inputs, wanted: Products, device: torch.device) -> Products:
    """The precision in which `score_tiles` multiplies for this matcher, where another is wanted. Encodes an image."""
    if wanted == "float32":
        return wanted
    matcher.eval()
    with torch.inference_mode():
        encoded = as_matcher(matcher).encode_images(inputs.image_batch(np.arange(1)).to(device))
    return "float32" if _is_vector(encoded) else wanted


def _is_vector(encoded: Encoded) -> bool:
    return "vector" in encoded


def _joined(encoded: Sequence[Encoded]) -> Encoded:
    return {name: torch.cat([each[name] for each in encoded]) for name in encoded[0]}


@contextmanager
def workers(device: torch.device, at_most: int | None = None) -> Iterator[InOrder]:
    """Yields a function that computes a list of things in order, without gradients.

    On a CPU it computes as many at a time as torch has threads for one operation, or `at_most`. Each has one thread, so
    the number of threads makes no difference, not even to the last bit.
    """
    if device.type != "cpu":
        with torch.inference_mode():
            yield lambda function, arguments: (function(*each) for each in arguments)
        return
    count = min(torch.get_num_threads(), at_most or torch.get_num_threads())

    def compute(function: Callable[..., Any], each: tuple[Any, ...]) -> Any:
        with torch.inference_mode():  # threads do not inherit it
            return function(*each)

    def in_order(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        return work_ahead(pool, partial(compute, function), arguments, ahead=AHEAD * count)

    with threads_beside(count) as pool:
        yield in_order

"""What the page shows of a score matrix, found in two walks over its rows, which are never all in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itmkit.scoring.stored import Scores

BINS = 48


@dataclass(frozen=True)
class WrongPair:
    """An image and a caption of another one that the matcher would rather put together than either with its own.

    own_of_text, own_of_image: the scores of the caption with its own image, and of the image with its best own caption.
    """

    image: int
    text: int
    score: float
    own_of_text: float
    own_of_image: float


@dataclass(frozen=True)
class Walked:
    """edges: (BINS + 1,); positives, negatives: (BINS,) int64 pairs in each bin.

    columns: (n_images, q) scores of the chosen captions; rows: (p, n_texts) of the chosen images.
    """

    edges: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    wrong: list[WrongPair]


def walk(
    scores: Scores, image_of: np.ndarray, *, texts: Sequence[int], images: Sequence[int], pairs: int = 12
) -> Walked:
    """Walks twice over a matrix of images x texts.

    Args:
        image_of: (n_texts,) the image of each caption.
        texts, images: whose columns and rows are wanted.
        pairs: at most so many wrong pairs: those with the highest scores, one an image and one an own image.
    """
    own, best, low, high = _own(scores, image_of)
    ends = low, high if high > low else low + 1
    everything = np.zeros(BINS, np.int64)
    columns = np.empty((len(best), len(texts)), np.float32)
    rows = np.empty((len(images), len(own)), np.float32)
    chosen, found = np.asarray(images, np.int64), list[WrongPair]()
    for start, block in scores.blocks():
        here = slice(start, start + len(block))
        everything += np.histogram(block, BINS, ends)[0]
        columns[here] = block[:, list(texts)]
        mine = np.flatnonzero((chosen >= start) & (chosen < start + len(block)))
        rows[mine] = block[chosen[mine] - start]
        found += _wrong(start, block, own, best[here], image_of)
    positives, edges = np.histogram(own, BINS, ends)
    return Walked(edges, positives, everything - positives, columns, rows, _nearest(found, image_of, pairs))


def _own(scores: Scores, image_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """(n_texts,) of captions with their images, (n_images,) of images with their best captions; least and greatest."""
    own, best = np.empty(scores.shape[1], np.float32), np.empty(scores.shape[0], np.float32)
    low, high = np.inf, -np.inf
    for start, block in scores.blocks():
        here = np.flatnonzero((image_of >= start) & (image_of < start + len(block)))
        own[here] = block[image_of[here] - start, here]
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    best[:] = -np.inf
    np.maximum.at(best, image_of, own)
    return own, best, low, high


def _wrong(start: int, block: np.ndarray, own: np.ndarray, best: np.ndarray, image_of: np.ndarray) -> list[WrongPair]:
    """Of each image the highest pair that beats both its own captions and the caption's own image."""
    beats = np.where((block > own) & (block > best[:, None]), block, -np.inf)
    text = beats.argmax(axis=1)
    there = np.flatnonzero(np.isfinite(beats[np.arange(len(block)), text]))
    return [
        WrongPair(start + row, int(text[row]), float(block[row, text[row]]), float(own[text[row]]), float(best[row]))
        for row in there.tolist()
    ]


def _nearest(found: Sequence[WrongPair], image_of: np.ndarray, most: int) -> list[WrongPair]:
    """The highest scores first. Two images that stand for each other would else fill the list."""
    kept, seen = list[WrongPair](), set[int]()
    for pair in sorted(found, key=lambda pair: (-pair.score, pair.image, pair.text)):
        both = {pair.image, int(image_of[pair.text])}
        if not both & seen and len(kept) < most:
            kept.append(pair)
            seen |= both
    return kept


def first(scores: np.ndarray, own: np.ndarray, count: int) -> list[int]:
    """The places of the best candidates of a query; among equal scores its own come last, as its rank counts them.

    Args:
        scores: (c,) of all candidates; own: (c,) bool.
    """
    edge = np.partition(scores, -min(count, len(scores)))[-min(count, len(scores))]
    near = np.flatnonzero(scores >= edge)
    return near[np.lexsort((near, own[near], -scores[near]))][:count].tolist()

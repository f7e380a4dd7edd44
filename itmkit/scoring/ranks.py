"""Where the right answer stands among all candidates."""

from __future__ import annotations

import numpy as np

from itmkit.errors import ItmkitError

ROWS = 256  # rows compared at a time: bounds the memory of the comparison


def image_to_text_ranks(scores: np.ndarray, image_of: np.ndarray) -> np.ndarray:
    """(n_images,) int64: for each image the smallest 0-based rank of one of its captions.

    A tie counts against the query: the rank of a caption is the number of captions *of other images* that score at
    least as high. Captions of the image itself are not in each other's way: only the best of them matters.

    Args:
        scores: (n_images, n_texts), finite.
        image_of: (n_texts,) the image of each caption; every image has at least one.
    """
    _check(scores, image_of)
    own = image_of == np.arange(len(scores))[:, None] if scores.size < 1 << 24 else None
    ranks = np.empty(len(scores), np.int64)
    for start in range(0, len(scores), ROWS):
        rows = np.arange(start, min(start + ROWS, len(scores)))
        block = scores[rows]
        mine = own[rows] if own is not None else image_of == rows[:, None]
        best = np.where(mine, block, -np.inf).max(axis=1)
        ranks[rows] = ((block >= best[:, None]) & ~mine).sum(axis=1)
    return ranks


def text_to_image_ranks(scores: np.ndarray, image_of: np.ndarray) -> np.ndarray:
    """(n_texts,) int64: for each caption the number of other images that score at least as high as its own."""
    _check(scores, image_of)
    ranks = np.empty(len(image_of), np.int64)
    for start in range(0, len(image_of), ROWS):
        texts = slice(start, start + ROWS)
        block = scores[:, texts]
        right = block[image_of[texts], np.arange(block.shape[1])]
        ranks[texts] = (block >= right).sum(axis=0) - 1
    return ranks


def _check(scores: np.ndarray, image_of: np.ndarray) -> None:
    if scores.ndim != 2 or image_of.shape != (scores.shape[1],):
        raise ValueError(f"scores {scores.shape} and image_of {image_of.shape} do not fit")
    if scores.size == 0:
        raise ItmkitError("there is nothing to rank: no image or no caption")
    if not np.isfinite(scores).all():
        image, text = np.argwhere(~np.isfinite(scores))[0]
        raise ItmkitError(
            f"the score of image {image} with caption {text} is {scores[image, text]}; ranks need numbers"
        )
    counts = np.bincount(image_of, minlength=len(scores))
    if len(counts) > len(scores) or (counts == 0).any():
        raise ItmkitError("every image needs at least one caption, and every caption an image, to be ranked")

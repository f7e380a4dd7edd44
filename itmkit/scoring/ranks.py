"""Where the right answer stands among all candidates.

A matrix is read in blocks of rows, so it never has to be in memory as a whole. Nothing is sorted.
"""

from __future__ import annotations

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.scoring.stored import InMemory, Scores


def ranks(scores: Scores, image_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ranks, 0-based: (n_images,) int64 of images among captions, (n_texts,) int64 of captions among images.

    The rank of an image is the smallest rank of its captions. A tie counts against the query: the rank of a caption is
    the number of captions *of other images* that score at least as high. Captions of the same image do not compete with
    each other. The rank of an image for a caption is the number of other images that score at least as high.

    Args:
        scores: images x texts, finite. They are read twice: the score of a caption's own image must be known before
            the images that beat it can be counted.
        image_of: (n_texts,) the image of each caption; every image has at least one.

    Raises:
        ItmkitError: a score is not finite, there is nothing to rank, or an image has no caption.
    """
    n_images, n_texts = scores.shape
    if image_of.shape != (n_texts,):
        raise ValueError(f"scores {scores.shape} and image_of {image_of.shape} do not fit")
    if n_images == 0 or n_texts == 0:
        raise ItmkitError("there is nothing to rank: no image or no caption")
    counts = np.bincount(image_of, minlength=n_images)
    if len(counts) > n_images or (counts == 0).any():
        raise ItmkitError("every image needs at least one caption, and every caption an image, to be ranked")
    of_images = np.empty(n_images, np.int64)
    own_score = np.empty(n_texts)
    for start, block in scores.blocks():
        check_finite(start, block)
        mine = image_of == np.arange(start, start + len(block))[:, None]
        best = np.where(mine, block, -np.inf).max(axis=1)
        of_images[start : start + len(block)] = ((block >= best[:, None]) & ~mine).sum(axis=1)
        here = (image_of >= start) & (image_of < start + len(block))
        own_score[here] = block[image_of[here] - start, np.flatnonzero(here)]
    of_texts = np.full(n_texts, -1, np.int64)  # a caption's own image is counted too, since it scores as high as itself
    for _, block in scores.blocks():
        of_texts += (block >= own_score).sum(axis=0)
    return of_images, of_texts


def image_to_text_ranks(scores: np.ndarray, image_of: np.ndarray) -> np.ndarray:
    """(n_images,) int64, see `ranks`. scores: (n_images, n_texts)."""
    return ranks(InMemory(scores), image_of)[0]


def text_to_image_ranks(scores: np.ndarray, image_of: np.ndarray) -> np.ndarray:
    """(n_texts,) int64, see `ranks`. scores: (n_images, n_texts)."""
    return ranks(InMemory(scores), image_of)[1]


def check_finite(start: int, block: np.ndarray) -> None:
    """Raises ItmkitError if a score in these rows is NaN or infinite. start: the image of the first row."""
    if not np.isfinite(block).all():
        row, text = np.argwhere(~np.isfinite(block))[0]
        raise ItmkitError(
            f"the score of image {start + row} with caption {text} is {block[row, text]}; ranks need numbers"
        )

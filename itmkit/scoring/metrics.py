"""Recall and rank statistics of image-text retrieval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itmkit.scoring.ranks import ranks
from itmkit.scoring.stored import InMemory, Scores

KS = (1, 5, 10)


@dataclass(frozen=True)
class Direction:
    """One direction of retrieval. Recalls are in percent; ranks count from 1."""

    r1: float
    r5: float
    r10: float
    medr: float
    meanr: float

    @classmethod
    def of(cls, ranks: np.ndarray) -> Direction:
        """ranks: (n,) 0-based. R@K = 100 mean(rank < K), medr = floor(median) + 1, meanr = mean + 1."""
        r1, r5, r10 = (100 * float((ranks < k).mean()) for k in KS)
        return cls(r1, r5, r10, medr=float(np.floor(np.median(ranks)) + 1), meanr=float(ranks.mean() + 1))


@dataclass(frozen=True)
class Retrieval:
    """Both directions of one score matrix: i2t (image query, captions found) and t2i."""

    i2t: Direction
    t2i: Direction
    images: int
    captions: int

    @property
    def rsum(self) -> float:
        """The sum of the six recalls, 0..600."""
        return sum((d.r1 + d.r5 + d.r10) for d in (self.i2t, self.t2i))

    @property
    def mean_recall(self) -> float:
        """mR, the mean of the six recalls."""
        return self.rsum / 6

    def figures(self) -> dict[str, float]:
        """Every figure by its name: "i2t R@1" ... "t2i R@10", "rsum", "mR", "i2t medr" ... "t2i meanr"."""
        sides = {"i2t": self.i2t, "t2i": self.t2i}
        recalls = {f"{side} R@{k}": getattr(d, f"r{k}") for side, d in sides.items() for k in KS}
        others = {f"{side} {name}": getattr(d, name) for side, d in sides.items() for name in ("medr", "meanr")}
        return {**recalls, "rsum": self.rsum, "mR": self.mean_recall, **others}

    def to_json(self) -> dict[str, object]:
        sides = {
            side: {"R@1": d.r1, "R@5": d.r5, "R@10": d.r10, "medr": d.medr, "meanr": d.meanr}
            for side, d in (("i2t", self.i2t), ("t2i", self.t2i))
        }
        return {**sides, "rsum": self.rsum, "mR": self.mean_recall, "images": self.images, "captions": self.captions}


@dataclass(frozen=True)
class QueryRanks:
    """0-based ranks of both directions, query by query, from `itmkit.scoring.ranks.ranks`.

    Attributes:
        of_images: (n_images,) int64.
        of_texts: (n_texts,) int64.
        image_of: (n_texts,) int64, the image of each caption.
    """

    of_images: np.ndarray
    of_texts: np.ndarray
    image_of: np.ndarray

    def retrieval(self) -> Retrieval:
        images, texts = Direction.of(self.of_images), Direction.of(self.of_texts)
        return Retrieval(images, texts, images=len(self.of_images), captions=len(self.of_texts))


def query_ranks(scores: np.ndarray | Scores, image_of: np.ndarray) -> QueryRanks:
    """The ranks of every query of a score matrix, from which `retrieval` is computed. Takes the same arguments."""
    stored = InMemory(scores) if isinstance(scores, np.ndarray) else scores
    return QueryRanks(*ranks(stored, image_of), image_of)


def retrieval(scores: np.ndarray | Scores, image_of: np.ndarray) -> Retrieval:
    """All metrics of a score matrix, in memory or on disk.

    Args:
        scores: (n_images, n_texts), finite; higher is better.
        image_of: (n_texts,) the image (row) of each caption.
    """
    return query_ranks(scores, image_of).retrieval()


def mean_over(folds: Sequence[Retrieval]) -> Retrieval:
    """The mean of every figure over folds (COCO 1K). Counts are summed."""

    def mean(side: str) -> Direction:
        parts = [getattr(fold, side) for fold in folds]
        return Direction(
            *[float(np.mean([getattr(p, name) for p in parts])) for name in ("r1", "r5", "r10", "medr", "meanr")]
        )

    return Retrieval(mean("i2t"), mean("t2i"), sum(f.images for f in folds), sum(f.captions for f in folds))


def chance_of(image_of: np.ndarray) -> float:
    """The expected rsum of random scores, which a matcher that knows nothing reaches, for exactly these captions.

    Args:
        image_of: (n_texts,) the image of each caption, by position; every image has at least one.
    """
    own, images_with = np.unique(np.bincount(image_of), return_counts=True)
    captions, images, total = len(image_of), int(images_with.sum()), 0.0
    for k in KS:
        # The first k captions have none of an image's own: all of these are among the others.
        missed = [math.prod(max(0, captions - k - i) / (captions - i) for i in range(count)) for count in own.tolist()]
        total += 100 * (1 - float(images_with @ np.array(missed)) / images) + 100 * min(1.0, k / images)
    return total

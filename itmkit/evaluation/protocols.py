"""Which images are compared with which captions: splits, and the protocols of the literature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itmkit.dataset import Dataset, ImageRecord, image_of_captions
from itmkit.errors import ItmkitError, nearest


@dataclass(frozen=True)
class Protocol:
    """Uses `images` of the split, in `folds` contiguous parts of equal size. The figures are means over the parts."""

    name: str
    split: str
    images: int | None
    folds: int
    says: str


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("train", "train", None, 1, "the training split"),
        Protocol("val", "val", None, 1, "the validation split"),
        Protocol("test", "test", None, 1, "the test split"),
        Protocol("coco5k", "test", 5000, 1, "COCO 5K: the whole test split of 5,000 images"),
        Protocol("coco1k", "test", 5000, 5, "COCO 1K: mean over five folds of 1,000 test images in file order"),
        Protocol("flickr1k", "test", 1000, 1, "Flickr30K: the 1,000 test images"),
        Protocol("f8k", "test", 1000, 1, "Flickr8K: the 1,000 test images"),
    )
}


def protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        known = "; ".join(f"{p.name} ({p.says})" for p in PROTOCOLS.values())
        raise ItmkitError(f"--split {name!r}: no such split or protocol; there are {known}{nearest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def images_of(chosen: Protocol, dataset: Dataset) -> list[ImageRecord]:
    """The images a protocol uses. Raises ItmkitError if the data set is not the one the protocol is defined on."""
    images = dataset.split(chosen.split)
    if chosen.images is not None and len(images) != chosen.images:
        raise ItmkitError(
            f"--split {chosen.name}: needs {chosen.images:,} images in split {chosen.split!r}, this data set has"
            f" {len(images):,}; a figure on them would not be comparable. Use --split {chosen.split}"
        )
    return images


@dataclass(frozen=True)
class Fold:
    """Images and captions that are compared with each other.

    Attributes:
        images, texts: their positions among those that are there; image_of: each caption's position in `images`.
    """

    number: int
    images: np.ndarray
    texts: np.ndarray
    image_of: np.ndarray

    def ids(self, every: Sequence[ImageRecord]) -> tuple[list[str], list[str]]:
        """Of its images and captions. every: the images that are there."""
        images = [every[place] for place in self.images]
        return [image.id for image in images], [caption.id for image in images for caption in image.captions]


def folds_of(chosen: Protocol, every: Sequence[ImageRecord], there: Sequence[ImageRecord]) -> list[Fold]:
    """The folds of a protocol, contiguous and in file order. Images that are left out change no other fold.

    Args:
        every: the images of the protocol. there: those of them that have features or scores, in the same order.

    Raises:
        ItmkitError: a fold has no image left.
    """
    cut = np.array_split(np.arange(len(every)), chosen.folds)
    fold_of = {every[place].id: number for number, fold in enumerate(cut) for place in fold}
    mine, image_of = np.array([fold_of[image.id] for image in there], np.int64), image_of_captions(there)
    folds = []
    for number in range(chosen.folds):
        images = np.flatnonzero(mine == number)
        if not len(images):
            raise ItmkitError(
                f"--split {chosen.name}: of the images of fold {number + 1} of {chosen.folds}, none is there"
            )
        texts = np.flatnonzero(np.isin(image_of, images))
        folds.append(Fold(number, images, texts, np.searchsorted(images, image_of[texts])))
    return folds

"""What matchers read: batches of images and texts, straight from the caches.

Features and frozen vectors stay on disk and are read batch by batch. Only the captions' word numbers and graph edges
are held in memory (about 100 bytes per caption), and one vector per distinct tag phrase.

Shape letters, here and in every matcher: Bi images, Bt texts, R regions (or patches), L words (padded), T words of a
batch laid end to end, D embedding size, S size of a similarity vector, F size of a region feature, V size of a frozen
vector, Y labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from itmkit.dataset import ImageRecord, image_of_captions
from itmkit.inputs.batch import ImageBatch, Sizes, TextBatch
from itmkit.inputs.images import ImageInputs
from itmkit.inputs.needs import IMAGES, WHOLE_IMAGES, Needs, image_problems, vector_problems
from itmkit.inputs.texts import MAX_WORDS, TextInputs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.workspace import Workspace

__all__ = [
    "IMAGES",
    "MAX_WORDS",
    "WHOLE_IMAGES",
    "ImageBatch",
    "Inputs",
    "Needs",
    "Sizes",
    "TextBatch",
    "image_problems",
    "vector_problems",
]


class Inputs:
    """The images of a split and their captions, addressed by position: images 0..n-1, captions 0..m-1.

    Captions are in the order of the data set; the captions of an image stand together.
    """

    def __init__(
        self, workspace: Workspace, images: Sequence[ImageRecord], vocabulary: Vocabulary | None, needs: Needs
    ) -> None:
        """
        Args:
            images: the images of one split. Those without a row in the image cache (unreadable pictures) are left out.
            vocabulary: may be None if `needs` has no words.
        """
        self._image_side = ImageInputs(workspace, images, needs)
        self.images = self._image_side.images
        self.left_out = len(images) - len(self.images)
        self.caption_texts = [caption.text for image in self.images for caption in image.captions]
        # (m,) the image of each caption
        self.image_of = image_of_captions(self.images)
        self._text_side = TextInputs(workspace, self.caption_texts, vocabulary, needs)
        self.sizes = Sizes(
            feature=self._image_side.feature_size,
            regions=self._image_side.regions,
            vocabulary=len(vocabulary) if vocabulary is not None and needs.words else 0,
            word_vector=self._text_side.vector_size,
            tag_vector=self._image_side.tag_size,
            blocks=self._image_side.blocks,
            sentence=self._text_side.sentence_size,
        )
        self.lengths = self._text_side.lengths  # (m,) words of each caption, as delivered

    @property
    def region_counts(self) -> np.ndarray | None:
        """(n,) how many regions each image has; None if the cache does not say."""
        return self._image_side.counts

    def image_batch(self, which: np.ndarray) -> ImageBatch:
        """The images at positions `which` (Bi,). Raises ItmkitError naming an image whose features hold NaN."""
        return self._image_side.batch(which)

    def text_batch(self, which: np.ndarray) -> TextBatch:
        """The captions at positions `which` (Bt,), padded to the longest of them."""
        return self._text_side.batch(which)

"""What matchers read: batches of images and texts, straight from the caches.

Features stay on disk and are read batch by batch; of the captions only word numbers and graph edges are held in
memory (about 100 bytes a caption).

Shape letters, here and in every matcher: Bi images, Bt texts, R regions, L words (padded), T words of a batch
laid end to end, D embedding size, S size of a similarity vector, F size of a region feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from itmkit.cache import CacheReader, text_key
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.text.vocabulary import Vocabulary
from itmkit.workspace import Workspace

MAX_WORDS = 100  # longer captions are cut: pairwise matchers need memory in proportion to the longest


@dataclass(frozen=True)
class ImageBatch:
    features: Tensor  # (Bi, R, F) float32
    mask: Tensor  # (Bi, R) bool, False where a picture has fewer regions
    rho: Tensor | None  # (Bi, R, R) float32, distance of region centres over the image diagonal
    theta: Tensor | None  # (Bi, R, R) float32, direction in radians

    def to(self, device: torch.device) -> ImageBatch:
        return ImageBatch(
            self.features.to(device), self.mask.to(device), _to(self.rho, device), _to(self.theta, device)
        )


@dataclass(frozen=True)
class TextBatch:
    words: Tensor  # (Bt, L) int64 vocabulary numbers, 0 = padding
    mask: Tensor  # (Bt, L) bool
    edges: Tensor | None  # (Bt, L, L) bool dependency graph, undirected, with self loops

    def to(self, device: torch.device) -> TextBatch:
        return TextBatch(self.words.to(device), self.mask.to(device), _to(self.edges, device))


def _to(value: Tensor | None, device: torch.device) -> Tensor | None:
    return None if value is None else value.to(device)


class Inputs:
    """The images of a split and their captions, addressed by position: images 0..n-1, captions 0..m-1.

    Captions lie in the order of the data set, those of an image together.
    """

    def __init__(
        self, workspace: Workspace, images: Sequence[ImageRecord], vocabulary: Vocabulary, *, graphs: bool
    ) -> None:
        """
        Args:
            images: of one split. Those that have no row in the region cache (unreadable pictures) are left out.
            graphs: whether to deliver region geometry and dependency edges.
        """
        self.regions = CacheReader.open(workspace.cache("regions"), stage="extract-regions")
        self.images = [image for image in images if image.id in self.regions]
        self.left_out = len(images) - len(self.images)
        if not self.images:
            raise ItmkitError(f"{self.regions.folder}: none of the {len(images)} images of this split has a row")
        captions = [caption for image in self.images for caption in image.captions]
        self.caption_texts = [caption.text for caption in captions]
        # (m,) the image of each caption
        self.image_of = np.repeat(np.arange(len(self.images)), [len(image.captions) for image in self.images])
        self._rows = self.regions.rows([image.id for image in self.images])
        self._polar = CacheReader.open(workspace.cache("graphs/images"), stage="build-graphs") if graphs else None
        if self._polar is not None and "polar_rho" not in self._polar.columns:
            raise ItmkitError(
                f"{self._polar.folder}: has no polar coordinates, which this method needs: the features were imported"
                " with block positions instead of boxes. Import features with boxes, or train another method"
            )
        self._polar_rows = self._polar.rows([image.id for image in self.images]) if self._polar else None

        text = CacheReader.open(workspace.cache("text"), stage="parse-text")
        rows = text.rows([text_key(caption) for caption in self.caption_texts])
        flat, offsets = text.read_ragged(["words"], rows)
        known = vocabulary.encode(text.tables["words"])  # vocabulary number of each distinct word
        self._words, self._offsets = known[flat["words"]], offsets
        self._edges: np.ndarray | None = None
        if graphs:
            graph = CacheReader.open(workspace.cache("graphs/texts"), stage="build-graphs")
            edges, self._edge_offsets = graph.read_ragged(
                ["edges"], graph.rows([text_key(t) for t in self.caption_texts])
            )
            self._edges = edges["edges"]

    @property
    def feature_size(self) -> int:
        return self.regions.columns["features"].shape[-1]

    @cached_property
    def lengths(self) -> np.ndarray:
        """(m,) words of each caption, as delivered: at least 1, at most MAX_WORDS."""
        return np.clip(np.diff(self._offsets), 1, MAX_WORDS)

    def image_batch(self, which: np.ndarray) -> ImageBatch:
        """The images at positions `which` (Bi,). Raises ItmkitError naming an image whose features hold NaN."""
        rows = self._rows[which]
        features = torch.from_numpy(self.regions.read("features", rows)).float()
        sums = features.sum(dim=(1, 2))
        if not torch.isfinite(sums).all():
            bad = self.images[int(which[int(torch.isfinite(sums).int().argmin())])].id
            raise ItmkitError(
                f"{self.regions.folder}: the features of image {bad!r} hold NaN or infinity; extract it anew"
            )
        count = torch.from_numpy(self.regions.read("count", rows).astype(np.int64))
        mask = torch.arange(features.shape[1]) < count[:, None]
        rho = theta = None
        if self._polar is not None and self._polar_rows is not None:
            polar_rows = self._polar_rows[which]
            rho = torch.from_numpy(self._polar.read("polar_rho", polar_rows)).float()
            theta = torch.from_numpy(self._polar.read("polar_theta", polar_rows)).float()
        return ImageBatch(features, mask, rho, theta)

    def text_batch(self, which: np.ndarray) -> TextBatch:
        """The captions at positions `which` (Bt,), padded to the longest of them."""
        lengths = self.lengths[which]
        longest = int(lengths.max())
        places = np.arange(longest)[None, :]
        mask = places < lengths[:, None]
        source = np.minimum(self._offsets[which][:, None] + places, max(len(self._words) - 1, 0))
        words = np.where(mask, self._words[source], 0) if len(self._words) else np.zeros(mask.shape, np.int64)
        words[np.diff(self._offsets)[which] == 0, 0] = Vocabulary.UNKNOWN  # a caption without any token
        edges = self._adjacency(which, longest, mask) if self._edges is not None else None
        return TextBatch(torch.from_numpy(words.astype(np.int64)), torch.from_numpy(mask), edges)

    def _adjacency(self, which: np.ndarray, longest: int, mask: np.ndarray) -> Tensor:
        assert self._edges is not None
        starts, counts = self._edge_offsets[which], self._edge_offsets[which + 1] - self._edge_offsets[which]
        batch = np.repeat(np.arange(len(which)), counts)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        pairs = self._edges[np.repeat(starts, counts) + within]
        inside = (pairs < longest).all(axis=1)
        batch, a, b = batch[inside], pairs[inside, 0], pairs[inside, 1]
        adjacency = np.zeros((len(which), longest, longest), dtype=bool)
        adjacency[batch, a, b] = adjacency[batch, b, a] = True
        adjacency |= np.eye(longest, dtype=bool)
        adjacency &= mask[:, :, None] & mask[:, None, :]
        return torch.from_numpy(adjacency)

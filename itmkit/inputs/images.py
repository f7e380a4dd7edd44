"""The image side of the inputs: rows of the region (or patch, or picture) cache, and what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

import numpy as np
import torch
from torch import Tensor

from itmkit.cache import CacheReader
from itmkit.cache.name import CacheName
from itmkit.cache.tag_phrases import TagPhrases
from itmkit.dataset import ImageRecord, label_matrix
from itmkit.errors import ItmkitError
from itmkit.graphs import BLOCKS
from itmkit.inputs.batch import ImageBatch
from itmkit.inputs.needs import Needs
from itmkit.inputs.places import places_of_patches
from itmkit.workspace import Workspace


class ImageInputs:
    """Batches of images, addressed by position."""

    def __init__(self, workspace: Workspace, images: Sequence[ImageRecord], needs: Needs) -> None:
        self.needs = needs
        self.cache = CacheReader.open(workspace.cache(needs.images))
        self._feature = "vector" if CacheName.of(needs.images).kind == "vectors" else "features"
        rows = self.cache.find([image.id for image in images])
        self.images = list(compress(images, rows >= 0))
        if not self.images:
            raise ItmkitError(f"{self.cache.folder}: none of the {len(images)} images of this split has a row")
        ids, self._rows = [image.id for image in self.images], rows[rows >= 0]
        if needs.attention and "attention" not in self.cache.columns:
            raise ItmkitError(
                f"{self.cache.folder}: holds no attention of [CLS], by which --image-nodes chooses patches; run `itmkit"
                f" {_with_attention(needs.images)}, or train with --image-nodes 0 (all of them)"
            )
        if needs.whole and "cls" not in self.cache.columns:
            raise ItmkitError(
                f"{self.cache.folder}: has no [CLS] vectors of whole pictures, which --class-vectors reads; run `itmkit"
                " extract-patches` and train with --images patches, or with --class-vectors none or text"
            )
        self._graphs = self._graph_rows = None
        if "graphs/images" in needs.caches:
            self._graphs = CacheReader.open(workspace.cache("graphs/images"), stage="build-graphs")
            self._graph_rows = self._graphs.rows(ids)
            if needs.polar and "polar_rho" not in self._graphs.columns:
                raise ItmkitError(
                    f"{self._graphs.folder}: has no polar coordinates, which this method needs: the features were"
                    " imported with block positions instead of boxes. Import features with boxes, or train another"
                    " method"
                )
        self._phrases: TagPhrases | None = None
        if needs.tags:
            self._phrases = TagPhrases.of(self.cache)
            self._phrase_vectors = CacheReader.open(workspace.cache(needs.tags)).read_all("vector")
        self._labels: np.ndarray | None = None
        self._tagged, self._tagged_rows = self.cache, self._rows
        if needs.labels_from and needs.labels_from != needs.images:
            self._tagged = CacheReader.open(workspace.cache(needs.labels_from))
            self._tagged_rows = self._tagged.find(ids)
        if needs.labels and not needs.labels_from and any(image.labels for image in self.images):
            _, labels = label_matrix(images)
            self._labels = labels[[image.id in self.cache for image in images]]

    @property
    def feature_size(self) -> int:
        return self.cache.columns[self._feature].shape[-1]

    @property
    def regions(self) -> int:
        """R, the most vectors of an image."""
        return 1 if self._feature == "vector" else self.cache.columns[self._feature].shape[0]

    @property
    def tag_size(self) -> int:
        return int(self._phrase_vectors.shape[1]) if self._phrases else 0

    @property
    def blocks(self) -> int:
        """The highest number of a block."""
        if not self.needs.blocks:
            return 0
        if self._graphs is None:  # patches
            return BLOCKS**2
        return int(self._graphs.manifest.made_by.settings["blocks"]) ** 2

    @property
    def counts(self) -> np.ndarray | None:
        """(n,) how many regions each image has; None if the cache does not say."""
        return self.cache.read("count", self._rows).astype(np.int64) if "count" in self.cache.columns else None

    def batch(self, which: np.ndarray) -> ImageBatch:
        """The images at positions `which` (Bi,). Raises ItmkitError naming an image whose features hold NaN."""
        rows = self._rows[which]
        needs = self.needs
        wanted = {"count": "count" in self.cache.columns, "attention": needs.attention, "cls": needs.whole}
        read = {name: self.cache.read(name, rows) for name, is_wanted in wanted.items() if is_wanted}
        if self._graphs is not None and self._graph_rows is not None:
            names = ["polar_rho", "polar_theta"] if needs.polar else []
            names += ["blocks", "block_weights"] if needs.blocks else []
            read |= {name: self._graphs.read(name, self._graph_rows[which]) for name in names}
        elif needs.polar or needs.blocks:
            boxes, sizes = self.cache.read("boxes", rows), self.cache.read("size", rows)
            read |= places_of_patches(boxes, sizes, polar=needs.polar, blocks=needs.blocks)
        batch = image_batch(
            self.cache.read(self._feature, rows),
            read,
            tags=self._tags(rows) if self.needs.tags else None,
            labels=self._labels_of(which) if self.needs.labels else None,
        )
        sums = batch.features.sum(dim=(1, 2))
        if not torch.isfinite(sums).all():
            bad = self.images[int(which[int(torch.isfinite(sums).int().argmin())])].id
            raise ItmkitError(
                f"{self.cache.folder}: the features of image {bad!r} hold NaN or infinity; extract it anew"
            )
        return batch

    def _tags(self, rows: np.ndarray) -> Tensor:
        """(Bi, R, V). Each distinct phrase has one stored vector; regions only say which phrase they have."""
        assert self._phrases is not None
        numbers = self._phrases.numbers(self.cache.read("tags", rows), self.cache.read("attributes", rows))
        vectors = self._phrase_vectors[np.maximum(numbers, 0)].astype(np.float32)
        vectors[numbers < 0] = 0
        return torch.from_numpy(vectors)

    def _labels_of(self, which: np.ndarray) -> Tensor | None:
        """(Bi, Y): the data set's labels, else the tags of the regions; None if there are neither."""
        if self._labels is not None:
            return torch.from_numpy(self._labels[which])
        if "tags" not in self._tagged.columns or not any(self._tagged.tables["tags"]):
            return None
        rows = self._tagged_rows[which]
        tags = np.full((len(rows), self._tagged.columns["tags"].shape[0]), -1, np.int32)
        tags[rows >= 0] = self._tagged.read("tags", rows[rows >= 0])
        seen, numbers = np.unique(tags, return_inverse=True)
        found = np.zeros((len(rows), len(seen)), bool)
        found[np.arange(len(rows))[:, None], numbers.reshape(tags.shape)] = True
        return torch.from_numpy(found[:, seen >= 0])


def _with_attention(images: str) -> str:
    """What makes a cache that holds attention, in place of this one."""
    cache = CacheName.of(images)
    if cache.kind == "patches":
        return f"{cache.command} --attention --force`"
    return "extract-patches --model MODEL --attention` and train with --images patches"


def image_batch(
    features: np.ndarray,
    rows: Mapping[str, np.ndarray],
    *,
    tags: Tensor | None = None,
    labels: Tensor | None = None,
) -> ImageBatch:
    """A batch of the rows of caches.

    Args:
        features: (Bi, R, F), or (Bi, F) of whole pictures.
        rows: by the names of the caches' columns, whichever are wanted: count (Bi,), attention (Bi, R), cls (Bi, F),
            polar_rho and polar_theta (Bi, R, R), blocks and block_weights (Bi, R, K). Without count, all R are real.
    """
    vectors = torch.from_numpy(features).float()
    vectors = vectors[:, None] if vectors.ndim == 2 else vectors
    mask = torch.ones(vectors.shape[:2], dtype=torch.bool)
    if "count" in rows:
        mask = torch.arange(vectors.shape[1]) < torch.from_numpy(rows["count"].astype(np.int64))[:, None]
    there = {name: torch.from_numpy(values) for name, values in rows.items()}
    floats = {name: there[name].float() for name in ("polar_rho", "polar_theta", "cls") if name in there}
    return ImageBatch(
        vectors,
        mask,
        rho=floats.get("polar_rho"),
        theta=floats.get("polar_theta"),
        blocks=there["blocks"].long() if "blocks" in there else None,
        block_weights=there.get("block_weights"),
        tags=tags,
        attention=there.get("attention"),
        whole=floats.get("cls"),
        labels=labels,
    )

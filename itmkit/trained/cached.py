"""The pictures of a workspace, by their ids: rows of its caches instead of a detector's work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from itmkit.cache.manifest import read_manifest
from itmkit.cache.tag_phrases import region_names
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.inputs.batch import ImageBatch
from itmkit.inputs.images import ImageInputs
from itmkit.inputs.needs import Needs
from itmkit.runs.made import made_otherwise
from itmkit.trained.made import Made
from itmkit.trained.pictures import PictureRows
from itmkit.workspace import Workspace


class CachedPictures:
    """Batches of the images of a workspace."""

    def __init__(self, workspace: Workspace, needs: Needs, made: Made) -> None:
        self._workspace, self._needs, self._made = workspace, needs, made

    def __contains__(self, image: str) -> bool:
        return image in self._records

    def read(self, ids: Sequence[str]) -> tuple[ImageBatch, PictureRows]:
        """The images as the matcher reads them, and what the caches hold of them.

        Raises:
            ItmkitError: an image has no row, since its picture could not be read; or the caches were made otherwise
                since training.
        """
        self._check()
        inputs = ImageInputs(self._workspace, [self._records[image] for image in ids], self._needs)
        lacking = sorted(set(ids) - {image.id for image in inputs.images})
        if lacking:
            raise ItmkitError(f"{inputs.cache.folder}: has no row of {', '.join(lacking)}")
        cache, rows = inputs.cache, inputs.cache.rows(list(ids))
        wanted = [name for name in ("boxes", "count", "size", "tags", "attributes") if name in cache.columns]
        columns = {name: cache.read(name, rows) for name in wanted}
        names = [[""] * inputs.regions for _ in ids]
        if "tags" in columns and "attributes" in columns:
            tables = [cache.tables.get(name, []) for name in ("tags", "attributes")]
            names = region_names(columns["tags"], columns["attributes"], *tables)
        feature = "vector" if "vector" in cache.columns else "features"
        return inputs.batch(np.arange(len(ids))), PictureRows(cache.read(feature, rows), columns, names)

    def _check(self) -> None:
        """Raises ItmkitError unless the caches of images are still made as those of training. Images may have come."""
        problems = []
        for cache in self._needs.image_caches:
            place = self._workspace.cache(cache)
            here = read_manifest(place)
            if here is None or not here.complete:
                problems.append(f"{place} is {'missing' if here is None else 'unfinished'}")
            else:
                other = made_otherwise(self._made.manifest(cache), here)
                problems += [f"{place}: made otherwise than in training: {line}" for line in other]
        if problems:
            raise ItmkitError(
                [*problems, "give the files of the pictures instead of their ids, or make the caches anew"]
            )

    def file(self, image: str) -> tuple[Path, str | None]:
        """The place of an image's picture, and the sha256 that it had when it was prepared.

        Raises:
            ItmkitError: only features of it were imported.
        """
        record = self._records[image]
        if record.file is None:
            raise ItmkitError(f"{image}: its features were imported without the picture")
        return self._workspace.image_path(record.file), record.sha256

    @cached_property
    def _records(self) -> dict[str, ImageRecord]:
        return {image.id: image for image in self._workspace.dataset().images}

"""The images of an index as the page shows them: their files, captions, and the regions that the caches know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from itmkit.cache import CacheReader
from itmkit.cache.tag_phrases import region_names
from itmkit.dataset import ImageRecord
from itmkit.index.store import Store
from itmkit.inputs.needs import Needs
from itmkit.trained.pictures import PictureRows
from itmkit.workspace import Workspace

COLUMNS = ("boxes", "count", "size", "tags", "attributes")


class IndexedImages:
    """By id. For one thread, apart from `record`."""

    def __init__(self, workspace: Workspace, store: Store, needs: Needs) -> None:
        self.workspace = workspace
        self.positions = {image: k for k, image in enumerate(store.ids) if not store.dead[k]}
        self._records = {image.id: image for image in workspace.dataset().images if image.id in self.positions}
        self._folder = workspace.cache(needs.images)

    def record(self, image: str) -> ImageRecord | None:
        """None for an id that the index or the data set does not have."""
        return self._records.get(image)

    @cached_property
    def _cache(self) -> CacheReader:
        return CacheReader.open(self._folder)

    @property
    def regions(self) -> int:
        """R, the most regions that the caches hold of an image; 0 where they have no boxes."""
        return self._cache.columns["features"].shape[0] if "boxes" in self._cache.columns else 0

    def rows(self, images: Sequence[str]) -> PictureRows:
        """What the caches hold of these images, with features that say only how many there are."""
        cache, rows = self._cache, self._cache.rows(list(images))
        columns = {name: cache.read(name, rows) for name in COLUMNS if name in cache.columns}
        most = max(1, self.regions)
        names = [[""] * most for _ in images]
        if "tags" in columns and "attributes" in columns:
            tables = [cache.tables.get(name, []) for name in ("tags", "attributes")]
            names = region_names(columns["tags"], columns["attributes"], *tables)
        return PictureRows(np.zeros((len(images), most, 0), np.float16), columns, names)


def regions_json(rows: PictureRows, number: int) -> dict[str, Any]:
    """Size and regions of one of the pictures of some rows; (0, 0) and no regions where they are not known."""
    columns = rows.columns
    width, height = columns["size"][number].tolist() if "size" in columns else (0, 0)
    boxes = columns["boxes"][number] if "boxes" in columns else np.zeros((0, 4), np.float32)
    count = int(columns["count"][number]) if "count" in columns else len(boxes)
    return {
        "size": [int(width), int(height)],
        "regions": [
            {"name": name, "box": [round(float(x), 2) for x in box]}
            for name, box in zip(rows.names[number][:count], boxes[:count], strict=False)
        ],
    }


def best_overlap(boxes: np.ndarray, box: Sequence[float]) -> int | None:
    """The place of the box (R, 4) with the largest intersection over union with one box; None if none meets it."""
    if not len(boxes):
        return None
    x1, y1, x2, y2 = box
    wide = np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1)
    high = np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1)
    shared = np.clip(wide, 0, None) * np.clip(high, 0, None)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    overlap = shared / np.maximum(areas + (x2 - x1) * (y2 - y1) - shared, 1e-9)
    best = int(overlap.argmax())
    return best if overlap[best] > 0 else None

"""What every backend gives back for one picture, and how regions are stored."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from itmkit.cache import Column


@dataclass
class Regions:
    """The regions of one picture, best first.

    boxes: (n, 4) float32, x1 y1 x2 y2 in pixels of the upright picture.
    scores: (n,) float32, the backend's confidence, 0 where it has none.
    tags: n class names; "" where the backend names none.
    features: (n, D) float32.
    attributes: n words for what the regions look like, where the backend names them; None: their colours are stored.
    """

    boxes: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    tags: list[str] = field(default_factory=list)
    attributes: list[str] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


def region_columns(regions: int, dim: int) -> dict[str, Column]:
    """The columns of every regions cache (features float16; boxes in pixels of the upright picture)."""
    return {
        "features": Column("float16", (regions, dim)),
        "boxes": Column("float32", (regions, 4)),
        "count": Column("int16"),
        "tags": Column("int32", (regions,)),
        "attributes": Column("int16", (regions,)),
        "scores": Column("float32", (regions,)),
        "size": Column("int32", (2,)),
    }

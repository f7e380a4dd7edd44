"""What every backend returns for one picture, and how regions are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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


@dataclass(frozen=True)
class ModelInput:
    """A picture as a model takes it.

    inputs: what the backend's `prepare` made of it. size: (width, height) of the picture that boxes are in pixels of.
    """

    inputs: Any
    size: tuple[int, int]


def equal_shapes(shapes: Sequence[tuple[int, ...]], batch: int) -> Iterator[list[int]]:
    """Groups the numbers of pictures by shape, at most `batch` at a time, so that none is padded for another."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, shape in enumerate(shapes):
        groups.setdefault(tuple(shape), []).append(number)
    for members in groups.values():
        for start in range(0, len(members), batch):
            yield members[start : start + batch]


def region_columns(regions: int, dim: int, *, features: Literal["float16", "float32"] = "float16") -> dict[str, Column]:
    """The columns of every regions cache (boxes in pixels of the upright picture). features: the dtype of theirs."""
    return {
        "features": Column(features, (regions, dim)),
        "boxes": Column("float32", (regions, 4)),
        "count": Column("int16"),
        "tags": Column("int32", (regions,)),
        "attributes": Column("int16", (regions,)),
        "scores": Column("float32", (regions,)),
        "size": Column("int32", (2,)),
    }


def empty_rows(
    counts: Sequence[int], sizes: Sequence[tuple[int, int]], regions: int, dim: int, *, features: Any
) -> dict[str, np.ndarray]:
    """The rows of n pictures before their regions are put in: zeros, and -1 for "no name".

    Args:
        counts: regions of each picture; sizes: (width, height) of each; features: dtype of the features.
    """
    n = len(counts)
    return {
        "features": np.zeros((n, regions, dim), features),
        "boxes": np.zeros((n, regions, 4), np.float32),
        "count": np.array(counts, np.int16),
        "tags": np.full((n, regions), -1, np.int32),
        "attributes": np.full((n, regions), -1, np.int16),
        "scores": np.zeros((n, regions), np.float32),
        "size": np.array(sizes, np.int32).reshape(n, 2),
    }

"""What people judged to belong together among COCO's test captions and images, beyond the data set's own pairs.

`eccv` is ECCV-Caption, `cxc` is Crisscrossed Captions, `original` are COCO's own pairs, all as the repository
naver-ai/eccv-caption has them: `{name}_image_to_caption.json` and `{name}_caption_to_image.json`. The two directions
of ECCV-Caption were judged apart and are not each other's transpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from itmkit.relevance.coco_ids import CocoIds, read_pairs

Judged = Literal["eccv", "cxc", "original"]


@dataclass(frozen=True)
class Placed:
    """What is relevant to each query, as the rows of a sparse matrix.

    offsets: (n_queries + 1,) int64; items: (total,) int64. The items of query q are items[offsets[q]:offsets[q + 1]],
    places in the order of our captions (or images), ascending. A query without items was not judged: it is none.
    judged: the judgements in the file; unplaced: those whose image or caption is not among ours.
    """

    offsets: np.ndarray
    items: np.ndarray
    judged: int
    unplaced: int

    @property
    def queries(self) -> np.ndarray:
        """(n,) the places of the queries that have something relevant."""
        return np.flatnonzero(np.diff(self.offsets))


@dataclass(frozen=True)
class Judgements:
    """i2t: captions relevant to each image; t2i: images relevant to each caption."""

    name: str
    i2t: Placed
    t2i: Placed

    def notes(self) -> list[str]:
        """What could not be placed, in words; nothing where all could."""
        return [
            f"{self.name}: {side.unplaced:,} of {side.judged:,} judgements {words} are about images or captions that"
            " are not among these and are left out"
            for side, words in ((self.i2t, "from image to caption"), (self.t2i, "from caption to image"))
            if side.unplaced
        ]


def read_judgements(folder: Path, name: Judged, ids: CocoIds) -> Judgements:
    """Reads the judgements called `name` and puts them in the order of our images and captions.

    Args:
        ids: of our images and captions, from `itmkit.relevance.coco_ids.coco_ids`.

    Raises:
        ItmkitError: a file is missing or is not one of judgements.
    """
    return Judgements(
        name,
        i2t=_placed(folder, f"{name}_image_to_caption.json", ids.images, ids.captions),
        t2i=_placed(folder, f"{name}_caption_to_image.json", ids.captions, ids.images),
    )


def _placed(folder: Path, name: str, queries: np.ndarray, items: np.ndarray) -> Placed:
    pairs = read_pairs(folder, name)
    rows, columns = _places(queries, np.repeat(pairs.keys, pairs.lengths)), _places(items, pairs.items)
    placed = (rows >= 0) & (columns >= 0)
    cells = np.unique(rows[placed] * len(items) + columns[placed])  # sorted, and a repeated judgement once
    offsets = np.searchsorted(cells, np.arange(len(queries) + 1) * len(items)).astype(np.int64)
    return Placed(offsets, cells % max(1, len(items)), judged=len(rows), unplaced=int((~placed).sum()))


def _places(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(n_wanted,) where each wanted id stands among `ids`, -1 where it does not. No wanted id is UNKNOWN."""
    order = np.argsort(ids, kind="stable")
    at = np.minimum(np.searchsorted(ids, wanted, sorter=order), max(0, len(ids) - 1))
    return np.where(ids[order[at]] == wanted, order[at], -1) if len(ids) else np.full(len(wanted), -1)

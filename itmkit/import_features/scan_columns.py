"""The columns of a region cache, from rows of files in the SCAN layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from itmkit.cache import CacheWriter
from itmkit.errors import ItmkitError
from itmkit.import_features.scan_blocks import read_blocks
from itmkit.import_features.scan_layout import ScanSplit
from itmkit.import_features.scan_tags import read_tags

TagForm = Literal["colour-class", "class"]


class Tags:
    """The tags of ascending rows of one split after the other, read as a stream."""

    def __init__(self, splits: list[ScanSplit]) -> None:
        self._splits = splits
        self._index = -1
        self._stream: Iterator[tuple[int, list[str]]] = iter(())

    def take(self, index: int, rows: np.ndarray) -> list[list[str]] | None:
        path = self._splits[index].tags
        if path is None:
            return None
        if index != self._index:
            self._index, self._stream = index, enumerate(read_tags(path))
        wanted = set(rows.tolist())
        found: list[list[str]] = []
        while len(found) < len(rows):
            row, tags = next(self._stream)
            if row in wanted:
                found.append(tags)
        return found


def columns_of(
    writer: CacheWriter, split: ScanSplit, rows: np.ndarray, tags: list[list[str]] | None, tag_form: TagForm
) -> dict[str, np.ndarray]:
    """All columns of some rows of a split. Sizes are zeros.

    Args:
        writer: whose tables number the tags and colours.
        rows: (n,) of the files. tags: of each row, one a region; None if the split has none.
    """
    features = split.features.take(rows)
    n, regions, _ = features.shape
    # If a picture has fewer regions, such files are filled up with zeros, which are not regions.
    filled = (features != 0).any(axis=2)
    count = np.where(filled.any(axis=1), regions - np.argmax(filled[:, ::-1], axis=1), 0)
    real = np.arange(regions) < count[:, None]
    columns = {
        "features": features,
        "boxes": np.zeros((n, regions, 4), np.float32),
        "count": count.astype(np.int16),
        "tags": np.full((n, regions), -1, np.int32),
        "attributes": np.full((n, regions), -1, np.int16),
        "scores": np.zeros((n, regions), np.float32),
        "size": np.zeros((n, 2), np.int32),
    }
    for name in ("boxes", "scores"):
        if name in split.arrays:
            values = split.arrays[name].take(rows).astype(np.float32)
            columns[name] = np.where(real[..., None] if name == "boxes" else real, values, 0)
    if "blocks" in split.arrays:
        numbers, shares = read_blocks(split.arrays["blocks"].take(rows))
        columns["blocks"] = np.where(real[..., None], numbers, 0)
        columns["block_weights"] = np.where(real[..., None], shares, 0)
    if tags is not None:
        pairs = [split_tag(tag, tag_form) for row in tags for tag in row]
        for place, table in ((0, "attributes"), (1, "tags")):
            named = [i for i, pair in enumerate(pairs) if pair[place] and real.flat[i]]
            places = writer.index(table, [pairs[i][place] for i in named])
            if len(places) and places.max() > np.iinfo(columns[table].dtype).max:
                raise ItmkitError(f"{split.tags}: too many different colours; import with --tags class")
            columns[table].flat[named] = places
    return columns


def split_tag(tag: str, form: TagForm) -> tuple[str, str]:
    """("red", "traffic light") of "red traffic light"; the colour is "" where the tag is one word or a bare class."""
    tag = " ".join(tag.split())
    if form == "class" or " " not in tag:
        return "", tag
    colour, _, name = tag.partition(" ")
    return colour, name

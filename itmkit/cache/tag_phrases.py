"""The distinct tag phrases of a region cache ("red car"), and which one each region has.

Shapes: T tags, A attributes, n regions; -1 stands for "no name" in both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from itmkit.cache import CacheReader

Ints = NDArray[np.int64]

ROWS = 4096  # pictures whose tags are read at once


def phrase(tag: str, attribute: str) -> str:
    """The text that is encoded for a region: its attribute, then its tag; empty if it has neither."""
    return " ".join(word for word in (attribute, tag) if word)


def region_names(
    tags: np.ndarray, attributes: np.ndarray, tag_table: Sequence[str], attribute_table: Sequence[str]
) -> list[list[str]]:
    """The phrase of each region of n pictures, "" where it has none.

    Args:
        tags, attributes: (n, R) as a region cache stores them; the tables say what their numbers mean.
    """
    words, colours = [*tag_table, ""], [*attribute_table, ""]  # -1 is the last
    pictures = zip(tags.tolist(), attributes.tolist(), strict=True)
    return [[phrase(words[a], colours[b]) for a, b in zip(*picture, strict=True)] for picture in pictures]


class TagPhrases:
    """All phrases of a region cache, in order of tag, then attribute; those without a tag last.

    Attributes:
        phrases: the distinct ones; phrases that read alike (from other tags and attributes) are one.
    """

    def __init__(self, tags: Sequence[str], attributes: Sequence[str], pairs: Ints) -> None:
        """pairs: (k, 2) the tag and the attribute of every pair that occurs."""
        self._width = len(attributes) + 1
        last = np.where(pairs[:, 0] < 0, len(tags), pairs[:, 0])
        pairs = pairs[np.lexsort((pairs[:, 1], last))]
        written = [
            phrase(tags[tag] if tag >= 0 else "", attributes[attribute] if attribute >= 0 else "")
            for tag, attribute in pairs.tolist()
        ]
        places: dict[str, int] = {}
        numbers = [places.setdefault(text, len(places)) if text else -1 for text in written]
        self.phrases = list(places)
        self._of_pair = np.full((len(tags) + 1) * self._width, -1, np.int64)
        self._of_pair[self._code(pairs[:, 0], pairs[:, 1])] = numbers

    @classmethod
    def of(cls, regions: CacheReader) -> TagPhrases:
        """The phrases of a region cache. Reads the tags of a few thousand pictures at a time."""
        tags, attributes = regions.tables["tags"], regions.tables["attributes"]
        width, seen = len(attributes) + 1, np.zeros(0, np.int64)
        for start in range(0, len(regions), ROWS):
            rows = np.arange(start, min(start + ROWS, len(regions)))
            codes = (regions.read("tags", rows).astype(np.int64) + 1) * width + regions.read("attributes", rows) + 1
            seen = np.union1d(seen, codes)
        return cls(tags, attributes, np.stack(np.divmod(seen, width), 1) - 1)

    def numbers(self, tags: Ints, attributes: Ints) -> Ints:
        """The place in `phrases` of each region; -1 where it has neither tag nor attribute.

        Args:
            tags, attributes: of one shape (n,) or (pictures, regions), as the region cache stores them.
        """
        return self._of_pair[self._code(np.asarray(tags, np.int64), np.asarray(attributes, np.int64))]

    def _code(self, tags: Ints, attributes: Ints) -> Ints:
        return (tags + 1) * self._width + attributes + 1

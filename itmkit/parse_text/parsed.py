"""What every parser backend returns, and what a backend is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LAST_SENTENCE = np.iinfo(np.int16).max  # sentence numbers stop here; later sentences keep their own roots


@dataclass
class Coded:
    """Strings as codes into a list of distinct strings: `strings[codes[i]]`."""

    codes: NDArray[np.int32]
    strings: list[str]


@dataclass
class ParsedTexts:
    """Parsed captions, flat over their words: caption k has `lengths[k]` words, possibly none.

    `heads` index within the caption; the root of each sentence is its own head. `starts` and `ends` are characters
    of the caption. `sentences` count from 0 within the caption.
    """

    lengths: NDArray[np.int64]
    words: Coded
    lemmas: Coded
    pos: Coded
    relations: Coded
    heads: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    sentences: NDArray[np.int16]


class Backend(Protocol):
    """A parser that `parse_text` can use."""

    @property
    def model(self) -> dict[str, Any]:
        """`id`, `sha256` and whatever else identifies the model. They are part of the cache's manifest."""
        ...

    def parse(self, texts: Sequence[str], batch_size: int) -> ParsedTexts:
        """Parses texts. The result does not depend on `batch_size` or on which texts are parsed together."""
        ...


def code(strings: Sequence[str]) -> Coded:
    """Distinct strings in order of first appearance."""
    places: dict[str, int] = {}
    codes = np.fromiter((places.setdefault(s, len(places)) for s in strings), np.int32, len(strings))
    return Coded(codes, list(places))

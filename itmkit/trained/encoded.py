"""What a matcher makes of images alone and of captions alone, kept to be scored again and again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from itmkit.matchers import Encoded
from itmkit.trained.pictures import PictureRows

AnyImage = str | Path | Image.Image


@dataclass(frozen=True)
class EncodedImages:
    """n images, encoded by every member, in tiles.

    Attributes:
        names: id, path or "picture K" of each.
        tiles: rows of the images, and by member what it made of them.
        rows: what the caches hold, or would hold, of each tile's images: boxes and names of regions.
    """

    names: list[str]
    tiles: list[tuple[slice, dict[str, Encoded]]]
    rows: list[PictureRows]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class EncodedTexts:
    """m captions, encoded by every member, in tiles of captions with equally many words.

    Attributes:
        tiles: places of the captions, and by member what it made of them.
    """

    captions: list[str]
    tiles: list[tuple[np.ndarray, dict[str, Encoded]]]

    def __len__(self) -> int:
        return len(self.captions)

    def one(self, place: int) -> dict[str, Encoded]:
        """By member, what it made of one of the captions."""
        for places, tile in self.tiles:
            if len(at := np.flatnonzero(places == place)):
                return {
                    member: {name: value[at[0] : at[0] + 1] for name, value in encoded.items()}
                    for member, encoded in tile.items()
                }
        raise IndexError(place)

"""Encodes the images and the distinct captions of a workspace, chunk by chunk, into the files of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from itmkit.index.candidates import candidate_vectors
from itmkit.index.rows import RowFormat, RowType
from itmkit.index.store import chunk_folder, new_chunk
from itmkit.inputs.images import ImageInputs
from itmkit.inputs.texts import TextInputs
from itmkit.matchers import Encoded, as_matcher
from itmkit.progress import Progress
from itmkit.trained import Matcher

TILE = 32  # images encoded together
WORDS = 4096  # words of captions encoded together


@dataclass(frozen=True)
class Source:
    """What an index is made of.

    Attributes:
        captions: the distinct captions of the images; texts: their inputs, None where their caches are not there.
    """

    matcher: Matcher
    images: ImageInputs
    captions: list[str]
    texts: TextInputs | None
    progress: Progress

    def layout(self, rows: RowType) -> tuple[RowFormat, int]:
        """The layout of a row, and C."""
        encoded = self._images(np.arange(1))
        return RowFormat.of(encoded, rows), candidate_vectors(encoded, self.matcher.weights).shape[1]

    def regions(self, layout: RowFormat) -> int:
        """R if each row keeps a vector of every region under its number, else 0."""
        nodes = [place.shape[0] for place in layout.places if place.name == "nodes"]
        # A method that chooses some patches of a picture does not keep their numbers.
        whole = all(count == self.images.regions for count in nodes) and not self.matcher.needs.attention
        return self.images.regions if nodes and whole else 0

    def image_keys(self, places: Sequence[int]) -> list[tuple[str, str]]:
        images = (self.images.images[place] for place in places)
        return [(image.id, image.sha256 or "") for image in images]

    def caption_keys(self, places: Sequence[int]) -> list[tuple[str, str]]:
        return [(self.captions[place], "") for place in places]

    def write_images(self, index: Path, number: int, places: Sequence[int], layout: RowFormat, size: int) -> None:
        """Writes a chunk of the images at some places of the inputs. size: C."""
        folder, columns = (
            chunk_folder(index, number),
            {"candidates": (size, "float32"), "rows": (layout.bytes, "uint8")},
        )
        with (
            self.progress.task(f"images: chunk {number + 1}", len(places), unit="images") as advance,
            new_chunk(folder, self.image_keys(places), columns) as append,
        ):
            for start in range(0, len(places), TILE):
                some = np.asarray(places[start : start + TILE])
                encoded = self._images(some)
                append(candidates=candidate_vectors(encoded, self.matcher.weights), rows=layout.pack(encoded))
                advance(len(some))

    def write_captions(self, index: Path, number: int, places: Sequence[int], size: int) -> None:
        """Writes a chunk of the captions at some places. size: C."""
        assert self.texts is not None
        folder, columns = chunk_folder(index, number, "captions"), {"candidates": (size, "float32")}
        with (
            self.progress.task(f"captions: chunk {number + 1}", len(places), unit="captions") as advance,
            new_chunk(folder, self.caption_keys(places), columns) as append,
        ):
            vectors = np.empty((len(places), size), np.float32)
            for some in _of_one_length(self.texts.lengths[np.asarray(places)]):
                vectors[some] = self._texts(self.texts, np.asarray(places)[some])
                advance(len(some))
            append(candidates=vectors)

    def _images(self, places: np.ndarray) -> dict[str, Encoded]:
        batch = self.images.batch(places).to(self.matcher.device)
        with torch.inference_mode():
            return {name: as_matcher(net).encode_images(batch) for name, net in self.matcher.members.items()}

    def _texts(self, texts: TextInputs, places: np.ndarray) -> np.ndarray:
        batch = texts.batch(places).to(self.matcher.device)
        with torch.inference_mode():
            encoded = {name: as_matcher(net).encode_texts(batch) for name, net in self.matcher.members.items()}
        return candidate_vectors(encoded, self.matcher.weights)


def _of_one_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Places of captions of equal length, about `WORDS` words each: no caption is padded, as in search."""
    found = []
    for length in np.unique(lengths).tolist():
        same, size = np.flatnonzero(lengths == length), max(1, WORDS // length)
        found += [same[start : start + size] for start in range(0, len(same), size)]
    return found

"""An index on disk: chunks of images, each a folder that appears whole, and a manifest that names them.

index/manifest.json          what the index was made from, the layout of rows, the chunks in order
index/chunk-00000/ids.json   the images of the chunk: [id, digest of the picture] each
index/chunk-00000/candidates.npy   (n, C) float32, one vector an image
index/chunk-00000/rows.npy         (n, B) uint8, the encoded images (`itmkit.index.rows`)

Rows are addressed by their position over all chunks. Images that were removed, or encoded again since, keep their
place and are listed as dead.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from itmkit.errors import ItmkitError
from itmkit.files import write_json
from itmkit.index.rows import RowFormat
from itmkit.typed import Count, Text, checked, read_checked, read_strict_json

SCHEMA = 1
MANIFEST = "manifest.json"
ADVICE = "run `itmkit index --force`"


@dataclass(frozen=True)
class IndexFacts:
    """The manifest.

    Attributes:
        run: folder of the run, absolute; method: of it.
        made_from: digests of the run's weights, of the caches, and of how the caches were made.
        rows: how numbers are stored; candidates: C.
        chunks: number of images of each, in order; chunk k is the folder chunk-0000k.
        dead: positions that do not count any more.
    """

    run: Text
    method: Text
    made_from: Mapping[str, Text]
    rows: Text
    candidates: Count
    layout: list[dict[str, Any]]
    chunks: list[Count] = field(default_factory=list)
    dead: list[Count] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        write_json(folder / MANIFEST, {"schema": SCHEMA, **vars(self), "made_from": dict(self.made_from)})

    @classmethod
    def read(cls, folder: Path) -> IndexFacts:
        """Raises ItmkitError if there is no index, or if its manifest is damaged."""
        path = folder / MANIFEST
        if not path.is_file():
            raise ItmkitError(f"{folder}: there is no index; run `itmkit index --run NAME` first")
        raw = read_strict_json(path)
        if isinstance(raw, dict) and raw.get("schema") != SCHEMA:
            raise ItmkitError(f"{path}: is another version's; {ADVICE}")
        facts = checked(_FACTS, raw, path, ADVICE)
        try:
            RowFormat.from_json(facts.layout)
            if min(facts.chunks, default=1) < 1 or not all(0 <= k < sum(facts.chunks) for k in facts.dead):
                raise ValueError("positions out of range")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ItmkitError(f"{path}: is damaged ({error}); {ADVICE}") from None
        return facts


_FACTS: TypeAdapter[IndexFacts] = TypeAdapter(IndexFacts)
_IDS: TypeAdapter[list[tuple[str, str]]] = TypeAdapter(list[tuple[Text, Text]])


def chunk_folder(index: Path, number: int) -> Path:
    return index / f"chunk-{number:05d}"


def write_chunk(
    index: Path, number: int, images: Sequence[tuple[str, str]], candidates: np.ndarray, rows: np.ndarray
) -> None:
    """Writes a chunk under a temporary name and renames it; what an interrupted run left of it is replaced."""
    folder = chunk_folder(index, number)
    partial = folder.with_name(f".{folder.name}.partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "candidates.npy", candidates.astype(np.float32), allow_pickle=False)
    np.save(partial / "rows.npy", rows, allow_pickle=False)
    write_json(partial / "ids.json", [list(image) for image in images])
    partial.rename(folder)


class Store:
    """An index opened for reading. Vectors and rows stay on disk, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.facts = folder, IndexFacts.read(folder)
        self.format = RowFormat.from_json(self.facts.layout)
        self.starts = np.concatenate([[0], np.cumsum(self.facts.chunks)]).astype(np.int64)
        self._candidates, self._rows = [], []
        for number, count in enumerate(self.facts.chunks):
            place = chunk_folder(folder, number)
            self._candidates.append(_mapped(place / "candidates.npy", (count, self.facts.candidates), "float32"))
            self._rows.append(_mapped(place / "rows.npy", (count, self.format.bytes), "uint8"))

    def __len__(self) -> int:
        """Positions, dead ones among them."""
        return int(self.starts[-1])

    @cached_property
    def images(self) -> list[tuple[str, str]]:
        """Id and digest of every position."""
        found: list[tuple[str, str]] = []
        for number, count in enumerate(self.facts.chunks):
            path = chunk_folder(self.folder, number) / "ids.json"
            images = read_checked(path, _IDS, ADVICE)
            if len(images) != count:
                raise ItmkitError(f"{path}: names {len(images)} images instead of {count}; {ADVICE}")
            found += images
        return found

    @cached_property
    def ids(self) -> list[str]:
        return [image for image, _ in self.images]

    @cached_property
    def dead(self) -> np.ndarray:
        """(n,) bool"""
        found = np.zeros(len(self), bool)
        found[self.facts.dead] = True
        return found

    def candidates(self) -> list[np.ndarray]:
        """The vectors of each chunk, (n, C) float32 mapped from disk."""
        return self._candidates

    def read(self, positions: np.ndarray) -> np.ndarray:
        """(n, bytes) uint8 rows at some positions, in their order; read in the order of the files."""
        found = np.empty((len(positions), self.format.bytes), np.uint8)
        order = np.argsort(positions, kind="stable")
        chunk = np.searchsorted(self.starts, positions, side="right") - 1
        for place in order.tolist():
            number = int(chunk[place])
            found[place] = self._rows[number][int(positions[place]) - int(self.starts[number])]
        return found

    def without(self, positions: Sequence[int]) -> IndexFacts:
        """The facts with further positions dead."""
        return replace(self.facts, dead=sorted({*self.facts.dead, *positions}))


def _mapped(path: Path, shape: tuple[int, int], dtype: str) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ItmkitError(f"{path}: cannot be read ({error}); run `itmkit index --force`") from None
    if found.shape != shape or found.dtype != dtype:
        raise ItmkitError(f"{path}: holds {found.shape} {found.dtype}, not {shape} {dtype}; run `itmkit index --force`")
    return found  # type: ignore[no-any-return]

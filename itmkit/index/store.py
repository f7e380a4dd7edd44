"""An index on disk: chunks of images and of captions, each a folder that appears whole, and a manifest that names them.

index/manifest.json          what the index was made from, the layout of rows, the chunks in order
index/chunk-00000/ids.json   the images of the chunk: [id, digest of the picture] each
index/chunk-00000/candidates.npy   (n, C) float32, one vector an image
index/chunk-00000/rows.npy         (n, B) uint8, the encoded images (`itmkit.index.rows`)
index/captions-00000/              likewise, without rows: ids.json holds [caption, ""] each
index/images-14.faiss, captions-70.faiss   of `--engine faiss`, named after how many vectors they hold

Rows are addressed by their position over all chunks. Images that were removed, or encoded again since, keep their
place and are listed as dead; so do captions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from itmkit.errors import ItmkitError
from itmkit.files import write_json
from itmkit.index.engines import Engine
from itmkit.index.rows import RowFormat
from itmkit.index.vectors import Vectors, gathered
from itmkit.typed import Text, checked, read_checked, read_strict_json

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
        captions, dead_captions: the same of the distinct captions.
        regions: R where each row holds a vector of every region under its number, else 0.
        dataset: digests of the images and captions that the index was made of.
        engine: what finds candidates; engine_files: of faiss, side -> [name, bytes].
    """

    run: str
    method: str
    made_from: Mapping[str, str]
    rows: str
    candidates: int
    layout: list[dict[str, Any]]
    chunks: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    captions: list[int] = field(default_factory=list)
    dead_captions: list[int] = field(default_factory=list)
    regions: int = 0
    dataset: list[str] = field(default_factory=list)
    engine: Engine = "exact"
    engine_files: Mapping[str, list[Any]] = field(default_factory=dict)

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
            for counts, dead in ((facts.chunks, facts.dead), (facts.captions, facts.dead_captions)):
                if min(counts, default=1) < 1 or not all(0 <= k < sum(counts) for k in dead):
                    raise ValueError("positions out of range")
            for name, size in facts.engine_files.values():
                if Path(name).name != name or not isinstance(size, int):
                    raise ValueError("names of files")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ItmkitError(f"{path}: is damaged ({error}); {ADVICE}") from None
        return facts


_FACTS: TypeAdapter[IndexFacts] = TypeAdapter(IndexFacts)
_IDS: TypeAdapter[list[tuple[str, str]]] = TypeAdapter(list[tuple[Text, Text]])


def chunk_folder(index: Path, number: int, side: str = "chunk") -> Path:
    """side: "chunk" of images, or "captions"."""
    return index / f"{side}-{number:05d}"


@contextmanager
def new_chunk(
    folder: Path, keys: Sequence[tuple[str, str]], columns: Mapping[str, tuple[int, str]]
) -> Iterator[Callable[..., None]]:
    """Writes a chunk under a temporary name and renames it; what an interrupted run left of it is replaced.

    Args:
        keys: id and digest of each image, or each caption and "".
        columns: name -> (numbers of a row, dtype) of each file.

    Yields:
        append(name=rows, ...), which adds some rows to every file.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    with ExitStack() as held:
        files = {name: held.enter_context(open(partial / f"{name}.npy", "wb")) for name in columns}
        for name, (width, dtype) in columns.items():
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (len(keys), width)}
            np.lib.format.write_array_header_1_0(files[name], header)  # type: ignore[no-untyped-call]

        def append(**rows: np.ndarray) -> None:
            for name, values in rows.items():
                files[name].write(np.ascontiguousarray(values, columns[name][1]).data)

        yield append
    write_json(partial / "ids.json", [list(key) for key in keys])
    partial.rename(folder)


class Store:
    """An index opened for reading. Vectors and rows stay on disk, mapped into memory.

    Attributes:
        images_side, captions_side: the candidate vectors of each.
    """

    def __init__(self, folder: Path, facts: IndexFacts | None = None) -> None:
        """facts: instead of those in the manifest, of an index that is being written."""
        self.folder, self.facts = folder, facts or IndexFacts.read(folder)
        self.format = RowFormat.from_json(self.facts.layout)
        self.images_side = self._side("chunk", self.facts.chunks, self.facts.dead)
        self.captions_side = self._side("captions", self.facts.captions, self.facts.dead_captions)
        self.starts, self.dead = self.images_side.starts, self.images_side.dead
        self._rows = [
            _mapped(chunk_folder(folder, number) / "rows.npy", (count, self.format.bytes), "uint8")
            for number, count in enumerate(self.facts.chunks)
        ]

    def _side(self, side: str, counts: Sequence[int], dead: Sequence[int]) -> Vectors:
        shapes = [(count, self.facts.candidates) for count in counts]
        places = [chunk_folder(self.folder, number, side) / "candidates.npy" for number in range(len(counts))]
        chunks = [_mapped(place, shape, "float32") for place, shape in zip(places, shapes, strict=True)]
        is_dead = np.zeros(sum(counts), bool)
        is_dead[list(dead)] = True
        return Vectors(chunks, is_dead)

    def __len__(self) -> int:
        """Positions of images, dead ones among them."""
        return len(self.images_side)

    @cached_property
    def images(self) -> list[tuple[str, str]]:
        """Id and digest of every position."""
        return self._keys("chunk", self.facts.chunks)

    @cached_property
    def ids(self) -> list[str]:
        return [image for image, _ in self.images]

    @cached_property
    def captions(self) -> list[str]:
        """The distinct captions, by position, dead ones among them."""
        return [caption for caption, _ in self._keys("captions", self.facts.captions)]

    def _keys(self, side: str, counts: Sequence[int]) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for number, count in enumerate(counts):
            path = chunk_folder(self.folder, number, side) / "ids.json"
            keys = read_checked(path, _IDS, ADVICE)
            if len(keys) != count:
                raise ItmkitError(f"{path}: names {len(keys)} rows instead of {count}; {ADVICE}")
            found += keys
        return found

    @cached_property
    def positions(self) -> dict[str, int]:
        """Image id -> position, without dead ones."""
        return {image: k for k, image in enumerate(self.ids) if not self.dead[k]}

    def candidates(self) -> Sequence[np.ndarray]:
        """The vectors of each chunk of images, (n, C) float32 mapped from disk."""
        return self.images_side.chunks

    def engine_file(self, side: str) -> Path | None:
        """The file of faiss of "images" or "captions"; None if the side has none. Raises ItmkitError if it is cut."""
        if side not in self.facts.engine_files:
            return None
        name, size = self.facts.engine_files[side]
        path = self.folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise ItmkitError(f"{path}: is missing or has not the size it was written with; run `itmkit index --force`")
        return path

    def rows(self) -> Sequence[np.ndarray]:
        """The rows of each chunk, (n, bytes) uint8, mapped from disk."""
        return self._rows

    def read(self, positions: np.ndarray) -> np.ndarray:
        """(n, bytes) uint8 rows at some positions, in their order; read in the order of the files."""
        return gathered(self._rows, self.starts, positions)


def _mapped(path: Path, shape: tuple[int, int], dtype: str) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ItmkitError(f"{path}: cannot be read ({error}); run `itmkit index --force`") from None
    if found.shape != shape or found.dtype != dtype:
        raise ItmkitError(f"{path}: holds {found.shape} {found.dtype}, not {shape} {dtype}; run `itmkit index --force`")
    return found  # type: ignore[no-any-return]

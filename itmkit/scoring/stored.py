"""Score matrices on disk, read a few rows at a time: those the engine keeps, and the files of `--save-scores`.

A file is HDF5. It has the data sets `scores` (n_images, n_texts) float32, `images` (n_images,) and `captions`
(n_texts,), which hold their ids, and the attributes `made_by`, in words, and `sha256` of all three. Anybody may write
one, without `sha256`, and have it evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from itmkit.cache import CacheReader
from itmkit.cache.shard_check import DAMAGE, naming, unsafe
from itmkit.cache.shard_file import ShardFile
from itmkit.errors import ItmkitError, first_line
from itmkit.files import atomic_path, digest

ROWS = 128  # read at a time
DIGEST = "sha256"  # the attribute of that name; files that others wrote have none
Blocks = Iterator[tuple[int, np.ndarray]]  # (first row, (rows, n_texts))


class Scores(Protocol):
    """A matrix of images x texts that may be too large for memory."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def blocks(self) -> Blocks:
        """All rows in order, some at a time."""
        ...


@dataclass(frozen=True)
class InMemory:
    matrix: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    def blocks(self) -> Blocks:
        for start in range(0, len(self.matrix), ROWS):
            yield start, self.matrix[start : start + ROWS]


class Kept:
    """What `itmkit.scoring.engine.score_to_disk` wrote for one member."""

    def __init__(self, folder: Path) -> None:
        self._cache = CacheReader.open(folder)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._cache), self._cache.columns["scores"].shape[0]

    def blocks(self) -> Blocks:
        for start in range(0, len(self._cache), ROWS):
            yield start, self._cache.read("scores", np.arange(start, min(start + ROWS, len(self._cache))))


@dataclass(frozen=True)
class Mean:
    """The weighted mean of several matrices of one shape."""

    parts: Sequence[Scores]
    weights: Sequence[float]

    @property
    def shape(self) -> tuple[int, int]:
        return self.parts[0].shape

    def blocks(self) -> Blocks:
        for blocks in zip(*(part.blocks() for part in self.parts), strict=True):
            yield blocks[0][0], np.average([rows for _, rows in blocks], axis=0, weights=self.weights)


@dataclass(frozen=True)
class Chosen:
    """Some rows and columns of another matrix, rows in increasing order."""

    whole: Scores
    rows: np.ndarray
    columns: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    def blocks(self) -> Blocks:
        done = 0
        for start, block in self.whole.blocks():
            mine = self.rows[(self.rows >= start) & (self.rows < start + len(block))] - start
            if len(mine):
                yield done, block[mine][:, self.columns]
                done += len(mine)


class ScoreFile:
    """A file of scores. Raises ItmkitError if it is not one, or holds anything but plain data.

    made_by: what it says of its origin, in words; "" where it says nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with h5py.File(path, "r") as file:
                problem = next((p for name in ("scores", "images", "captions") if (p := unsafe(file, name))), None)
                if problem is None and (file["scores"].ndim != 2 or file["scores"].dtype.kind != "f"):
                    problem = "'scores' is no matrix of floating-point numbers"
                if problem is not None:
                    raise ItmkitError(f"{path}: {problem}; it is no file of `itmkit evaluate --save-scores`")
                self.shape: tuple[int, int] = file["scores"].shape
                self.images, self.captions = _strings(file["images"]), _strings(file["captions"])
                written = file.attrs.get(DIGEST)
                self.made_by = str(file.attrs.get("made_by", ""))
        except FileNotFoundError:
            raise ItmkitError(f"{path}: no such file") from None
        except DAMAGE as error:
            raise ItmkitError(
                f"{path}: cannot be read as HDF5 ({first_line(error)}). A file of scores has the data sets scores"
                " (n_images, n_captions) float32, images and captions (the ids, as text); write a matrix of another"
                " program, such as an .npy file, into one with h5py"
            ) from None
        if self.shape != (len(self.images), len(self.captions)):
            raise ItmkitError(
                f"{path}: scores of {self.shape[0]} x {self.shape[1]}, but {len(self.images)} images and"
                f" {len(self.captions)} captions"
            )
        if written is not None and str(written) != self._digest():
            raise ItmkitError(f"{path}: its content is not what was written; save the scores again")

    def _digest(self) -> str:
        state = _begun(self.images, self.captions)
        for _, block in self.blocks():
            state.update(np.ascontiguousarray(block).data)
        return state.hexdigest()

    def blocks(self) -> Blocks:
        with h5py.File(self.path, "r") as file:
            scores = file["scores"]
            for start in range(0, self.shape[0], ROWS):
                with naming(self.path):
                    rows = scores[start : start + ROWS]
                yield start, rows.astype(np.float32, copy=False)

    def places(self, images: Sequence[str], captions: Sequence[str]) -> Chosen:
        """The matrix in the order of a split. Raises ItmkitError where an image or a caption has no score."""
        rows, columns = _places(self.images, images), _places(self.captions, captions)
        for what, names, found in (("image", images, rows), ("caption", captions, columns)):
            if (found < 0).any():
                missing = names[int(np.argmax(found < 0))]
                raise ItmkitError(
                    f"{self.path}: has no scores of {int((found < 0).sum())} of the {what}s of this split, such as"
                    f" {missing!r}; was it made on another split or data set?"
                )
        if (np.diff(rows) < 0).any():
            raise ItmkitError(f"{self.path}: its images are not in the order of the data set; write them in that order")
        return Chosen(self, rows, columns)


def save_scores(path: Path, scores: Scores, images: Sequence[str], captions: Sequence[str], made_by: str) -> None:
    """Writes a file of scores row by row, at first under a temporary name."""
    state = _begun(images, captions)
    with atomic_path(path) as partial, ShardFile(partial) as sink:
        with h5py.File(sink, "w") as file:
            out = file.create_dataset("scores", scores.shape, np.float32, chunks=(1, scores.shape[1]))
            for start, block in scores.blocks():
                block = np.ascontiguousarray(block, np.float32)
                out[start : start + len(block)] = block
                state.update(block.data)
                sink.check()
            text = h5py.string_dtype("utf-8")
            file.create_dataset("images", data=np.array(list(images), object), dtype=text)
            file.create_dataset("captions", data=np.array(list(captions), object), dtype=text)
            file.attrs["made_by"] = made_by
            file.attrs[DIGEST] = state.hexdigest()
        sink.check()


def _begun(images: Sequence[str], captions: Sequence[str]) -> hashlib._Hash:
    """The digest of a file of scores, as far as its ids go."""
    return hashlib.sha256(digest([list(images), list(captions)]).encode())


def holds_scores(path: Path) -> bool:
    """Whether a file is one of scores."""
    try:
        ScoreFile(path)
    except (ItmkitError, OSError):
        return False
    return True


def _strings(data: h5py.Dataset) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in data[()]]


def _places(have: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    place = {name: number for number, name in enumerate(have)}
    return np.array([place.get(name, -1) for name in wanted], np.int64)

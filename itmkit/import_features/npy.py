"""Reads rows of a .npy file by plain reads at offsets, so that only the rows asked for take memory.

A memory map would do as well, except that the pages it touches count as memory of the process until the kernel
takes them back, so a limit on memory (a container, a batch system) may end an import that needs none of them.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from itmkit.errors import ItmkitError

_BLOCK_BYTES = 16 << 20
# What a pickle of Python 2 in text begins with: an array, a dict, a list, an object.
_TEXT_PICKLES = (b"cnumpy.core", b"cnumpy._core", b"(dp", b"(lp", b"ccopy_reg")
PICKLED = "is a Python pickle, which is never read (it could run any program); save a plain array with numpy.save"
OBJECTS = "; objects are pickles, which are never read: save numpy.stack(list(array)).astype(numpy.float32)"


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a Python pickle, of Python 3 or 2."""
    return (head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5" and len(head) > 1) or head.startswith(_TEXT_PICKLES)


def read_header(file: IO[bytes], label: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether it is stored column by column, dtype); `file` is left at the first byte of the data.

    Raises:
        ItmkitError: not a .npy file, or Python objects or records, which only unpickling could read.
    """
    begin = file.tell()
    if is_pickle(file.read(16)):
        raise ItmkitError(f"{label}: {PICKLED}")
    file.seek(begin)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about arrays that Python 2 saved; they are read all the same
            version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
            elif version == (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)  # type: ignore[no-untyped-call]
            else:
                raise ValueError(f"format version {version}")
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, RecursionError) as error:
        raise ItmkitError(f"{label}: not an array file that numpy.save wrote ({error})") from None
    if dtype.hasobject or dtype.fields is not None:
        raise ItmkitError(f"{label}: holds Python objects or records ({dtype}), a plain array is needed{OBJECTS}")
    return tuple(int(n) for n in shape), bool(fortran), dtype


class NpyRows:
    """An array file (N, ...) that is read a few rows at a time. Never unpickles anything."""

    def __init__(self, path: Path, *, step: int = 1) -> None:
        """Reads the header only.

        Args:
            step: only every step-th row counts, as if the file had no others.

        Raises:
            ItmkitError: the file is not a .npy file, has object or structured contents or column-major order, or does
                not have the size its header says (a truncated download).
        """
        self.path = path
        with open(path, "rb") as file:
            shape, fortran, dtype = read_header(file, str(path))
            self._start = file.tell()
            size = os.fstat(file.fileno()).st_size
        if not shape:
            raise ItmkitError(f"{path}: holds a single number, an array with one row a picture is needed")
        if fortran and len(shape) > 1:
            raise ItmkitError(
                f"{path}: is stored column by column; save it with numpy.save(path, numpy.ascontiguousarray(array))"
            )
        self._step = step
        self._stored = dtype
        self.dtype = dtype.newbyteorder("=")
        self._row_items = int(np.prod(shape[1:], dtype=np.int64))
        expected = self._start + shape[0] * self._row_items * dtype.itemsize
        if size != expected:
            raise ItmkitError(
                f"{path}: has {size:,} bytes, its header says {expected:,}; the file is incomplete or damaged"
            )
        self.shape = (shape[0] // step, *shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def rows_per_block(self) -> int:
        """How many rows make a block of about 16 MiB."""
        return max(1, _BLOCK_BYTES // max(1, self._step * self._row_items * self.dtype.itemsize))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop-1: (stop - start, ...) in the file's dtype, in the byte order of this machine."""
        rows = (stop - start) * self._step
        count = rows * self._row_items
        with open(self.path, "rb") as file:
            file.seek(self._start + start * self._step * self._row_items * self.dtype.itemsize)
            flat = np.fromfile(file, dtype=self._stored, count=count)
        if len(flat) != count:
            raise ItmkitError(f"{self.path}: rows {start} to {stop - 1} cannot be read; the file was cut short")
        native = flat.astype(self.dtype, copy=False)
        return native.reshape(rows, *self.shape[1:])[:: self._step]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), ...) for ascending row numbers; neighbouring rows are read together."""
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        return np.concatenate([self.read(int(run[0]), int(run[-1]) + 1) for run in np.split(rows, breaks)])

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows) of each block of the file, in order."""
        for start in range(0, len(self), self.rows_per_block):
            yield start, self.read(start, min(len(self), start + self.rows_per_block))

    def header_digest(self) -> hashlib._Hash:
        """A sha256 state that has taken in the header; feed it the blocks to get the digest of the whole file."""
        with open(self.path, "rb") as file:
            return hashlib.sha256(file.read(self._start))

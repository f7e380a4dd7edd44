"""Reads rows of a shard at their place in the file, past HDF5.

Our shards hold row columns in chunks without filters, so a row is a plain stretch of bytes. HDF5 tells where the
chunks lie, once per file. After that a row is one `pread`. HDF5 itself would cost 10 to 20 microseconds
per call, read whole chunks of small columns, and let in only one thread at a time. (Copies from a memory map are faster
in one thread, but everything ever read would count as memory of the process.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from itmkit.errors import ItmkitError

UNKNOWN, ONLY_HDF5 = -2, -1


@dataclass(frozen=True)
class StoredRows:
    """Where the rows of one column of one shard lie.

    Attributes:
        handle: the file descriptor HDF5 reads the file with, so that offsets and bytes are of the same file.
        chunk_rows: rows of a chunk. chunk_offsets: (chunks,) int64, place of each in the file, in bytes.
        row_bytes: bytes of a row.
    """

    path: Path
    handle: int
    chunk_rows: int
    chunk_offsets: np.ndarray
    row_bytes: int

    @classmethod
    def of(cls, path: Path, data: h5py.Dataset) -> StoredRows | None:
        """None if rows cannot be read past HDF5: filters, another byte order, chunks that cut rows or are missing.

        Args:
            data: an open data set of `path` that has been checked to keep its data in this file.
        """
        if data.chunks is None or data.chunks[1:] != data.shape[1:] or data.dtype.hasobject or not data.dtype.isnative:
            return None
        plist = data.id.get_create_plist()
        if plist.get_nfilters() or plist.get_layout() != h5py.h5d.CHUNKED or data.file.userblock_size:
            return None
        row_bytes = int(np.prod(data.shape[1:], dtype=np.int64)) * data.dtype.itemsize
        rows, chunks = int(data.chunks[0]), -(-len(data) // int(data.chunks[0]))
        offsets = np.full(chunks, -1, np.int64)
        handle = int(data.file.id.get_vfd_handle())
        size = os.fstat(handle).st_size
        fits = True

        def place(chunk: h5py.h5d.StoreInfo) -> None:
            nonlocal fits
            inside = chunk.size == rows * row_bytes and 0 < chunk.byte_offset <= size - chunk.size
            fits &= inside and chunk.filter_mask == 0
            offsets[chunk.chunk_offset[0] // rows] = chunk.byte_offset

        if chunks:
            data.id.chunk_iter(place)
        if not (fits and chunks and (offsets >= 0).all()):
            return None
        return cls(path, handle, rows, offsets, row_bytes)

    def offsets(self, count: int) -> np.ndarray:
        """(count,) int64 places in the file of the first rows, in bytes."""
        within = np.arange(self.chunk_rows) * self.row_bytes
        return (self.chunk_offsets[:, None] + within).reshape(-1)[:count]  # type: ignore[no-any-return]


class StoredColumn:
    """One column of a cache: where each row lies, as far as its shards were looked at."""

    def __init__(self, rows: int, row_bytes: int) -> None:
        """rows: of the whole cache; row_bytes: of each."""
        self._row_bytes = row_bytes
        self._handle = np.full(rows, UNKNOWN, np.int64)
        self._at = np.zeros(rows, np.int64)
        self._paths: dict[int, Path] = {}

    def add(self, stored: StoredRows | None, first: int, count: int) -> None:
        """The rows `first` to `first + count` lie in this shard; None: only HDF5 can read them."""
        rows = slice(first, first + count)
        if stored is None:
            self._handle[rows] = ONLY_HDF5
            return
        self._at[rows], self._handle[rows] = stored.offsets(count), stored.handle
        self._paths[stored.handle] = stored.path

    def handles(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) int64 descriptors of the files the rows lie in, UNKNOWN or ONLY_HDF5."""
        return self._handle[rows]

    def read_into(self, out: memoryview, rows: np.ndarray) -> None:
        """Reads rows into `out`, len(rows) * row_bytes bytes. Several threads may call it at once without waiting.

        Raises:
            ItmkitError: a file was cut short since it was opened.
        """
        handles, at, size = self._handle[rows], self._at[rows], self._row_bytes
        # Rows that follow each other in a file are one read.
        begins = np.flatnonzero(np.append(True, (np.diff(at) != size) | (np.diff(handles) != 0)))
        ends = np.append(begins[1:], len(rows)) * size
        on_disk: list[tuple[int, memoryview, int]] = []
        for handle, begin, end, offset in zip(
            handles[begins].tolist(), (begins * size).tolist(), ends.tolist(), at[begins].tolist(), strict=True
        ):
            got = _from_page_cache(handle, out[begin:end], offset)
            if got < end - begin:
                on_disk.append((handle, out[begin + got : end], offset + got))
        for handle, left, offset in on_disk:  # the disk gets all of them to do before anybody waits for one
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle, offset, len(left), os.POSIX_FADV_WILLNEED)
        for handle, left, offset in on_disk:
            while left:
                got = os.preadv(handle, [left], offset)
                if got == 0:
                    raise ItmkitError(f"{self._paths[handle]}: has become shorter since it was opened; restore it")
                left, offset = left[got:], offset + got


def _from_page_cache(handle: int, out: memoryview, offset: int) -> int:
    """Reads what is available without waiting for a disk, and returns the number of bytes."""
    if not hasattr(os, "RWF_NOWAIT"):
        return 0
    try:
        return os.preadv(handle, [out], offset, os.RWF_NOWAIT)
    except OSError:  # nothing of it, or a file system that cannot tell
        return 0

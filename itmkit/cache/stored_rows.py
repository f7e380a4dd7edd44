"""Reads rows of a shard at their place in the file, past HDF5.

Our shards hold row columns in chunks without filters, so a row is a plain stretch of bytes. HDF5 tells where the
chunks lie, once per file. After that a row is one `pread`. HDF5 itself would cost 10 to 20 microseconds
per call, read whole chunks of small columns, and let in only one thread at a time. (Copies from a memory map are faster
in one thread, but everything ever read would count as memory of the process.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import h5py
import numpy as np

from itmkit.cache.open_shards import OpenShards
from itmkit.errors import ItmkitError

UNKNOWN, ONLY_HDF5 = -2, -1


@dataclass(frozen=True)
class StoredRows:
    """Where the rows of one column of one shard lie.

    Attributes:
        chunk_rows: rows of a chunk. chunk_offsets: (chunks,) int64, place of each in the file, in bytes.
        row_bytes: bytes of a row.
    """

    chunk_rows: int
    chunk_offsets: np.ndarray
    row_bytes: int

    @classmethod
    def of(cls, data: h5py.Dataset) -> StoredRows | None:
        """None if rows cannot be read past HDF5: filters, another byte order, chunks that cut rows or are missing.

        Args:
            data: an open data set that has been checked to keep its data in its own file.
        """
        if data.chunks is None or data.chunks[1:] != data.shape[1:] or data.dtype.hasobject or not data.dtype.isnative:
            return None
        plist = data.id.get_create_plist()
        if plist.get_nfilters() or plist.get_layout() != h5py.h5d.CHUNKED or data.file.userblock_size:
            return None
        row_bytes = int(np.prod(data.shape[1:], dtype=np.int64)) * data.dtype.itemsize
        rows, chunks = int(data.chunks[0]), -(-len(data) // int(data.chunks[0]))
        offsets = np.full(chunks, -1, np.int64)
        size = os.fstat(int(data.file.id.get_vfd_handle())).st_size
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
        return cls(rows, offsets, row_bytes)

    def offsets(self, count: int) -> np.ndarray:
        """(count,) int64 places in the file of the first rows, in bytes."""
        within = np.arange(self.chunk_rows) * self.row_bytes
        return (self.chunk_offsets[:, None] + within).reshape(-1)[:count]  # type: ignore[no-any-return]


class StoredColumn:
    """One column of a cache: where each row lies in its shard, as far as the shards were looked at."""

    def __init__(self, rows: int, row_bytes: int) -> None:
        """rows: of the whole cache; row_bytes: of each."""
        self._row_bytes = row_bytes
        self._at = np.full(rows, UNKNOWN, np.int64)

    def add(self, stored: StoredRows | None, first: int, count: int) -> None:
        """The rows `first` to `first + count` are those of this shard; None: only HDF5 can read them."""
        self._at[first : first + count] = ONLY_HDF5 if stored is None else stored.offsets(count)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) int64 places in the files of their shards, in bytes, or UNKNOWN or ONLY_HDF5."""
        return self._at[rows]

    def read_into(self, out: memoryview, rows: np.ndarray, shards: np.ndarray, open_shards: OpenShards) -> None:
        """Reads rows into `out`, len(rows) * row_bytes bytes. Several threads may call it at once without waiting.

        Args:
            shards: (len(rows),) the shard of each row.

        Raises:
            ItmkitError: a file was cut short or replaced since it was first opened.
        """
        at, size = self._at[rows], self._row_bytes
        # Rows that follow each other in a file are one read.
        begins = np.flatnonzero(np.append(True, (np.diff(at) != size) | (np.diff(shards) != 0)))
        ends = np.append(begins[1:], len(rows)) * size
        on_disk: list[tuple[int, memoryview, int]] = []
        for shard, begin, end, offset in zip(
            shards[begins].tolist(), (begins * size).tolist(), ends.tolist(), at[begins].tolist(), strict=True
        ):
            file = open_shards.descriptor(shard)
            got = _from_page_cache(file.number, out[begin:end], offset)
            if got < end - begin:
                on_disk.append((shard, out[begin + got : end], offset + got))
                if hasattr(os, "posix_fadvise"):  # the disk gets all of them to do before anybody waits for one
                    os.posix_fadvise(file.number, offset + got, end - begin - got, os.POSIX_FADV_WILLNEED)
        for shard, left, offset in on_disk:
            file = open_shards.descriptor(shard)
            while left:
                got = os.preadv(file.number, [left], offset)
                if got == 0:
                    path = open_shards.path(shard)
                    raise ItmkitError(f"{path}: has become shorter since it was opened; restore it")
                left, offset = left[got:], offset + got


def _from_page_cache(handle: int, out: memoryview, offset: int) -> int:
    """Reads what is available without waiting for a disk, and returns the number of bytes."""
    if not hasattr(os, "RWF_NOWAIT"):
        return 0
    try:
        return os.preadv(handle, [out], offset, os.RWF_NOWAIT)
    except OSError:  # nothing of it, or a file system that cannot tell
        return 0

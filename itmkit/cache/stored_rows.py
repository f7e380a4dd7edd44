"""Reads rows of a shard at their place in the file, past HDF5.

Our shards hold row columns in chunks without filters, so a row is a plain stretch of bytes. HDF5 tells where the
chunks lie, once per file; after that a row costs one `pread`, where HDF5 costs 10 to 20 microseconds a call, reads
whole chunks of small columns, and lets one thread in at a time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from itmkit.errors import ItmkitError


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
        """None where rows cannot be read past HDF5: filters, another byte order, chunks that cut rows or are missing.

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
        return cls(path, handle, rows, offsets, row_bytes) if fits and (offsets >= 0).all() else None

    def read_into(self, out: memoryview, row: int, length: int) -> None:
        """Reads rows row .. row + length - 1 into `out` (bytes). Safe in several threads at once."""
        done = 0
        while length:
            chunk, within = divmod(row, self.chunk_rows)
            count = min(length, self.chunk_rows - within)
            at, wanted = int(self.chunk_offsets[chunk]) + within * self.row_bytes, count * self.row_bytes
            while wanted:
                got = os.preadv(self.handle, [out[done : done + wanted]], at)
                if got == 0:
                    raise ItmkitError(f"{self.path}: has become shorter since it was opened; restore it")
                done, at, wanted = done + got, at + got, wanted - got
            row, length = row + count, length - count

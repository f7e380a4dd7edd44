"""Reads rows of a shard at their place in the file, past HDF5.

Our shards hold row columns in chunks without filters, so a row is a plain stretch of bytes. HDF5 tells where the
chunks lie, once per file; after that a row is one copy out of a memory map, where HDF5 costs 10 to 20 microseconds a
call, reads whole chunks of small columns, and lets one thread in at a time.
"""

from __future__ import annotations

import mmap
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
        data: the whole file, (size,) uint8, mapped.
        chunk_rows: rows of a chunk. chunk_offsets: (chunks,) int64, place of each in the file, in bytes.
        row_bytes: bytes of a row.
    """

    path: Path
    handle: int
    data: np.ndarray
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
        if not (fits and chunks and (offsets >= 0).all()):
            return None
        mapped = np.frombuffer(mmap.mmap(handle, size, access=mmap.ACCESS_READ), np.uint8)
        return cls(path, handle, mapped, rows, offsets, row_bytes)

    def gather(self, out: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
        """Copies row rows[i] to place places[i] of `out`, the flat bytes (uint8) of rows. Safe in several threads.

        Raises:
            ItmkitError: the file was cut short since it was opened; reading on would end the process.
        """
        if os.fstat(self.handle).st_size < len(self.data):
            raise ItmkitError(f"{self.path}: has become shorter since it was opened; restore it")
        size = self.row_bytes
        offsets = self.chunk_offsets[rows // self.chunk_rows] + rows % self.chunk_rows * size
        # Rows that follow each other in the file and in `out` are one copy.
        begins = np.flatnonzero(np.append(True, (np.diff(offsets) != size) | (np.diff(places) != 1)))
        counts = np.diff(np.append(begins, len(rows)))
        data = self.data
        for place, at, count in zip(
            (places[begins] * size).tolist(), offsets[begins].tolist(), (counts * size).tolist(), strict=True
        ):
            out[place : place + count] = data[at : at + count]

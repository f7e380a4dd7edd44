"""The file HDF5 writes a shard to.

HDF5 does not survive a failed write: on a full disk it prints pages of traces, cannot close its file, and ends the
process with a segmentation fault. So it never sees a failure. The first error is kept here for the writer to raise, and
whatever HDF5 still writes until its file is closed is dropped.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType


class ShardFile:
    """A file object for h5py that remembers the first error instead of raising it."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115  (closed by __exit__)
        self._path = path
        self._place = 0
        self._size = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises what went wrong so far, naming the file."""
        if self._error is not None:
            error = self._error
            raise OSError(error.errno, error.strerror or str(error), str(self._path)) from error

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    # What h5py calls.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            if self._error is None:
                self._file.seek(self._place)
                while len(view):
                    view = view[self._file.write(view) or 0 :]
        except OSError as error:
            self._error = error
        self._place += size
        self._size = max(self._size, self._place)
        return size

    def read(self, size: int) -> bytes:  # h5py takes an object for a file only if it has this
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        view = memoryview(buffer).cast("B")
        size, done = len(view), 0
        try:
            self._file.seek(self._place)
            while done < size and (count := self._file.readinto(view[done:])):
                done += count
        except OSError as error:
            self._error = self._error or error
        view[done:] = bytes(size - done)  # what was dropped, or never written, reads as zeros
        self._place += size
        return size

    def truncate(self, size: int) -> int:
        try:
            if self._error is None:
                self._file.truncate(size)
        except OSError as error:
            self._error = error
        self._size = size
        return size

    def flush(self) -> None:
        pass

"""The shards of a cache that are open: a few of them, the ones used last.

A cache of a million images has more shards than a process may have open files. A shard is opened again when it is
needed again, and only if it is still the same file: places of rows found in one file say nothing about another.
"""

from __future__ import annotations

import os
import resource
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from itmkit.cache.manifest import Column, Manifest
from itmkit.cache.shard_check import DAMAGE, check_shard_file, too_many_open, unsafe
from itmkit.errors import ItmkitError

Opened = TypeVar("Opened")

MOST = 64  # open shards of a cache


def most_open() -> int:
    """How many shards of a cache may be open at once. A command reads up to a dozen caches, each in two ways."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if allowed == resource.RLIM_INFINITY else max(1, min(MOST, allowed // 32))


class Descriptor:
    """A file open for reading. It is closed when nobody refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class OpenShards:
    """Opens the shards of one cache, each checked before HDF5 reads from it.

    Several threads may ask at once. A file that is given up here stays open for those who still refer to it. A forked
    process opens its own.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._most = most_open()
        self._known: dict[int, tuple[int, int]] = {}  # shard -> device and inode of its file when it was first opened
        self._checked: dict[int, tuple[int, int]] = {}  # shard -> size and time of its file when it was checked
        self._begin()

    def _begin(self) -> None:
        self._files: OrderedDict[int, h5py.File] = OrderedDict()
        self._descriptors: OrderedDict[int, Descriptor] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def path(self, shard: int) -> Path:
        return self._folder / self._manifest.shards[shard]["file"]

    def file(self, shard: int) -> h5py.File:
        """The shard for HDF5. Keep the file itself while you read from its data sets, not only a data set.

        Raises:
            ItmkitError: the file is missing, damaged, not the one opened first, or one too many is open.
        """
        self._drop_after_fork()
        with self._lock:
            if shard not in self._files:
                self._files[shard] = self._open(shard)
            return _used_last(self._files, shard, self._most)

    def descriptor(self, shard: int) -> Descriptor:
        """The shard for reading bytes at places that `file` told."""
        self._drop_after_fork()
        with self._lock:
            if shard not in self._descriptors:
                path = self.path(shard)
                try:
                    opened = Descriptor(path)
                except FileNotFoundError:
                    raise ItmkitError(f"{path}: missing; restore it, or rerun the stage with --force") from None
                except OSError as error:
                    raise too_many_open(path, error) or error from None
                self._check_same(shard, opened.number)
                self._descriptors[shard] = opened
            return _used_last(self._descriptors, shard, self._most)

    def _drop_after_fork(self) -> None:
        """A fork has the handles of its parent, and the lock as another thread may have held it."""
        if self._process != os.getpid():
            self._begin()

    def _check_same(self, shard: int, handle: int) -> None:
        found = os.fstat(handle)
        if self._known.setdefault(shard, (found.st_dev, found.st_ino)) != (found.st_dev, found.st_ino):
            raise ItmkitError(f"{self.path(shard)}: was replaced while it was read; run the command again")

    def _open(self, shard: int) -> h5py.File:
        path = self.path(shard)
        check_shard_file(self._folder, self._manifest.shards[shard])
        try:
            file = h5py.File(path, "r", locking=False)
        except OSError as error:
            if (too_many := too_many_open(path, error)) is not None:
                raise too_many from None
            raise ItmkitError(f"{path}: cannot be read as HDF5 ({error}); rerun the stage with --force") from None
        handle = int(file.id.get_vfd_handle())
        self._check_same(shard, handle)
        state = os.fstat(handle)
        if self._checked.get(shard) == (state.st_size, state.st_mtime_ns):
            return file
        try:
            problem = self._problem(file, int(self._manifest.shards[shard]["count"]))
        except DAMAGE as error:
            problem = f"is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        if problem is not None:
            file.close()
            raise ItmkitError(f"{path}: {problem}; refused. Restore it or rerun the stage with --force")
        self._checked[shard] = (state.st_size, state.st_mtime_ns)
        return file

    def _problem(self, file: h5py.File, count: int) -> str | None:
        """What is wrong with the data sets of a shard, before any of their data is read."""
        columns = self._manifest.columns
        groups = sorted({c.group for c in columns.values() if c.kind == "ragged"})
        expected = dict(columns) | {f"{group}.offsets": Column("int64") for group in groups}
        for name in ["ids", *expected]:
            if (problem := unsafe(file, name)) is not None:
                return problem
            data, spec = file[name], expected.get(name)
            rows = count + 1 if name.endswith(".offsets") else count
            fits = (
                data.shape[1:] == spec.shape and data.dtype == np.dtype(spec.dtype) if spec else data.dtype.kind == "S"
            )
            if not fits or data.ndim < 1 or (len(data) != rows and not (spec and spec.kind == "ragged")):
                return f"{name!r} has shape {data.shape} and type {data.dtype}, not what the manifest says"
        return None


def _used_last(opened: OrderedDict[int, Opened], shard: int, most: int) -> Opened:
    """Moves `shard` to the end and gives up those used longest ago."""
    opened.move_to_end(shard)
    while len(opened) > most:
        opened.popitem(last=False)
    return opened[shard]

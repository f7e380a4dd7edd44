"""Reads any cache: rows by id, in any order, without loading a shard.

Files are opened lazily per process, a few at a time (`itmkit.cache.open_shards`): a forked or pickled reader opens its
own handles. Every data set is checked before its first byte is read. Rows are read at their place in the file
(`itmkit.cache.stored_rows`), or with `read_direct` if a filter forbids that. Fancy indexing of a chunked HDF5 data set
would be 18 to 35 times slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from itmkit.cache.manifest import NAME, Column, Manifest, read_manifest
from itmkit.cache.open_shards import OpenShards
from itmkit.cache.shard_check import naming
from itmkit.cache.stored_rows import UNKNOWN, StoredColumn, StoredRows
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file


class CacheReader:
    """A complete cache. Rows are numbered 0..n-1 over all shards, in the order they were written."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        counts = [int(shard["count"]) for shard in manifest.shards]
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._begin()

    def _begin(self) -> None:
        self._shards = OpenShards(self.folder, self.manifest)
        self._stored: dict[str, StoredColumn] = {}

    @classmethod
    def open(cls, folder: Path, *, stage: str | None = None) -> CacheReader:
        """Opens the cache in `folder`.

        Args:
            stage: the command that makes the cache, which the error names if the cache is missing or unfinished.
        """
        manifest = read_manifest(folder)
        made_by = stage or (manifest.made_by.stage if manifest else None)
        command = f"`itmkit {made_by}`" if made_by else "the stage that makes it"
        if manifest is None:
            raise ItmkitError(f"{folder}: there is no cache here; run {command} first")
        if not manifest.complete:
            done = f"{manifest.count + len(manifest.skipped)} of {manifest.planned} rows"
            raise ItmkitError(f"{folder}: this cache is unfinished ({done}); run {command} again to continue it")
        if manifest.altered:
            raise ItmkitError(f"{folder / NAME}: {manifest.altered}; restore it, or run {command} with --force")
        return cls(folder, manifest)

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_shards", "_stored")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    @property
    def columns(self) -> Mapping[str, Column]:
        return self.manifest.columns

    @property
    def tables(self) -> Mapping[str, list[str]]:
        return self.manifest.tables

    @property
    def ids(self) -> list[str]:
        """The id of every row, in row order."""
        return [key.decode() for key in self._keys]

    @cached_property
    def _keys(self) -> np.ndarray:
        """(n,) bytes, in row order. For a million rows, an array needs a fraction of the memory of a dict."""
        shards: list[np.ndarray] = [np.empty(0, np.bytes_)]
        for shard in range(len(self.manifest.shards)):
            with self._dataset(shard, "ids") as data:
                shards.append(data[:])
        return np.concatenate(shards)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids in alphabetical order, and the row of each."""
        order = np.argsort(self._keys, kind="stable")
        return self._keys[order], order

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """(len(ids),) int64 row numbers, -1 for an id without a row."""
        wanted = np.array([key.encode("utf-8", "surrogatepass") for key in ids], np.bytes_)
        if not len(self):
            return np.full(len(wanted), -1, np.int64)
        keys, rows = self._sorted
        place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[place] == wanted, rows[place], -1)

    def __contains__(self, key: str) -> bool:
        return bool(self.find([key])[0] >= 0)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """(len(ids),) int64 row numbers. Raises ItmkitError naming ids that have no row."""
        found = self.find(ids)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            some = ", ".join(ids[place] for place in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise ItmkitError(f"{self.folder}: no row for {len(missing)} of {len(ids)} ids ({some})")
        return found

    def empty(self, column: str, rows: int) -> np.ndarray:
        """(rows, *shape) in the column's dtype, to `read` into."""
        spec = self.columns[column]
        return np.empty((rows, *spec.shape), dtype=spec.dtype)

    def read(self, column: str, rows: np.ndarray | Sequence[int], *, out: np.ndarray | None = None) -> np.ndarray:
        """(len(rows), *shape) in the column's dtype, for any order of rows, repeats allowed.

        Args:
            out: an `empty` array of this size that becomes the result.
        """
        spec, rows = self.columns[column], np.asarray(rows, dtype=np.int64)
        out = self.empty(column, len(rows)) if out is None else out
        if len(rows) == 0:
            return out
        stored, places = self._located(column, rows)
        if (places >= 0).all():
            bytes_of = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
            stored.read_into(bytes_of, rows, self._shards_of(rows), self._shards)
            return out
        by_hdf5 = np.flatnonzero(places < 0)
        if len(by_hdf5) < len(rows):
            others = np.flatnonzero(places >= 0)
            out[others] = self.read(column, rows[others])
        for shard, place, start, length in self._runs(rows[by_hdf5]):
            values = np.empty((length, *spec.shape), spec.dtype)
            with self._dataset(shard, column) as data:
                data.read_direct(values, np.s_[start : start + length])
            out[by_hdf5[place : place + length]] = values
        return out

    def prepare(self, columns: Sequence[str]) -> None:
        """Finds all rows of these columns in their files, so that several threads may `read` them at once."""
        if len(self):
            for name in columns:
                self._located(name, np.minimum(self._first[:-1], len(self) - 1))

    def read_all(self, column: str) -> np.ndarray:
        """(n, *shape): a whole row column. For small columns (boxes, tags), not for features."""
        return self.read(column, np.arange(len(self)))

    def lengths(self, group: str = "tokens") -> np.ndarray:
        """(n,) int64: how many entries each row has in a ragged group."""
        parts = [np.diff(self._offsets(shard, group)) for shard in range(len(self.manifest.shards))]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def read_ragged(
        self, columns: Sequence[str], rows: np.ndarray | Sequence[int]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Flat arrays of ragged columns of one group for the given rows, in their order.

        Returns:
            ({column: (total, *shape)}, offsets (len(rows) + 1,) int64): row i is `flat[offsets[i]:offsets[i + 1]]`.
        """
        rows = np.asarray(rows, dtype=np.int64)
        groups = {self.columns[name].group for name in columns}
        if len(groups) != 1:
            raise ValueError(f"columns {list(columns)} belong to several groups {sorted(groups)}")
        group = groups.pop()
        sizes = np.empty(len(rows), np.int64)
        runs = sorted(self._runs(rows))  # shard by shard, so that each is opened once
        for shard, place, start, length in runs:
            sizes[place : place + length] = np.diff(self._offsets(shard, group)[start : start + length + 1])
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        flat: dict[str, np.ndarray] = {}
        for name in columns:
            spec = self.columns[name]
            flat[name] = np.empty((int(offsets[-1]), *spec.shape), dtype=spec.dtype)
        for shard, place, start, length in runs:
            bounds = self._offsets(shard, group)
            source = np.s_[int(bounds[start]) : int(bounds[start + length])]
            target = np.s_[int(offsets[place]) : int(offsets[place + length])]
            if source.stop > source.start:
                for name, out in flat.items():
                    with self._dataset(shard, name) as data:
                        data.read_direct(out, source, target)
        return flat, offsets

    def verify(self) -> list[str]:
        """Compares tables, columns and every shard with the manifest's sha256; returns what is wrong, in words."""
        altered = self.manifest.altered
        problems = [f"{self.folder / NAME}: {altered}; restore it or rerun the stage with --force"] if altered else []
        for shard in self.manifest.shards:
            path = self.folder / shard["file"]
            if not path.exists():
                problems.append(f"{path}: missing")
            elif sha256_file(path) != shard["sha256"]:
                problems.append(
                    f"{path}: its content is not what was written; restore it or rerun the stage with --force"
                )
        return problems

    def _check_range(self, rows: np.ndarray) -> None:
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(f"row {int(rows.max())} of a cache of {len(self)} rows")

    def _runs(self, rows: np.ndarray) -> list[tuple[int, int, int, int]]:
        """Splits rows into runs of consecutive rows of one shard: (shard, place in `rows`, first row, length)."""
        if len(rows) == 0:
            return []
        self._check_range(rows)
        shards = self._shards_of(rows)
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(shards) != 0)) + 1
        starts = np.concatenate([[0], breaks])
        lengths = np.diff(np.concatenate([starts, [len(rows)]]))
        local = rows - self._first[shards]
        return [(int(shards[s]), int(s), int(local[s]), int(n)) for s, n in zip(starts, lengths, strict=True)]

    def _offsets(self, shard: int, group: str) -> np.ndarray:
        key = (shard, group)
        if key not in self._cached_offsets:
            with self._dataset(shard, f"{group}.offsets") as data:
                found = data[:]
                columns = [name for name, c in self.columns.items() if c.kind == "ragged" and c.group == group]
                lengths = {len(data.parent[name]) for name in columns}
            if found[0] != 0 or (np.diff(found) < 0).any() or lengths != {int(found[-1])}:
                raise ItmkitError(
                    f"{self._shards.path(shard)}: the offsets of {group!r} do not fit its columns; the file is damaged"
                )
            self._cached_offsets[key] = found
        return self._cached_offsets[key]

    @cached_property
    def _cached_offsets(self) -> dict[tuple[int, str], np.ndarray]:
        return {}

    def _located(self, name: str, rows: np.ndarray) -> tuple[StoredColumn, np.ndarray]:
        """A column, and the `places` of some of its rows. Shards that have not been looked at yet are."""
        self._check_range(rows)
        places = self._stored_column(name).places(rows)
        if (places == UNKNOWN).any():
            for shard in np.unique(self._shards_of(rows[places == UNKNOWN])).tolist():
                self._look_into(shard)
            places = self._stored_column(name).places(rows)
        return self._stored_column(name), places

    def _look_into(self, shard: int) -> None:
        """Finds the rows of all columns at once, since the shard may be closed before the next column is asked for."""
        first, count = int(self._first[shard]), int(self.manifest.shards[shard]["count"])
        for name, column in self.columns.items():
            if column.kind == "row":
                with self._dataset(shard, name) as data:
                    found = StoredRows.of(data)
                self._stored_column(name).add(found, first, count)

    def _stored_column(self, name: str) -> StoredColumn:
        if name not in self._stored:
            spec = self.columns[name]
            size = int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
            self._stored[name] = StoredColumn(len(self), size)
        return self._stored[name]

    def _shards_of(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) the shard of each row."""
        return np.searchsorted(self._first, rows, side="right") - 1

    @contextmanager
    def _dataset(self, shard: int, name: str) -> Iterator[h5py.Dataset]:
        """A data set of a shard, whose file stays open meanwhile. Errors that HDF5 raises name the file."""
        with naming(self._shards.path(shard)):
            file = self._shards.file(shard)
            yield file[name]

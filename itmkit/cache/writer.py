"""Writes a cache shard by shard, so that a killed run keeps every finished shard and loses at most one.

    with CacheWriter.open(folder, made_by=..., columns=..., keys=ids, shard_size=2000) as writer:
        for shard, keys in writer.pending():          # shards that no earlier run finished
            with writer.shard(shard) as out:
                out.append(keys[:32], {"features": array, ...})
                out.skip(keys[32], "truncated file")
    # leaving the block after the last shard marks the cache complete

Shard k always covers the same slice of `keys`, so its bytes do not depend on when or how often a run was killed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from itmkit.cache.anew import discard_new, is_other_name, other_names, place_to_write, shard_name, take_over
from itmkit.cache.begin import clear, manifest_to_continue
from itmkit.cache.manifest import NAME, Column, MadeBy, Manifest, part_manifest
from itmkit.cache.parts import writing
from itmkit.cache.shard_file import ShardFile
from itmkit.errors import ItmkitError
from itmkit.files import atomic_path, sha256_file
from itmkit.machine.part import WHOLE, Part

ROWS_PER_CHUNK_BYTES = 1 << 18  # small columns share a chunk; large ones (features) get a chunk a row


def _chunk(column: Column) -> tuple[int, ...]:
    size = max(1, int(np.prod(column.shape, dtype=np.int64)) * np.dtype(column.dtype).itemsize)
    rows = 1 if size >= 8192 else max(1, ROWS_PER_CHUNK_BYTES // size)
    return (rows, *column.shape)


class ShardWriter:
    """One open shard. Made by `CacheWriter.shard`."""

    def __init__(self, file: h5py.File, sink: ShardFile, columns: Mapping[str, Column]) -> None:
        self._file = file
        self._sink = sink
        self._columns = columns
        self._ids: list[str] = []
        self._offsets: dict[str, list[np.ndarray]] = {c.group: [] for c in columns.values() if c.kind == "ragged"}
        self._flat = dict.fromkeys(self._offsets, 0)
        self.skipped: list[dict[str, str]] = []
        for name, column in columns.items():
            shape = (0, *column.shape)
            file.create_dataset(name, shape, column.dtype, maxshape=(None, *column.shape), chunks=_chunk(column))

    @property
    def count(self) -> int:
        return len(self._ids)

    def append(
        self,
        ids: Sequence[str],
        arrays: Mapping[str, np.ndarray],
        *,
        lengths: Mapping[str, np.ndarray] | np.ndarray | None = None,
    ) -> None:
        """Adds `len(ids)` rows.

        Args:
            arrays: per column, (len(ids), *shape), or for ragged columns the flat (sum of lengths, *shape).
            lengths: (len(ids),) integers for ragged columns; a mapping by group where there are several groups.

        Raises:
            ItmkitError: a floating-point column holds NaN or infinity. The error names the row.
            OSError: the disk is full, or refuses the write for another reason.
        """
        if set(arrays) != set(self._columns):
            raise ValueError(f"columns {sorted(arrays)} given, {sorted(self._columns)} expected")
        per_group = lengths if isinstance(lengths, Mapping) else dict.fromkeys(self._offsets, lengths)
        grown: dict[str, int] = {}
        for group, pieces in self._offsets.items():
            sizes = np.asarray(per_group[group], dtype=np.int64)
            if sizes.shape != (len(ids),):
                raise ValueError(f"lengths of {group!r} have shape {sizes.shape}, expected ({len(ids)},)")
            pieces.append(sizes)
            grown[group] = int(sizes.sum())
        for name, column in self._columns.items():
            values = np.asarray(arrays[name])
            rows = len(ids) if column.kind == "row" else grown[column.group]
            if values.shape != (rows, *column.shape):
                raise ValueError(f"{name}: shape {values.shape}, expected {(rows, *column.shape)}")
            if np.issubdtype(np.dtype(column.dtype), np.floating):
                with np.errstate(over="ignore"):
                    values = values.astype(column.dtype, copy=False)
                self._check_finite(name, values, ids if column.kind == "row" else None)
            start = self.count if column.kind == "row" else self._flat[column.group]
            dataset = self._file[name]
            dataset.resize(start + rows, axis=0)
            if rows:
                dataset[start : start + rows] = values
        for group, total in grown.items():
            self._flat[group] += total
        self._ids.extend(ids)
        self._sink.check()

    def skip(self, key: str, reason: str) -> None:
        """Records that `key` has no row, and why. It is listed in the manifest and by `itmkit status`."""
        self.skipped.append({"id": key, "reason": reason})

    @staticmethod
    def _check_finite(name: str, values: np.ndarray, ids: Sequence[str] | None) -> None:
        finite = np.isfinite(values)
        if finite.all():
            return
        row = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
        where = f"of {ids[row]!r}" if ids is not None else f"at position {row}"
        raise ItmkitError(
            f"{name} {where} holds NaN or a value beyond {values.dtype}'s range; nothing of this shard was kept."
            " Check the model or the file the values come from"
        )

    def _close(self) -> None:
        for group, pieces in self._offsets.items():
            sizes = np.concatenate([np.zeros(1, np.int64), *pieces])
            self._file.create_dataset(f"{group}.offsets", data=np.cumsum(sizes))
        width = max((len(key.encode()) for key in self._ids), default=1) or 1
        keys = np.array([key.encode() for key in self._ids], dtype=f"S{width}")
        self._file.create_dataset("ids", data=keys)


class CacheWriter:
    """A cache being written. Use as a context manager; see the module docstring."""

    def __init__(
        self, folder: Path, place: Path, manifest: Manifest, keys: Sequence[str], part: Part, held: ExitStack
    ) -> None:
        self.folder = folder
        self._place = place  # `folder`, or the folder in it where the cache is made anew
        other = any(is_other_name(shard["file"]) for shard in manifest.shards)
        self._other_names = other or (place != folder and other_names(folder))
        self._replaces = False  # the old part in `folder`, with the first shard
        self.manifest = manifest
        self.part = part
        self._keys = keys
        self._held = held
        self._index = {name: {s: i for i, s in enumerate(table)} for name, table in manifest.tables.items()}

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        made_by: MadeBy,
        columns: Mapping[str, Column],
        keys: Sequence[str],
        tables: Mapping[str, Iterable[str]] | None = None,
        shard_size: int = 2000,
        notes: Mapping[str, Any] | None = None,
        part: Part = WHOLE,
        force: bool = False,
    ) -> CacheWriter:
        """Begins or continues the cache in `folder`.

        Args:
            made_by: what the cache is made from; an existing cache is continued only if it is equal.
            keys: the ids of all planned rows, in order; shard k covers `keys[k * shard_size : (k + 1) * shard_size]`.
            tables: starting string tables; `index` adds to them.
            part: the shards this process writes, if several share the work; see `itmkit.cache.parts`. All must be
                given the same `keys`, and complete string tables.
            force: make the cache anew, whatever is there. The old one stays until the new one is whole. A new one that
                an earlier run has begun is continued.

        Raises:
            ItmkitError: the folder holds a cache made otherwise (without `force`), or another process is writing it.
        """
        with ExitStack() as held:
            held.enter_context(writing(folder, part))
            if part == WHOLE and not force:
                take_over(folder)
            place = place_to_write(folder, part, made_by, force=force)
            again = force and place == folder  # a part beside other parts: the old one stays until the first new shard
            planned = Manifest(
                made_by=made_by,
                columns=dict(columns),
                tables={name: list(table) for name, table in (tables or {}).items()},
                planned=len(keys),
                shard_size=shard_size,
                notes=dict(notes or {}),
            )
            found = None if again else manifest_to_continue(place, part, planned, force=force)
            if found is None and not again:
                clear(place, part)
            if part == WHOLE and place == folder:
                discard_new(folder)
            writer = cls(folder, place, found or planned, keys, part, held.pop_all())
            writer._replaces = again
        if found is None and not again:
            writer._write_manifest()
        return writer

    @property
    def shard_count(self) -> int:
        return -(-len(self._keys) // self.manifest.shard_size)

    @property
    def _mine(self) -> range:
        """The shards this process writes, including those that are there already."""
        return range(self.part.index, self.shard_count, self.part.of)

    @property
    def total(self) -> int:
        """How many of the planned keys are this process's to write."""
        return sum(len(self._keys_of(shard)) for shard in self._mine)

    @property
    def done(self) -> int:
        """How many of them lie in finished shards."""
        if self.manifest.complete:
            return self.total
        return sum(len(self._keys_of(shard)) for shard in self._mine[: len(self.manifest.shards)])

    def pending(self) -> Iterator[tuple[int, Sequence[str]]]:
        """(shard number, its keys) of each shard still to be written, in order."""
        if not self.manifest.complete:
            for shard in self._mine[len(self.manifest.shards) :]:
                yield shard, self._keys_of(shard)

    def _keys_of(self, shard: int) -> Sequence[str]:
        size = self.manifest.shard_size
        return self._keys[shard * size : (shard + 1) * size]

    def index(self, table: str, strings: Sequence[str]) -> np.ndarray:
        """(len(strings),) int32: the place of each string in a table of the manifest, adding new ones at its end."""
        known, names = self._index.setdefault(table, {}), self.manifest.tables.setdefault(table, [])
        places = np.empty(len(strings), dtype=np.int32)
        for i, string in enumerate(strings):
            place = known.get(string)
            if place is None:
                place = known[string] = len(names)
                names.append(string)
            places[i] = place
        return places

    @contextmanager
    def shard(self, number: int) -> Iterator[ShardWriter]:
        """Writes shard `number` under a temporary name; on success renames it and adds it to the manifest."""
        expected = self._mine[len(self.manifest.shards)]
        if number != expected:
            raise ValueError(f"shard {expected} is next, not {number}")
        path = self._place / shard_name(number, other=self._other_names)
        with self._room_for_both(), atomic_path(path) as partial, ShardFile(partial) as sink:
            with h5py.File(sink, "w", track_order=False) as file:
                writer = ShardWriter(file, sink, self.manifest.columns)
                yield writer
                writer._close()
            sink.check()
            self._replace_old()
        entry: dict[str, Any] = {"file": path.name, "count": writer.count, "bytes": path.stat().st_size}
        entry |= {"sha256": sha256_file(path), "skipped": writer.skipped}
        self.manifest.shards.append(entry)
        self.manifest.complete = len(self.manifest.shards) == len(self._mine)
        self._write_manifest()

    def _forget(self) -> None:
        """Leaves no cache of no rows behind, which `itmkit status` would advise to go on with."""
        clear(self._place, self.part)
        if self.part == WHOLE:
            discard_new(self.folder)

    def _replace_old(self) -> None:
        if self._replaces:
            clear(self._place, self.part)
            self._replaces = False

    @contextmanager
    def _room_for_both(self) -> Iterator[None]:
        """A full disk is no surprise where an old cache and a new one lie on it: says so."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not (self.folder / NAME).exists():
                raise
            if self._place == self.folder:
                raise
            raise ItmkitError(
                f"{self._place}: the disk is full; the old cache beside it is kept until the new one is whole. Free"
                f" space and run the same command again, it continues; or delete {self.folder / NAME} and the shards"
                " beside it first"
            ) from error

    def _write_manifest(self) -> None:
        self.manifest.write(self._place, NAME if self.part == WHOLE else part_manifest(self.part))

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self.manifest.complete and len(self.manifest.shards) == len(self._mine):
                self._replace_old()
                self.manifest.complete = True  # a cache of no rows has no shard that could complete it
                self._write_manifest()
            if kind is None and self.part == WHOLE and self._place != self.folder:
                take_over(self.folder)
            failed = kind is not None and (issubclass(kind, Exception) or self._place != self.folder)
            if failed and not self.manifest.shards and not self._replaces:
                self._forget()
        finally:
            self._held.close()

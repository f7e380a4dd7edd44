"""Rows are read past HDF5 where that is possible; whatever the order, they are the rows that were written."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, shuffled_batches, stored_rows
from itmkit.cache.writer import ROWS_PER_CHUNK_BYTES
from itmkit.errors import ItmkitError
from itmkit.files import read_json, sha256_file, write_json

WIDE = (40, 128)  # a chunk a row
NARROW = (300,)  # several chunks a shard, many rows a chunk


def build(folder: Path, count: int, shard_size: int = 50) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    rows = {
        "features": rng.normal(size=(count, *WIDE)).astype(np.float16),
        "boxes": rng.normal(size=(count, *NARROW)).astype(np.float32),
        "count": rng.integers(0, 99, count).astype(np.int16),
    }
    columns = {"features": Column("float16", WIDE), "boxes": Column("float32", NARROW), "count": Column("int16")}
    keys = [f"k{number}" for number in range(count)]
    with CacheWriter.open(
        folder, made_by=MadeBy("test", {}, None, {}), columns=columns, keys=keys, shard_size=shard_size
    ) as writer:
        for number, part in writer.pending():
            with writer.shard(number) as out:
                for start in range(0, len(part), 7):
                    at = slice(number * shard_size + start, number * shard_size + min(start + 7, len(part)))
                    out.append(keys[at], {name: values[at] for name, values in rows.items()})
    return rows


def past_hdf5(reader: CacheReader, column: str) -> list[bool]:
    return [
        bool(reader._located(column, reader._first[shard : shard + 1])[1] >= 0)
        for shard in range(len(reader._first) - 1)
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("cache")
    assert ROWS_PER_CHUNK_BYTES // (NARROW[0] * 4) < 400  # so that shards of 500 rows have several chunks
    return folder, build(folder, 1203, shard_size=500)


@settings(max_examples=12, deadline=None)
@given(rows=st.lists(st.integers(0, 1202), max_size=60))
def test_any_rows_in_any_order(cache: tuple[Path, dict[str, np.ndarray]], rows: list[int]) -> None:
    folder, written = cache
    reader = CacheReader.open(folder)
    for name, values in written.items():
        assert all(past_hdf5(reader, name))
        np.testing.assert_array_equal(reader.read(name, rows), values[np.array(rows, int)])


def test_runs_across_chunks_and_shards(cache: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, written = cache
    reader = CacheReader.open(folder)
    for name, values in written.items():
        np.testing.assert_array_equal(reader.read_all(name), values)


def rewrite(folder: Path, change: dict[str, dict[str, object]]) -> None:
    """The first shard again, some data sets with other storage, and the manifest put right."""
    path = folder / "shard-00000.h5"
    with h5py.File(path, "r") as old, h5py.File(folder / "new", "w") as new:
        for name in old:
            new.create_dataset(name, data=old[name][:], **change.get(name, {}))
    (folder / "new").replace(path)
    admit(folder)


def admit(folder: Path) -> None:
    """Makes the manifest say that the first shard is as it should be."""
    path = folder / "shard-00000.h5"
    manifest = read_json(folder / "manifest.json")
    manifest["shards"][0] |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(folder / "manifest.json", manifest)


@pytest.mark.parametrize(
    "storage",
    [
        {"chunks": (1, *WIDE), "compression": "gzip"},
        {"chunks": (3, 8, 128)},  # chunks that cut a row
        {"chunks": None},
        {"chunks": (1, *WIDE), "fletcher32": True},
    ],
)
def test_other_storage_is_read_by_hdf5(tmp_path: Path, storage: dict[str, object]) -> None:
    written = build(tmp_path, 60)
    rewrite(tmp_path, {"features": storage})
    reader = CacheReader.open(tmp_path)
    assert past_hdf5(reader, "features") == [False, True]
    rows = [59, 3, 4, 5, 0, 49, 50]
    np.testing.assert_array_equal(reader.read("features", rows), written["features"][rows])


def test_a_chunk_never_written_is_left_to_hdf5(tmp_path: Path) -> None:
    build(tmp_path, 50)
    with h5py.File(tmp_path / "shard-00000.h5", "a") as file:
        del file["features"]
        file.create_dataset("features", (50, *WIDE), np.float16, chunks=(1, *WIDE))[3] = 1
    admit(tmp_path)
    reader = CacheReader.open(tmp_path)
    assert past_hdf5(reader, "features") == [False]
    assert reader.read("features", [2, 3]).sum() == np.prod(WIDE)


def test_a_file_cut_short_while_it_is_read(tmp_path: Path) -> None:
    build(tmp_path, 50)
    reader = CacheReader.open(tmp_path)
    reader.read("features", [0])
    os.truncate(tmp_path / "shard-00000.h5", 4096)
    with pytest.raises(ItmkitError, match="has become shorter"):
        reader.read("features", [49])


def test_a_file_replaced_while_it_is_read(tmp_path: Path) -> None:
    """Offsets and bytes come from the file that was opened, not from one that took its name since."""
    written = build(tmp_path, 50)
    reader = CacheReader.open(tmp_path)
    reader.read("count", [0])
    (tmp_path / "other").write_bytes(bytes(100))
    (tmp_path / "other").replace(tmp_path / "shard-00000.h5")
    np.testing.assert_array_equal(reader.read("features", [49, 7]), written["features"][[49, 7]])


def test_rows_that_are_not_in_the_page_cache(
    cache: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system has of a run is taken, the rest is waited for; some file systems cannot tell what they have."""
    folder, written = cache
    rows = np.array([1202, 3, 4, 5, 700])

    def part(handle: int, out: memoryview, offset: int) -> int:
        return os.preadv(handle, [out[: len(out) // 3]], offset)

    for answer in (part, lambda *_: 0):
        monkeypatch.setattr(stored_rows, "_from_page_cache", answer)
        for name, values in written.items():
            np.testing.assert_array_equal(CacheReader.open(folder).read(name, rows), values[rows])
    monkeypatch.undo()
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    np.testing.assert_array_equal(CacheReader.open(folder).read("features", rows), written["features"][rows])


def test_shuffled_batches(cache: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, written = cache
    reader = CacheReader.open(folder)

    def take(**options: int) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        return list(shuffled_batches(reader, ["features", "count"], batch_size=100, **options))

    first = take(seed=1, epoch=1)
    assert [len(rows) for rows, _ in first] == [100] * 12 + [3]
    order = np.concatenate([rows for rows, _ in first])
    assert sorted(order) == list(range(1203)) and list(order) != list(range(1203))
    for rows, batch in first:
        np.testing.assert_array_equal(batch["features"], written["features"][rows])
        np.testing.assert_array_equal(batch["count"], written["count"][rows])
    again = take(seed=1, epoch=1, threads=1, ahead=1)
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in again]), order)
    other = take(seed=1, epoch=2)
    assert (np.concatenate([rows for rows, _ in other]) != order).any()


def test_shuffled_batches_of_some_rows(cache: tuple[Path, dict[str, np.ndarray]]) -> None:
    reader = CacheReader.open(cache[0])
    wanted = np.array([5, 900, 7])
    taken = list(shuffled_batches(reader, ["count"], batch_size=2, seed=0, epoch=0, rows=wanted))
    assert sorted(np.concatenate([rows for rows, _ in taken])) == [5, 7, 900]


def test_leaving_early_stops_the_reading(cache: tuple[Path, dict[str, np.ndarray]]) -> None:
    batches = shuffled_batches(CacheReader.open(cache[0]), ["features"], batch_size=10, seed=0, epoch=0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]


def test_a_folder_without_a_cache_names_the_command_where_it_is_known(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="there is no cache here; run the stage that makes it first$"):
        CacheReader.open(tmp_path)
    with pytest.raises(ItmkitError, match="there is no cache here; run `itmkit build-graphs` first$"):
        CacheReader.open(tmp_path, stage="build-graphs")

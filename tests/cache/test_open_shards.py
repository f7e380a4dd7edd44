"""A cache may have more shards than the process may have open files."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, shuffled_batches
from itmkit.cache.open_shards import most_open
from itmkit.errors import ItmkitError

SHARDS, ROWS = 40, 3
COUNT = SHARDS * ROWS
FEATURES = np.arange(COUNT * 4, dtype=np.float32).reshape(COUNT, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("cache"))


def build(folder: Path, shards: int = SHARDS) -> Path:
    columns = {"features": Column("float32", (4,)), "words": Column("int32", kind="ragged")}
    keys = [f"k{number}" for number in range(shards * ROWS)]
    with CacheWriter.open(
        folder, made_by=MadeBy("test", {}, None, {}), columns=columns, keys=keys, shard_size=ROWS
    ) as writer:
        for number, part in writer.pending():
            with writer.shard(number) as out:
                rows = np.arange(number * ROWS, number * ROWS + len(part))
                words = np.repeat(rows, rows % 3).astype(np.int32)
                out.append(part, {"features": FEATURES[rows], "words": words}, lengths=rows % 3)
    return folder


@pytest.fixture
def few_files() -> Iterator[int]:
    """Allows 20 open files more than there are."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = len(open_files()) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, before[1]))
    yield allowed
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_files() -> list[int]:
    return [int(file.name) for file in Path("/proc/self/fd").iterdir()]


def check_everything(reader: CacheReader) -> None:
    rows = np.random.default_rng(0).permutation(COUNT)
    np.testing.assert_array_equal(reader.read("features", rows), FEATURES[rows])
    flat, offsets = reader.read_ragged(["words"], rows)
    np.testing.assert_array_equal(np.diff(offsets), rows % 3)
    np.testing.assert_array_equal(flat["words"], np.repeat(rows, rows % 3))
    assert reader.ids == [f"k{number}" for number in range(COUNT)]


def check_in_child(reader: CacheReader) -> None:
    check_everything(reader)
    os._exit(0)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_more_shards_than_files_that_may_be_open(folder: Path, few_files: int) -> None:
    begun = len(open_files())
    reader = CacheReader.open(folder)
    check_everything(reader)
    assert len(open_files()) - begun <= 2 * most_open()
    batches = shuffled_batches(reader, ["features"], batch_size=50, seed=0, epoch=0, threads=4, ahead=4)
    for rows, batch in batches:
        np.testing.assert_array_equal(batch["features"], FEATURES[rows])
    child = multiprocessing.get_context("fork").Process(target=check_in_child, args=(reader,))
    child.start()
    child.join()
    assert child.exitcode == 0
    child.close()
    check_everything(reader)
    del reader, batches
    assert len(open_files()) == begun


def test_few_are_open_even_where_many_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, most in ((1024, 32), (resource.RLIM_INFINITY, 64), (10**6, 64), (20, 1)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, allowed=allowed: (allowed, allowed))
        assert most_open() == most


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_no_file_left_to_open_is_said_and_no_damage(folder: Path, few_files: int) -> None:
    readers = [CacheReader.open(folder) for _ in range(2)]
    readers[1].read("features", [0, 100])  # its rows are known, one of its files is closed again
    taken: list[int] = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    try:
        for reader in readers:
            with pytest.raises(ItmkitError, match="too many files are open in this process") as caught:
                reader.read("features", np.arange(COUNT))
            assert "--force" not in str(caught.value) and "ulimit -n" in str(caught.value)
    finally:
        for handle in taken:
            os.close(handle)
    for reader in readers:
        check_everything(reader)


def test_a_shard_replaced_after_it_was_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The places of its rows are those of the old file."""
    monkeypatch.setattr("itmkit.cache.open_shards.MOST", 1)
    reader = CacheReader.open(build(tmp_path, shards=3))
    reader.read("features", [0, 8])
    shard = tmp_path / "shard-00000.h5"
    (tmp_path / "other").write_bytes(shard.read_bytes())
    (tmp_path / "other").replace(shard)
    with pytest.raises(ItmkitError, match=r"shard-00000.h5: was replaced while it was read; run the command again"):
        reader.read("features", [0])
    np.testing.assert_array_equal(reader.read("features", [8, 7]), FEATURES[[8, 7]])

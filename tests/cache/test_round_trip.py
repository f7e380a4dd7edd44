from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, read_manifest, text_key
from itmkit.errors import ItmkitError

COLUMNS = {
    "features": Column("float16", (3, 4)),
    "count": Column("int16"),
    "words": Column("int32", (), "ragged"),
    "heads": Column("int16", (), "ragged"),
    "edges": Column("int16", (2,), "ragged", "edges"),
}


def content(keys: list[str], seed: int = 0) -> dict[str, list[Any]]:
    """Per column, one array a row."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 5, len(keys))
    return {
        "features": [rng.normal(size=(3, 4)).astype(np.float16) for _ in keys],
        "count": [np.int16(n) for n in lengths],
        "words": [rng.integers(0, 99, n).astype(np.int32) for n in lengths],
        "heads": [rng.integers(0, 99, n).astype(np.int16) for n in lengths],
        "edges": [rng.integers(0, 9, (max(n - 1, 0), 2)).astype(np.int16) for n in lengths],
    }


def write(
    folder: Path,
    keys: list[str],
    rows: dict[str, list[Any]],
    *,
    shard_size: int = 4,
    batch: int = 3,
    skip: frozenset[int] = frozenset(),
    stop: int | None = None,
    **options: Any,
) -> CacheWriter:
    """Writes a cache in batches that begin anew with each shard; `stop`: interrupted before that row."""
    options = {"made_by": MadeBy("test", {"a": 1}, None, {"images": "x"}), "columns": COLUMNS} | options
    with CacheWriter.open(folder, keys=keys, shard_size=shard_size, **options) as writer:
        for shard, part in writer.pending():
            with writer.shard(shard) as out:
                first = shard * shard_size
                for start in range(first, first + len(part), batch):
                    if stop is not None and start >= stop:
                        raise KeyboardInterrupt
                    chosen = range(start, min(start + batch, first + len(part)))
                    for row in (row for row in chosen if row in skip):
                        out.skip(keys[row], "broken")
                    kept = [row for row in chosen if row not in skip]
                    arrays = {
                        name: np.stack([rows[name][row] for row in kept])
                        if column.kind == "row"
                        else np.concatenate([rows[name][row] for row in kept])
                        for name, column in COLUMNS.items()
                    } if kept else {
                        name: np.zeros((0, *column.shape), column.dtype) for name, column in COLUMNS.items()
                    }  # fmt: skip
                    lengths = {
                        group: np.array([len(rows[name][row]) for row in kept], np.int64)
                        for group, name in (("tokens", "words"), ("edges", "edges"))
                    }
                    out.append([keys[row] for row in kept], arrays, lengths=lengths)
    return writer


KEYS = [f"bild {i} é" for i in range(11)]


@given(
    n=st.integers(0, 13),
    shard_size=st.integers(1, 6),
    batch=st.integers(1, 5),
    skip=st.frozensets(st.integers(0, 12), max_size=4),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=12, deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, n: int, shard_size: int, batch: int, skip: frozenset[int], order: Any
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    keys = [f"k{i}" for i in range(n)]
    rows = content(keys)
    write(folder, keys, rows, shard_size=shard_size, batch=batch, skip=skip)
    reader = CacheReader.open(folder)
    kept = [row for row in range(n) if row not in skip]
    assert reader.ids == [keys[row] for row in kept] and len(reader) == len(kept)
    assert [item["id"] for item in reader.manifest.skipped] == [keys[row] for row in range(n) if row in skip]
    assert reader.verify() == []
    wanted = [order.choice(kept) for _ in range(8)] if kept else []
    places = reader.rows([keys[row] for row in wanted])
    for name in ("features", "count"):
        found = reader.read(name, places)
        assert found.shape == (len(wanted), *COLUMNS[name].shape) and found.dtype == COLUMNS[name].dtype
        assert all(np.array_equal(found[i], rows[name][row]) for i, row in enumerate(wanted))
    for names in (["words", "heads"], ["edges"]):
        flat, offsets = reader.read_ragged(names, places)
        for name in names:
            assert len(flat[name]) == offsets[-1]
            for i, row in enumerate(wanted):
                assert np.array_equal(flat[name][offsets[i] : offsets[i + 1]], rows[name][row])
    assert reader.lengths().tolist() == [len(rows["words"][row]) for row in kept]


@pytest.mark.parametrize("stop", [0, 3, 4, 7, 8])
def test_resumed_is_byte_identical(tmp_path: Path, stop: int) -> None:
    rows = content(KEYS)
    write(tmp_path / "whole", KEYS, rows, skip=frozenset({2, 9}))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "killed", KEYS, rows, skip=frozenset({2, 9}), stop=stop)
    manifest = read_manifest(tmp_path / "killed")
    assert manifest is not None and not manifest.complete and len(manifest.shards) == stop // 4
    with pytest.raises(ItmkitError, match=r"unfinished \(\d+ of 11 rows\); run `itmkit test` again"):
        CacheReader.open(tmp_path / "killed")
    write(tmp_path / "killed", KEYS, rows, skip=frozenset({2, 9}))
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "killed").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_complete_is_left_alone_and_force_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, KEYS, content(KEYS))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard*")}
    assert write(tmp_path, KEYS, content(KEYS, 1)).done == len(KEYS)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    write(tmp_path, KEYS[:3], content(KEYS, 1), force=True)
    assert CacheReader.open(tmp_path).ids == KEYS[:3] and len(list(tmp_path.glob("shard*"))) == 1


def test_other_settings_are_listed(tmp_path: Path) -> None:
    write(tmp_path, KEYS, content(KEYS))
    other = MadeBy("test", {"a": 2, "b": [1]}, {"id": "m", "sha256": "0"}, {"images": "y"})
    with pytest.raises(ItmkitError) as caught:
        write(tmp_path, KEYS, content(KEYS), made_by=other)
    text = caught.value.problems[0]
    for part in (
        "settings.a is 1 in the cache, 2 now",
        "settings.b is 'nothing' in the cache, [1] now",
        "inputs.images changed",
        "model.sha256 changed",
        "`itmkit test --force`",
    ):
        assert part in text
    with pytest.raises(ItmkitError, match="made by `itmkit test`, not by `itmkit other`"):
        write(tmp_path, KEYS, content(KEYS), made_by=MadeBy("other", {"a": 1}, None, {"images": "x"}))
    with pytest.raises(ItmkitError, match="shard size is 4 in the cache, 5 now"):
        write(tmp_path, KEYS, content(KEYS), shard_size=5)
    with pytest.raises(ItmkitError, match="columns differ"):
        write(tmp_path, KEYS, content(KEYS), columns={"features": Column("float32", (3, 4))})
    with pytest.raises(ItmkitError, match="planned for 11 rows, there are 10 now"):
        write(tmp_path, KEYS[:10], content(KEYS))


def test_two_writers(tmp_path: Path) -> None:
    made_by = MadeBy("test")
    with (
        CacheWriter.open(tmp_path, made_by=made_by, columns=COLUMNS, keys=KEYS),
        pytest.raises(ItmkitError, match="another process is writing"),
    ):
        CacheWriter.open(tmp_path, made_by=made_by, columns=COLUMNS, keys=KEYS)
    with CacheWriter.open(tmp_path, made_by=made_by, columns=COLUMNS, keys=KEYS):
        pass


def test_nan_is_refused(tmp_path: Path) -> None:
    rows = content(KEYS)
    for value in (np.nan, np.inf):
        rows["features"][5][1, 2] = value
        with pytest.raises(ItmkitError, match=f"features of '{KEYS[5]}' holds NaN"):
            write(tmp_path, KEYS, rows)
    manifest = read_manifest(tmp_path)
    assert manifest is not None and len(manifest.shards) == 1
    assert not list(tmp_path.glob(".*partial"))


def test_tables(tmp_path: Path) -> None:
    made_by, columns = MadeBy("test"), {"tags": Column("int32")}
    for _ in range(2):  # the second run continues after the first shard
        with CacheWriter.open(
            tmp_path, made_by=made_by, columns=columns, keys=["a", "b"], tables={"tags": ["dog"]}, shard_size=1
        ) as writer:
            for shard, keys in writer.pending():
                with writer.shard(shard) as out:
                    out.append(keys, {"tags": writer.index("tags", [["cat"], ["dog"]][shard])})
                break
    reader = CacheReader.open(tmp_path)
    assert reader.tables["tags"] == ["dog", "cat"] and reader.read_all("tags").tolist() == [1, 0]


def test_missing_ids_are_named(tmp_path: Path) -> None:
    write(tmp_path, KEYS, content(KEYS))
    with pytest.raises(ItmkitError, match=r"no row for 1 of 2 ids \(nobody\)"):
        CacheReader.open(tmp_path).rows([KEYS[0], "nobody"])
    with pytest.raises(ItmkitError, match="no cache here; run `itmkit extract-regions` first"):
        CacheReader.open(tmp_path / "no", stage="extract-regions")


def test_text_key() -> None:
    assert text_key("a") == text_key("a") != text_key("b") and len(text_key("\ud800")) == 32


def _read(reader: CacheReader) -> Iterator[float]:
    yield float(reader.read("features", [10, 0]).astype(np.float64).sum())


def _child(reader: CacheReader, queue: Any) -> None:
    queue.put(next(_read(reader)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_in_other_processes(tmp_path: Path, method: str) -> None:
    write(tmp_path, KEYS, content(KEYS))
    reader = CacheReader.open(tmp_path)
    expected = next(_read(reader))
    assert next(_read(pickle.loads(pickle.dumps(reader)))) == expected  # noqa: S301
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_child, args=(reader, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0 and next(_read(reader)) == expected


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_rows_are_found_whatever_the_ids(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Ids of any length and alphabet, over several shards; the empty one as well."""
    name = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
    keys = data.draw(st.lists(name, min_size=1, max_size=12, unique=True))
    others = data.draw(st.lists(name, max_size=6))
    folder = tmp_path_factory.mktemp("cache")
    write(folder, keys, content(keys))
    reader = CacheReader.open(folder)
    asked = [*keys[::-1], *others, "\ud800"]
    known = {key: row for row, key in enumerate(keys)}
    assert reader.find(asked).tolist() == [known.get(key, -1) for key in asked]
    assert [key in reader for key in asked] == [key in known for key in asked]
    assert reader.rows(keys).tolist() == list(range(len(keys))) and reader.ids == keys

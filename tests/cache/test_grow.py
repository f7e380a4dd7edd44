"""A cache goes on with keys that came after those it was made for, and keeps its full shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy
from itmkit.cache.grow import grow
from itmkit.cache.manifest import Manifest, read_manifest
from itmkit.errors import ItmkitError

KEYS = [f"k{number}" for number in range(7)]


def made_by(count: int, **settings: int) -> MadeBy:
    return MadeBy("embed", settings, None, {"images": f"first {count}"})


def write(folder: Path, count: int, *, force: bool = False, stop_after: int = 99) -> list[int]:
    """Writes the first `count` keys, three a shard; returns the shards written now."""
    written = []
    with CacheWriter.open(
        folder,
        made_by=made_by(count),
        columns={"value": Column("float32")},
        keys=KEYS[:count],
        tables={"names": []},
        shard_size=3,
        force=force,
    ) as writer:
        for shard, keys in writer.pending():
            if len(written) == stop_after:
                break
            with writer.shard(shard) as out:
                writer.index("names", [f"name of {key}" for key in keys])
                out.append(keys, {"value": np.array([KEYS.index(key) for key in keys], np.float32)})
            written.append(shard)
    return written


def first(manifest: Manifest) -> bool:
    return manifest.made_by.inputs["images"].startswith("first")


def grown(folder: Path, count: int) -> bool:
    return grow(folder, made_by(count), planned=count, shard_size=3, is_beginning=first)


def test_full_shards_stay_and_one_that_is_not_full_is_written_again(tmp_path: Path) -> None:
    assert write(tmp_path, 4) == [0, 1]
    state = (tmp_path / "shard-00000.h5").stat()
    with pytest.raises(ItmkitError, match=r"inputs\.images changed"):
        write(tmp_path, 7)
    assert grown(tmp_path, 7)
    unfinished = read_manifest(tmp_path)
    assert unfinished is not None and not unfinished.complete and unfinished.count == 3
    assert write(tmp_path, 7, stop_after=1) == [1]  # killed
    assert not grown(tmp_path, 7)  # it has
    assert write(tmp_path, 7) == [2]
    assert (tmp_path / "shard-00000.h5").stat() == state
    reader = CacheReader.open(tmp_path)
    assert list(reader.ids) == KEYS
    np.testing.assert_array_equal(reader.read_all("value"), np.arange(7))
    # New names come last: the numbers of old rows keep their meaning. k3 was in the shard that was written again.
    assert reader.tables["names"] == [f"name of {key}" for key in KEYS]


@pytest.mark.parametrize(("before", "after", "kept"), [(3, 7, 1), (0, 4, 0), (6, 6, 2), (4, 4, 2)])
def test_what_is_left_to_write(tmp_path: Path, before: int, after: int, kept: int) -> None:
    write(tmp_path, before)
    (tmp_path / "manifest.json").write_text((tmp_path / "manifest.json").read_text().replace("first", "first of"))
    assert grown(tmp_path, after)
    assert write(tmp_path, after) == list(range(kept, -(-after // 3)))
    assert list(CacheReader.open(tmp_path).ids) == KEYS[:after]


def test_shards_of_a_cache_that_was_made_anew_keep_to_its_names(tmp_path: Path) -> None:
    write(tmp_path, 3)
    write(tmp_path, 3, force=True)
    assert [path.name for path in tmp_path.glob("*.h5")] == ["shard-00000b.h5"]
    assert grown(tmp_path, 5)
    write(tmp_path, 5)
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["shard-00000b.h5", "shard-00001b.h5"]
    assert write(tmp_path, 5, force=True) == [0, 1]
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["shard-00000.h5", "shard-00001.h5"]


def test_nothing_else_is_let_through(tmp_path: Path) -> None:
    write(tmp_path, 4)
    before = (tmp_path / "manifest.json").read_bytes()
    ways = {"planned": 7, "shard_size": 3, "is_beginning": first}
    assert not grow(tmp_path, made_by(7, size=2), **ways)  # type: ignore[arg-type]
    assert not grow(tmp_path, made_by(7), **(ways | {"shard_size": 2}))  # type: ignore[arg-type]
    assert not grow(tmp_path, made_by(3), **(ways | {"planned": 3}))  # type: ignore[arg-type]
    assert not grow(tmp_path, made_by(7), **(ways | {"is_beginning": lambda _: False}))  # type: ignore[arg-type]
    assert not grow(tmp_path / "none", made_by(7), **ways)  # type: ignore[arg-type]
    (tmp_path / "shard-00000.h5").unlink()
    with pytest.raises(ItmkitError, match=r"shard-00000.h5: is missing"):
        grow(tmp_path, made_by(7), **ways)  # type: ignore[arg-type]
    assert (tmp_path / "manifest.json").read_bytes() == before

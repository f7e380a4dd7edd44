"""A cache that is made anew: at every moment the old one or the new one is there."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from itmkit.cache import WHOLE, CacheReader, CacheWriter, Column, MadeBy, Part, merge_parts
from itmkit.cache.anew import NEW
from itmkit.cache.writer import ShardWriter
from itmkit.errors import ItmkitError

KEYS = ["a", "b", "c", "d", "e"]


def write(
    folder: Path, value: float, *, force: bool = False, stop: int | None = None, part: Part = WHOLE, shard_size: int = 2
) -> int:
    """Rows of one value, which is also a setting. Killed in shard `stop`. Returns how many shards were written now."""
    written = 0
    with CacheWriter.open(
        folder,
        made_by=MadeBy("embed", {"value": value}),
        columns={"x": Column("float32", (2,))},
        keys=KEYS,
        shard_size=shard_size,
        part=part,
        force=force,
    ) as writer:
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                if number == stop:
                    raise KeyboardInterrupt
                out.append(keys, {"x": np.full((len(keys), 2), value, np.float32)})
            written += 1
    return written


def value_of(folder: Path) -> float:
    reader = CacheReader.open(folder)
    assert reader.verify() == [] and reader.ids == KEYS
    values = set(reader.read_all("x").flat)
    assert len(values) == 1
    return float(values.pop())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_the_old_cache_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2, force=True, stop=0)
    assert value_of(tmp_path) == 1 and NEW not in names(tmp_path)  # nothing was begun
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2, force=True, stop=2)
    assert value_of(tmp_path) == 1
    assert write(tmp_path, 2, force=True) == 1  # the same command goes on
    assert value_of(tmp_path) == 2 and len(names(tmp_path)) == 4
    for value in (3, 4):  # and again, over names that are taken
        write(tmp_path, value, force=True)
        assert value_of(tmp_path) == value and len(names(tmp_path)) == 4


def test_a_run_without_force_goes_on_with_the_new_one_or_drops_it(tmp_path: Path) -> None:
    for value in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, value, force=True, stop=2)
    assert write(tmp_path, 2) == 1 and value_of(tmp_path) == 2
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 3, force=True, stop=1)
    with pytest.raises(ItmkitError, match="made from other data or settings"):
        write(tmp_path, 4)
    assert (tmp_path / NEW).exists()
    assert write(tmp_path, 2) == 0 and not (tmp_path / NEW).exists() and value_of(tmp_path) == 2


def test_force_begins_again_where_the_new_one_is_of_other_settings_or_damaged(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2, force=True, stop=2)
    assert write(tmp_path, 3, force=True) == 3 and value_of(tmp_path) == 3
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 4, force=True, stop=2)
    next((tmp_path / NEW).glob("shard-*")).unlink()
    assert write(tmp_path, 4, force=True) == 3 and value_of(tmp_path) == 4


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Ends the process, as it were, before the n-th change of a file in a take-over."""
    left = {"moves": -1}

    def counted(whole: Callable[..., object]) -> Callable[..., object]:
        def changing(*arguments: object, **options: object) -> object:
            if left["moves"] == 0:
                raise KeyboardInterrupt
            left["moves"] -= 1
            return whole(*arguments, **options)

        return changing

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    yield left
    left["moves"] = -1


def test_killed_while_the_new_one_takes_over(tmp_path: Path, killed_at: dict[str, int]) -> None:
    for moment in range(20):
        folder = tmp_path / str(moment)
        write(folder, 1)
        with pytest.raises(KeyboardInterrupt):
            write(folder, 2, force=True, stop=2)
        killed_at["moves"] = moment
        try:
            write(folder, 2, force=True)
        except KeyboardInterrupt:
            killed_at["moves"] = -1
            assert value_of(folder) in (1, 2)
            write(folder, 2)
        finished, killed_at["moves"] = killed_at["moves"] > 0, -1
        assert value_of(folder) == 2 and len(names(folder)) == 4
    assert finished  # the last moment lay after the last change


def test_parts_of_a_new_cache_replace_the_old_one_when_they_are_merged(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2, part=Part(0, 2), force=True)
    with pytest.raises(ItmkitError, match="part 1/2 is missing"):
        merge_parts(tmp_path)
    with pytest.raises(ItmkitError, match="jobs with --force have begun"):
        write(tmp_path, 1, part=Part(1, 2))
    assert value_of(tmp_path) == 1
    write(tmp_path, 2, part=Part(1, 2), force=True)
    assert value_of(tmp_path) == 1
    assert merge_parts(tmp_path).complete and value_of(tmp_path) == 2 and len(names(tmp_path)) <= 6


def test_a_part_that_fails_keeps_the_old_part(tmp_path: Path) -> None:
    write(tmp_path, 1, part=Part(0, 2)), write(tmp_path, 1, part=Part(1, 2))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 1, part=Part(1, 2), force=True, stop=1)
    merge_parts(tmp_path)
    assert value_of(tmp_path) == 1


def test_a_full_disk_names_the_old_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(ShardWriter, "append", full)
        with pytest.raises(ItmkitError, match="the disk is full; the old cache beside it is kept"):
            write(tmp_path, 2, force=True)
    assert value_of(tmp_path) == 1 and NEW not in names(tmp_path)


def test_links_in_a_received_cache_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside", 7)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "outside").glob("*.*")}
    for place in (NEW, ".shard-00000.h5.partial", ".manifest.json.partial", "shard-00000.h5"):
        folder = tmp_path / f"with {place}"
        folder.mkdir()
        target = tmp_path / "outside" if place == NEW else tmp_path / "outside" / "shard-00000.h5"
        (folder / place).symlink_to(target)
        write(folder, 1)
        (folder / NEW).symlink_to(tmp_path / "outside")
        write(folder, 2, force=True)
        assert value_of(folder) == 2
        assert {path.name: path.read_bytes() for path in (tmp_path / "outside").glob("*.*")} == kept

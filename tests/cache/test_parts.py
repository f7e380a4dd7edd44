"""Parts written by several processes, merged, are the cache that one process writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, Part, merge_parts, parts, read_manifest, recode
from itmkit.cache.manifest import part_manifest
from itmkit.errors import ItmkitError
from itmkit.machine.part import WHOLE

KEYS = [f"k{number}" for number in range(23)]
SHARD = 4  # six shards, the last of three rows


def write(
    folder: Path, part: Part = WHOLE, *, stop: int | None = None, keys: Sequence[str] = KEYS, **options: object
) -> None:
    """Writes a part; `stop`: interrupted in the middle of that shard."""
    settings = options.pop("settings", {"a": 1})
    with CacheWriter.open(
        folder,
        made_by=MadeBy("extract-regions", settings, None, {}),  # type: ignore[arg-type]
        columns={"x": Column("float32", (3,))},
        keys=keys,
        tables={"tags": ["one", "two"]},
        shard_size=SHARD,
        part=part,
        **options,  # type: ignore[arg-type]
    ) as writer:
        for number, mine in writer.pending():
            with writer.shard(number) as out:
                for key in mine:
                    if stop == number and key == mine[-1]:
                        raise KeyboardInterrupt
                    if key == "k9":
                        out.skip(key, "broken")
                    else:
                        out.append([key], {"x": np.full((1, 3), int(key[1:]), np.float32)})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    write(tmp_path / "whole")
    return files(tmp_path / "whole")


@pytest.mark.parametrize("of", [2, 3, 6, 9])  # of nine parts, three have nothing to do
def test_merged_parts_are_what_one_process_writes(tmp_path: Path, whole: dict[str, bytes], of: int) -> None:
    folder = tmp_path / "parts"
    for index in reversed(range(of)):
        write(folder, Part(index, of))
    manifest = merge_parts(folder)
    assert files(folder) == whole
    assert manifest.count == 22 and manifest.skipped == [{"id": "k9", "reason": "broken"}]
    assert CacheReader.open(folder).rows(["k22"]).tolist() == [21]
    assert merge_parts(folder).count == 22  # again: nothing changes
    assert files(folder) == whole


@pytest.mark.parametrize("stop", [0, 2, 4])
def test_a_part_killed_within_a_shard_goes_on(tmp_path: Path, whole: dict[str, bytes], stop: int) -> None:
    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        write(folder, Part(0, 2), stop=stop)
    write(folder, Part(1, 2))
    with pytest.raises(ItmkitError, match="part 0/2 is unfinished; run `itmkit extract-regions --shard 0/2` again"):
        merge_parts(folder)
    with CacheWriter.open(
        folder,
        made_by=MadeBy("extract-regions", {"a": 1}, None, {}),
        columns={"x": Column("float32", (3,))},
        keys=KEYS,
        shard_size=SHARD,
        part=Part(0, 2),
    ) as writer:
        assert (writer.total, writer.done) == (12, stop // 2 * SHARD)
    write(folder, Part(0, 2))
    merge_parts(folder)
    assert files(folder) == whole


def test_a_merged_cache_needs_no_part(tmp_path: Path) -> None:
    for index in (0, 1):
        write(tmp_path, Part(index, 2))
    merge_parts(tmp_path)
    before = files(tmp_path)
    write(tmp_path, Part(1, 2))
    write(tmp_path)
    assert files(tmp_path) == before


def test_a_merge_killed_before_its_end_is_finished_by_the_next(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "parts"
    for index in (0, 1):
        write(folder, Part(index, 2))
    left = (folder / part_manifest(Part(1, 2))).read_bytes()
    merge_parts(folder)
    (folder / part_manifest(Part(1, 2))).write_bytes(left)
    write(folder, Part(1, 2))  # nothing to do
    assert merge_parts(folder).complete
    assert files(folder) == whole


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    write(tmp_path, Part(0, 4))
    write(tmp_path, Part(1, 4), settings={"a": 2})
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, Part(2, 4), stop=2)
    (tmp_path / "shard-00004.h5").unlink()
    with pytest.raises(ItmkitError) as error:
        merge_parts(tmp_path)
    said = "\n".join(error.value.problems)
    assert "part 3/4 is missing; run the stage with --shard 3/4" in said
    assert "part 1/4 was made from other data or settings (settings.a is 1 in the cache, 2 now)" in said
    assert "part 2/4 is unfinished" in said
    assert "shard-00004.h5: is missing" in said
    assert read_manifest(tmp_path) is None


def test_parts_with_other_names_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, Part(0, 2))
    write(tmp_path, Part(1, 2))
    path = tmp_path / part_manifest(Part(1, 2))
    raw = json.loads(path.read_text())
    raw["tables"]["tags"] = ["two", "one"]
    path.write_text(json.dumps(raw))
    with pytest.raises(ItmkitError, match="part 1/2 was made from other data or settings"):
        merge_parts(tmp_path)


def test_whole_and_parts_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", stop=3)
    with pytest.raises(ItmkitError, match="was begun whole; go on without --shard"):
        write(tmp_path / "a", Part(0, 2))
    write(tmp_path / "b", Part(0, 2))
    with pytest.raises(ItmkitError, match="was begun in 2 parts; go on with --shard i/2"):
        write(tmp_path / "b")
    with pytest.raises(ItmkitError, match="was begun in 2 parts"):
        write(tmp_path / "b", Part(0, 3))
    write(tmp_path / "b", force=True)
    assert read_manifest(tmp_path / "b") is not None and not list((tmp_path / "b").glob("*part*"))


def test_force_of_a_part_leaves_the_others(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "parts"
    write(folder, Part(0, 2), settings={"a": 7})
    write(folder, Part(1, 2))
    write(folder, Part(0, 2), force=True)
    merge_parts(folder)
    assert files(folder) == whole


@pytest.mark.parametrize("merged", [False, True])
def test_force_with_another_number_of_parts(tmp_path: Path, whole: dict[str, bytes], merged: bool) -> None:
    folder = tmp_path / "parts"
    if merged:  # the parts then lie beside the old cache, in the folder of the new one
        write(folder, settings={"a": 7})
    with pytest.raises(KeyboardInterrupt):
        write(folder, Part(0, 3), stop=3, force=merged)
    write(folder, Part(1, 3), force=merged)
    for index in (0, 1):
        write(folder, Part(index, 2), force=True)
    parts.merge_when_done(folder)
    found = {name.replace("b.h5", ".h5"): data for name, data in files(folder).items()}
    assert sorted(found) == sorted(whole) and CacheReader.open(folder).manifest.made_by.settings == {"a": 1}
    assert all(found[name] == data for name, data in whole.items() if name.endswith(".h5"))


def test_nobody_waits_for_parts_that_cannot_be_merged(tmp_path: Path) -> None:
    for index in (0, 1):
        write(tmp_path, Part(index, 2))
    (tmp_path / part_manifest(Part(0, 3))).write_bytes((tmp_path / part_manifest(Part(0, 2))).read_bytes())
    with pytest.raises(ItmkitError, match="holds parts of different divisions"):
        parts.merge_when_done(tmp_path)


def test_two_writers_of_one_part_exclude_each_other(tmp_path: Path) -> None:
    options = {
        "made_by": MadeBy("extract-regions", {"a": 1}, None, {}),
        "columns": {"x": Column("float32", (3,))},
        "keys": KEYS,
        "shard_size": SHARD,
    }
    with CacheWriter.open(tmp_path, part=Part(0, 2), **options):  # type: ignore[arg-type]
        with pytest.raises(ItmkitError, match=r"another process is writing part 0/2 of this cache \(process \d+ on "):
            write(tmp_path, Part(0, 2))
        with pytest.raises(ItmkitError, match=r"another process is writing this cache \(process \d+ on "):
            merge_parts(tmp_path)
        write(tmp_path, Part(1, 2))


@pytest.mark.parametrize(("text", "said"), [("2/2", "the last n-1/n"), ("1", "write i/n"), ("a/b", "write i/n")])
def test_a_part_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(ItmkitError, match=said):
        Part.parse(text)
    assert Part.parse("3/4") == Part(3, 4)


def test_nothing_to_merge(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="holds no parts of a cache"):
        merge_parts(tmp_path)


# Strings that nobody knew before: each part gives them places of its own.

WORDS = [[f"w{(number * 7) % 11}", "the", f"v{number % 5}"][: number % 4] for number in range(23)]


def write_words(folder: Path, part: Part = WHOLE) -> None:
    columns = {"words": Column("int32", kind="ragged"), "pos": Column("int16", (2,))}
    with CacheWriter.open(
        folder,
        made_by=MadeBy("parse-text"),
        columns=columns,
        keys=KEYS,
        tables={"words": [], "pos": []},
        shard_size=SHARD,
        part=part,
    ) as writer:
        for number, mine in writer.pending():
            with writer.shard(number) as out:
                for key in mine:
                    own = WORDS[int(key[1:])]
                    pos = np.append(writer.index("pos", [f"p{len(own)}"]), -1)[None]
                    out.append([key], {"words": writer.index("words", own), "pos": pos}, lengths=np.array([len(own)]))


def words_of(folder: Path) -> list[list[str]]:
    reader = CacheReader.open(folder)
    flat, offsets = reader.read_ragged(["words"], np.arange(len(reader)))
    assert [reader.tables["pos"][p] for p in reader.read_all("pos")[:, 0]] == [f"p{len(own)}" for own in WORDS]
    assert (reader.read_all("pos")[:, 1] == -1).all() and reader.verify() == []
    return [[reader.tables["words"][w] for w in flat["words"][a:b]] for a, b in pairwise(offsets.tolist())]


@pytest.mark.parametrize("of", [2, 3, 9])
def test_tables_of_parts_become_those_of_one_process(tmp_path: Path, of: int) -> None:
    write_words(tmp_path / "whole")
    for index in reversed(range(of)):
        write_words(tmp_path / "parts", Part(index, of))
    merge_parts(tmp_path / "parts")
    assert words_of(tmp_path / "parts") == words_of(tmp_path / "whole") == WORDS
    one, other = (read_manifest(tmp_path / name) for name in ("whole", "parts"))
    assert one is not None and other is not None and one.tables == other.tables
    assert sorted(files(tmp_path / "parts")) == sorted(files(tmp_path / "whole"))


@pytest.mark.parametrize("kill", [0, 2, 5, 6, 7])
def test_a_merge_of_tables_killed_at_any_move(tmp_path: Path, kill: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While shards are written beside the old ones (0), after so many moves, and before the manifest is moved (6)."""
    for index in range(2):
        write_words(tmp_path, Part(index, 2))
    moves, replace = [0], Path.replace

    def dying(source: Path, target: Path) -> None:
        if recode.STAGED in str(source) and recode.STAGED not in str(target):
            moves[0] += 1
            if moves[0] > kill - 1:
                raise KeyboardInterrupt
        elif kill == 0 and recode.STAGED in str(target):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            merge_parts(tmp_path)
    assert read_manifest(tmp_path) is None
    merge_parts(tmp_path)
    assert words_of(tmp_path) == WORDS and not (tmp_path / recode.STAGED).exists()
    assert not list(tmp_path.glob("*part*"))


def test_a_cache_begun_anew_forgets_a_killed_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(2):
        write_words(tmp_path, Part(index, 2))
    with monkeypatch.context() as patch:
        patch.setattr(parts, "moved", lambda folder: None)
        merge_parts(tmp_path)  # killed before the first move
    assert (tmp_path / recode.STAGED).exists()
    for index in range(2):
        write(tmp_path, Part(index, 2), force=True)
    merge_parts(tmp_path)
    assert sorted(CacheReader.open(tmp_path).columns) == ["x"] and not (tmp_path / recode.STAGED).exists()

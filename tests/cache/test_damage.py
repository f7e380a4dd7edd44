"""Caches that are damaged, hostile, or cannot be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, read_manifest
from itmkit.cache.shard_file import ShardFile
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file

COLUMNS = {"features": Column("float32", (4,)), "words": Column("int32", (), "ragged")}
KEYS = ["a", "b", "c"]


def write(folder: Path, *, rows: int = 1, width: int = 4, count: int = 3) -> None:
    columns = {"features": Column("float32", (width,)), "words": Column("int32", (), "ragged")}
    keys = [f"k{i}" for i in range(count)]
    with CacheWriter.open(folder, made_by=MadeBy("test"), columns=columns, keys=keys, shard_size=2) as writer:
        for shard, part in writer.pending():
            with writer.shard(shard) as out:
                for key in part:
                    ones = {"features": np.ones((1, width)), "words": np.arange(3)}
                    out.append([key], ones, lengths=np.array([3]))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write(tmp_path / "cache")
    return tmp_path / "cache"


def read(folder: Path) -> None:
    reader = CacheReader.open(folder)
    reader.read_all("features")
    reader.read_ragged(["words"], np.arange(len(reader)))
    _ = reader.ids


def forge(folder: Path) -> None:
    """Makes the manifest say that the shards are as they are now: a cache of hostile origin, not a damaged one."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        shard |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def external_link(shard: h5py.File, secret: Path) -> None:
    shard["features"] = h5py.ExternalLink(str(secret), "features")


def soft_link(shard: h5py.File, secret: Path) -> None:
    shard["features"] = h5py.SoftLink("/words")


def virtual(shard: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((2, 4), "float32")
    layout[:] = h5py.VirtualSource(str(secret), "features", (2, 4))
    shard.create_virtual_dataset("features", layout)


def external_storage(shard: h5py.File, secret: Path) -> None:
    shard.create_dataset("features", (2, 4), "float32", external=[(str(secret), 0, 32)])


def unlimited(shard: h5py.File, secret: Path) -> None:
    """A virtual data set whose shape HDF5 can only tell after looking into the other file."""
    plist, endless = h5py.h5p.create(h5py.h5p.DATASET_CREATE), (h5py.h5s.UNLIMITED,)
    spaces = [h5py.h5s.create_simple((1, 4), (*endless, 4)) for _ in range(2)]
    for space in spaces:
        space.select_hyperslab((0, 0), (*endless, 1), (1, 1), (1, 4))
    plist.set_virtual(spaces[0], str(secret).encode(), b"features", spaces[1])
    h5py.h5d.create(shard.id, b"features", h5py.h5t.NATIVE_FLOAT, spaces[0], plist)


def group(shard: h5py.File, secret: Path) -> None:
    shard.create_group("features")


def gone(shard: h5py.File, secret: Path) -> None:
    pass


def strings(shard: h5py.File, secret: Path) -> None:
    shard.create_dataset("features", data=np.array([["x"] * 4] * 2, dtype=h5py.string_dtype()))


def short(shard: h5py.File, secret: Path) -> None:
    shard.create_dataset("features", data=np.ones((1, 4), np.float32))


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (external_link, "ExternalLink, not data of this file"),
        (soft_link, "SoftLink, not data of this file"),
        (virtual, "keeps its data in other files"),
        (unlimited, "keeps its data in other files"),
        (external_storage, "keeps its data in other files"),
        (group, "is not a data set"),
        (gone, "is missing"),
        (strings, "not what the manifest says"),
        (short, "not what the manifest says"),
    ],
)
def test_shards_that_point_elsewhere_are_refused(
    cache: Path, tmp_path: Path, replace: Callable[[h5py.File, Path], None], message: str
) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = np.full((2, 4), 42, np.float32)
    with h5py.File(cache / "shard-00000.h5", "r+") as shard:
        del shard["features"]
        replace(shard, secret)
    forge(cache)
    with pytest.raises(ItmkitError, match=message) as caught:
        read(cache)
    assert "shard-00000.h5" in caught.value.problems[0]


READ_ALL = """
import sys; from pathlib import Path; from itmkit.cache import CacheReader; from itmkit.errors import ItmkitError
for folder in sys.argv[1:]:
    try:
        reader = CacheReader.open(Path(folder))
        reader.read_all("features"), reader.read_ragged(["words"], range(len(reader))), reader.ids
        print("read")
    except ItmkitError as error:
        print("refused:", error.problems[0].replace(chr(10), " "))
"""


def read_in_a_child(folders: list[Path], seconds: float) -> list[str]:
    """What each cache says; a crash or a hang is this test's failure, not its end."""
    command = [sys.executable, "-c", READ_ALL, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    return done.stdout.splitlines()


def test_nothing_outside_a_shard_is_opened(cache: Path, tmp_path: Path) -> None:
    """The other file is a named pipe: whoever opens it waits for ever."""
    os.mkfifo(tmp_path / "secret.h5")
    folders = []
    for replace in (external_link, virtual, unlimited, external_storage):
        folder = shutil.copytree(cache, tmp_path / replace.__name__)
        with h5py.File(folder / "shard-00000.h5", "r+") as shard:
            del shard["features"]
            replace(shard, tmp_path / "secret.h5")
        forge(folder)
        folders.append(folder)
    (cache / "shard-00001.h5").unlink()
    os.mkfifo(cache / "shard-00001.h5")  # a shard that is such a pipe itself
    *told, last = read_in_a_child([*folders, cache], 60)
    assert len(told) == 4 and all(line.startswith("refused") and "shard-00000.h5" in line for line in told)
    assert "shard-00001.h5: is not a regular file" in last


def test_real_malformed_files_as_shards(cache: Path, tmp_path: Path, test_data: Path) -> None:
    """Whatever the manifest says of them, none is read as a cache, and none ends the process."""
    folders = []
    for number, file in enumerate(sorted((test_data / "nasty_hdf5").glob("*files/*"))):
        folder = shutil.copytree(cache, tmp_path / str(number))
        shutil.copy(file, folder / "shard-00000.h5")
        forge(folder)
        folders.append(folder)
    told = read_in_a_child(folders, 300)
    assert len(told) == len(folders) > 60
    assert all(line.startswith("refused") and "shard-00000.h5" in line for line in told)


def test_a_shard_that_was_touched_is_compared_before_hdf5_sees_it(cache: Path) -> None:
    manifest, path = cache / "manifest.json", cache / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    path.write_bytes(data)  # as a copy would: newer, the same
    os.utime(path, ns=(0, manifest.stat().st_mtime_ns + 10**9))
    read(cache)
    assert path.stat().st_mtime_ns == manifest.stat().st_mtime_ns  # and is not compared again
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(0, manifest.stat().st_mtime_ns + 10**9))
    with pytest.raises(ItmkitError, match=r"shard-00000\.h5: its content is not what was written; restore it"):
        read(cache)
    path.write_bytes(data[:-1])
    with pytest.raises(ItmkitError, match=r"shard-00000\.h5: has [\d,]+ bytes, [\d,]+ were written"):
        read(cache)


def test_errors_of_hdf5_while_reading_name_the_file(cache: Path) -> None:
    """A chunk that lies beyond the end of the file."""
    path = cache / "shard-00000.h5"
    with h5py.File(path, "r") as shard:
        place = shard["features"].id.get_chunk_info(0).byte_offset
    data = path.read_bytes()
    assert data.count(place.to_bytes(8, "little")) >= 1
    path.write_bytes(data.replace(place.to_bytes(8, "little"), (1 << 40).to_bytes(8, "little")))
    forge(cache)
    with pytest.raises(ItmkitError, match=r"shard-00000\.h5"):
        read(cache)


def test_links_in_ids_and_offsets_are_refused(cache: Path) -> None:
    for name in ("ids", "tokens.offsets"):
        with h5py.File(cache / "shard-00000.h5", "r+") as shard:
            shard[f"away.{name}"] = shard[name]
            del shard[name]
            shard[name] = h5py.SoftLink(f"/away.{name}")
        forge(cache)
        with pytest.raises(ItmkitError, match="SoftLink"):
            read(cache)
        with h5py.File(cache / "shard-00000.h5", "r+") as shard:
            del shard[name]
            shard[name] = shard[f"away.{name}"]


def test_offsets_that_do_not_fit(cache: Path) -> None:
    with h5py.File(cache / "shard-00000.h5", "r+") as shard:
        shard["tokens.offsets"][...] = [0, 900, 6]
    forge(cache)
    with pytest.raises(ItmkitError, match="offsets of 'tokens' do not fit"):
        read(cache)


def test_columns_are_names_not_paths(cache: Path) -> None:
    manifest = json.loads((cache / "manifest.json").read_text())
    manifest["columns"]["sub/features"] = manifest["columns"]["features"]
    del manifest["tables_sha256"]  # whoever writes such a manifest need not give it
    (cache / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ItmkitError, match="no name of a data set"):
        CacheReader.open(cache).read("sub/features", [0])


@pytest.mark.parametrize("kept", [0, 100, -50])
def test_truncated_shard(cache: Path, kept: int) -> None:
    path = cache / "shard-00000.h5"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ItmkitError, match=r"shard-00000\.h5"):
        read(cache)
    assert "content is not what was written" in CacheReader.open(cache).verify()[0]
    with pytest.raises(ItmkitError, match=r"bytes, [\d,]+ were written; restore it, or run `itmkit test --force`"):
        write(cache)


def test_missing_shard(cache: Path) -> None:
    (cache / "shard-00001.h5").unlink()
    with pytest.raises(ItmkitError, match=r"shard-00001\.h5"):
        read(cache)
    assert "missing" in CacheReader.open(cache).verify()[0]
    with pytest.raises(ItmkitError, match="is missing; restore it"):
        write(cache)


def test_changed_byte_is_found_by_verify(cache: Path) -> None:
    path = cache / "shard-00001.h5"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert len(CacheReader.open(cache).verify()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "made_by": {"stage": 3, "x": 1}}',
        "[" * 100_000, "\xff",
    ],
)  # fmt: skip
def test_damaged_manifest(cache: Path, text: str) -> None:
    (cache / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ItmkitError, match=r"manifest\.json"):
        read(cache)


def test_manifest_that_names_files_elsewhere(cache: Path) -> None:
    manifest = json.loads((cache / "manifest.json").read_text())
    manifest["shards"][0]["file"] = "../secret.h5"
    (cache / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ItmkitError, match="outside the cache folder"):
        read(cache)


def test_failed_writes_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in the middle of a shard: the finished shards stay, and a rerun finishes."""
    written = 0
    write_whole = ShardFile.write

    class Full:
        """A file on a disk of 3 MB."""

        def __init__(self, file: object) -> None:
            self.file = file

        def write(self, data: memoryview) -> int:
            nonlocal written
            written += len(data)
            if written > 3_000_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)  # type: ignore[attr-defined,no-any-return]

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    def limited(self: ShardFile, data: bytes) -> int:
        if not isinstance(self._file, Full):
            self._file = Full(self._file)  # type: ignore[assignment]
        return write_whole(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(ShardFile, "write", limited)
        with pytest.raises(OSError, match="No space left") as caught:
            write(tmp_path / "cache", width=500, count=20)
    assert caught.value.errno == errno.ENOSPC and "shard-" in str(caught.value.filename)
    assert not list((tmp_path / "cache").glob("*partial"))
    shards = len(list((tmp_path / "cache").glob("shard*")))
    assert 0 < shards < 10
    write(tmp_path / "cache", width=500, count=20)
    write(tmp_path / "whole", width=500, count=20)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cache" / path.name).read_bytes()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root, to mount a small disk")
def test_full_disk(tmp_path: Path) -> None:
    """The same on a disk that is really full, in a process of its own: HDF5 used to end it with a signal."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        code = (
            "import sys; from pathlib import Path; import click; from itmkit.commands.console import run;"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_damage import write;"
            f"fill = lambda: write(Path({str(disk)!r}) / 'c', width=5000, count=90);"
            "sys.exit(run(click.Command('x', callback=fill)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write(tmp_path / "cache")
    tmp_path.chmod(0o700)


def test_string_tables_that_changed(tmp_path: Path) -> None:
    folder = tmp_path / "named"
    columns = {"words": Column("int32")}
    with CacheWriter.open(
        folder, made_by=MadeBy("test"), columns=columns, keys=["a"], tables={"words": ["dog", "cat"]}
    ) as writer:
        for shard, part in writer.pending():
            with writer.shard(shard) as out:
                out.append(part, {"words": np.array([1])})
    manifest = folder / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole.replace('"dog"', '"dig"'))
    with pytest.raises(ItmkitError, match=r"manifest\.json: its tables or columns are not what was written"):
        CacheReader.open(folder)
    assert "its tables or columns" in CacheReader(folder, read_manifest(folder)).verify()[0]  # type: ignore[arg-type]
    for complete in ("true", "false"):  # nor is it continued
        manifest.write_text(manifest.read_text().replace('"complete": true', f'"complete": {complete}'))
        with pytest.raises(ItmkitError, match="its tables or columns are not what was written"):
            CacheWriter.open(folder, made_by=MadeBy("test"), columns=columns, keys=["a"])
    older = json.loads(whole.replace('"dog"', '"dig"'))
    del older["tables_sha256"]
    manifest.write_text(json.dumps(older))
    assert CacheReader.open(folder).tables["words"] == ["dig", "cat"]

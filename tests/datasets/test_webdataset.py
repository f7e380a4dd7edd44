from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from itmkit.datasets.pair_rows import USUAL_COLUMNS
from itmkit.datasets.skip import Problems, Skip
from itmkit.datasets.unpacked import FOLDER
from itmkit.datasets.webdataset import _rows, prepare_webdataset, shards_in
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.datasets.packed_files import img2dataset_sample, picture, write_tar
from tests.workspaces import close


def test_the_layout_of_clip_benchmark(tmp_path: Path) -> None:
    folder, work = tmp_path / "wds_flickr30k", Workspace(tmp_path / "work")
    for shard in (0, 1):
        samples = []
        for number in (2 * shard, 2 * shard + 1):
            captions = "\n".join(f"Caption {k} of {number}." for k in range(5))
            samples += [(f"s{number:07}.jpg", picture(number)), (f"s{number:07}.txt", captions.encode())]
        write_tar(folder / "test" / f"{shard}.tar", samples)
    (folder / "test" / "nshards.txt").write_text("2")
    (folder / "dataset_type.txt").write_text("retrieval")
    result = prepare_webdataset(work, [folder])
    assert result.counts == {"test": {"images": 4, "captions": 20}}
    first = work.dataset().images[0]
    assert (first.id, first.captions[4].text) == ("test/0/s0000000.jpg", "Caption 4 of 0.")
    assert first.file is not None and (work.root / first.file).read_bytes() == picture(0)
    assert prepare_webdataset(work, [folder]).unchanged


def test_shards_of_img2dataset(tmp_path: Path) -> None:
    folder, work = tmp_path / "out", Workspace(tmp_path / "work")
    write_tar(folder / "00000.tar", [part for n in range(3) for part in img2dataset_sample(n, f"A {n},\nred.")])
    (folder / "00000.parquet").write_bytes(b"PAR1")
    (folder / "00000_stats.json").write_text("{}")
    prepare_webdataset(work, [folder], split="train")
    images = work.dataset().images
    assert [image.id for image in images] == [f"00000/{n:09}.jpg" for n in range(3)]
    assert [caption.text for caption in images[0].captions] == ["A 0,\nred."]  # of the JSON, not two lines
    write_tar(folder / "00001.tar", img2dataset_sample(10000, "New"))
    added = prepare_webdataset(work, [folder], split="train", add=True)
    assert "new images: 1; there already: 3" in added.notes and work.dataset().images[:3] == images


def test_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "2", "b2/1", "a"):
        write_tar(tmp_path / f"{name}.tar", [])
    assert [path.stem for path in shards_in(tmp_path, [], [])] == ["2", "10", "a", "1"]


def test_closed_folders_of_shards_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workspace(tmp_path / "work")
    for number, split in enumerate(("train", "test")):
        write_tar(tmp_path / "wds" / split / "0.tar", [("a.jpg", picture(number)), ("a.txt", b"A")])
    (tmp_path / "wds" / "link").symlink_to(tmp_path / "wds" / "train")
    close(monkeypatch, tmp_path / "wds" / "test")
    with pytest.raises(ItmkitError, match=r"test: cannot be looked into .*--skip-damaged"):
        prepare_webdataset(work, [tmp_path / "wds"])
    result = prepare_webdataset(work, [tmp_path / "wds"], skip=Skip(damaged=True))
    assert set(result.counts) == {"train"} and len(result.left_out) == 1
    assert "links to folders are not followed: 1" in result.notes[0]


def hostile(kind: bytes, name: str, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_nothing_leaves_the_folder_and_all_problems_are_told(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "deep" / "work")
    shard = write_tar(
        tmp_path / "train.tar",
        [
            ("../../evil.jpg", picture(1)),
            ("../../evil.txt", b"Up."),
            ("/abs.png", picture(2, "PNG")),
            ("/abs.txt", b"Root."),
            ("a.jpg", hostile(tarfile.SYMTYPE, "a.jpg")),
            ("a.txt", b"A link."),
            ("b.jpg", hostile(tarfile.LNKTYPE, "b.jpg")),
            ("c.jpg", picture(3)),
            ("d.txt", b"No picture."),
            ("e.jpg", picture(4)),
            ("e.txt", b"caf\xe9"),
            ("f.jpg", picture(4)),
            ("f.json", b"[" * 100000),
        ],
    )
    with pytest.raises(ItmkitError) as caught:
        prepare_webdataset(work, [shard])
    told = "\n".join(caught.value.problems)
    for part in (
        "train.tar: a: a.jpg is a link, a device or a sparse file",
        "b.jpg is a link",
        "train.tar: c: has no caption",
        "train.tar: d: has no picture",
        "train.tar: e: its .txt or .json is not UTF-8",
        "train.tar: f: its .txt or .json is not UTF-8",
    ):
        assert part in told, part
    assert not work.root.exists()
    result = prepare_webdataset(work, [shard], skip=Skip(damaged=True, empty=True))
    assert (result.counts, len(result.left_out)) == ({"train": {"images": 2, "captions": 2}}, 6)
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png")]
    assert len(files) == 2 and all((work.root / FOLDER) in path.parents for path in files)


def test_archives_that_are_packed_cut_short_or_bombs(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    whole = write_tar(tmp_path / "a.tar", [part for n in range(4) for part in img2dataset_sample(n, "A")])
    with tarfile.open(tmp_path / "b.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x.jpg"))
    (tmp_path / "c.tar").write_bytes(whole.read_bytes()[: 9 * 512 + 100])
    damaged = bytearray(whole.read_bytes())
    with tarfile.open(whole) as archive:
        damaged[archive.getmembers()[4].offset + 150] ^= 7  # in the checksum of a header
    (tmp_path / "d.tar").write_bytes(damaged)
    long = tarfile.TarInfo("x.jpg")
    long.pax_headers = {"comment": "x" * (2 << 20)}
    with tarfile.open(tmp_path / "e.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(long)
    (tmp_path / "f.tar").write_bytes(b"no tar" * 200)
    names = [tmp_path / f"{name}.tar" for name in "bcdef"]
    with pytest.raises(ItmkitError) as caught:
        prepare_webdataset(work, [*names, tmp_path / "g.tar"])
    told = "\n".join(caught.value.problems)
    for part in (
        "b.tar: is packed with gzip",
        "c.tar: is ",
        "d.tar: is cut short or damaged after 000000001.jpg",
        "e.tar: is no tar archive, or a damaged one (a name or attributes of 2,0",
        "f.tar: is no tar archive",
        "g.tar: no such file",
    ):
        assert part in told, part


def test_pictures_unpacked_for_nothing_go_again(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    shard = write_tar(
        tmp_path / "val.tar", [("a.jpg", b"no picture"), ("a.txt", b"A"), ("b.jpg", picture()), ("b.txt", b"B")]
    )
    with pytest.raises(ItmkitError, match="1 of 2 pictures are no use"):
        prepare_webdataset(work, [shard])
    assert not (work.root / FOLDER).exists()
    assert prepare_webdataset(work, [shard], skip=Skip(damaged=True)).counts == {"val": {"images": 1, "captions": 1}}
    kept = sorted((work.root / FOLDER).rglob("*.jpg"))
    other = write_tar(tmp_path / "test.tar", [("c.jpg", picture(5)), ("c.txt", b"C")])
    with pytest.raises(ItmkitError, match="another data set is there already"):
        prepare_webdataset(work, [other])
    assert sorted((work.root / FOLDER).rglob("*.jpg")) == kept


def test_an_unpacked_picture_that_is_damaged_is_written_again(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    shard = write_tar(tmp_path / "val.tar", [("a.jpg", picture()), ("a.txt", b"A")])
    prepare_webdataset(work, [shard])
    (file,) = (path for path in (work.root / FOLDER).rglob("*") if path.is_file())
    file.write_bytes(picture()[:-1] + b"x")
    other = write_tar(tmp_path / "train.tar", [("a.jpg", picture()), ("a.txt", b"A"), ("b.jpg", b"x"), ("b.txt", b"B")])
    with pytest.raises(ItmkitError, match="1 of 2 pictures are no use"):
        prepare_webdataset(work, [other], force=True)
    assert file.read_bytes() == picture()  # the data set that is there names it
    assert prepare_webdataset(work, [shard]).unchanged


def test_pictures_of_a_data_set_that_is_written_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are on the disk before it, and whatever comes after, such as a full disk, does not remove them."""
    work = Workspace(tmp_path / "work")
    shard = write_tar(tmp_path / "val.tar", [("a.jpg", picture()), ("a.txt", b"A"), ("b.txt", b"B")])
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))

    def full(path: Path, text: str) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("itmkit.datasets.prepared.write_text", full)
    with pytest.raises(OSError, match="No space"):
        prepare_webdataset(work, [shard], skip=Skip(damaged=True))
    (image,) = work.dataset().images
    file = work.image_path(str(image.file))
    assert file.read_bytes() == picture()
    assert flushed.index(file.stat().st_ino) < flushed.index(work.dataset_path.stat().st_ino)


def test_memory_does_not_hold_the_shard(tmp_path: Path) -> None:
    """Thousands of samples with megabytes of pictures, of which no more than one is held."""
    block = bytes(64 << 10)
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(300):
            for name, data in ((f"{number}.jpg", block), (f"{number}.txt", b"A dog on a beach.")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    problems = Problems()
    tracemalloc.start()
    try:
        count = sum(1 for _ in _rows(tmp_path / "0.tar", "0", None, "train", USUAL_COLUMNS, problems))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 300 and peak < 2 << 20 and not problems.damaged

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.cache import CacheReader
from itmkit.errors import ItmkitError
from itmkit.import_features import picture_files
from itmkit.import_features.named_arrays import WrongFile, region_set
from itmkit.import_features.npz import parse_npz
from itmkit.import_features.region_sets import RegionSet
from itmkit.import_features.sets import import_npz, import_picture_files
from itmkit.workspace import Workspace
from tests.import_features.feature_files import data_set, drawn, write_npz

NAMES = ["COCO_val2014_000000000042.jpg", "7.jpg", "9.jpg", "missing.jpg"]


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return data_set(tmp_path / "work", ["a", "b", "c", "d"], [f"images/{name}" for name in NAMES])


def test_exact_values_of_variable_numbers_of_boxes(tmp_path: Path, work: Workspace) -> None:
    rows = [drawn(key, count) for key, count in zip([*NAMES[:3], "other"], (3, 5, 1, 2), strict=True)]
    for number, row in enumerate(rows):
        write_npz(tmp_path / "npz" / f"part{number % 2}", row, info=number != 2, bbox=row["boxes"].astype(np.float64))
    result = import_npz(work, tmp_path / "npz", shard_size=3, regions=6)
    assert (result.images, result.regions, result.dim, result.left_out) == (3, 6, 6, 1)
    assert result.matched_by == "file name" and [item["id"] for item in result.skipped] == ["d"]
    assert len(result.notes) == 1 and "'info' of 3 files is a pickled Python object" in result.notes[0]
    reader = CacheReader.open(work.cache("regions"))
    assert reader.ids == ["a", "b", "c"] and reader.read_all("count").tolist() == [3, 5, 1]
    for place, row in enumerate(rows[:3]):
        features, boxes = reader.read_all("features")[place], reader.read_all("boxes")[place]
        assert (
            np.array_equal(features[: row["n"]], row["features"].astype(np.float16)) and not features[row["n"] :].any()
        )
        assert np.array_equal(boxes[: row["n"]], row["boxes"])
    assert import_npz(work, tmp_path / "npz", shard_size=3, regions=6).unchanged
    write_npz(tmp_path / "npz" / "part0", drawn("9.jpg", 4))
    with pytest.raises(ItmkitError, match="files_sha256 changed"):
        import_npz(work, tmp_path / "npz", shard_size=3, regions=6)


class Boom:
    """Would say so if it were unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch unpickled",)


def test_nothing_is_unpickled(tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = drawn("7.jpg")
    write_npz(tmp_path / "npz", row, info=np.array(Boom(), dtype=object))
    import_npz(work, tmp_path / "npz")
    write_npz(tmp_path / "npz", row, x=np.array([Boom()] * 3, dtype=object))
    with pytest.raises(ItmkitError, match=r"x: holds Python objects or records.* in file 7\.jpg\.npz"):
        import_npz(work, tmp_path / "npz", force=True)
    assert not (tmp_path / "unpickled").exists()


def header(shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})  # type: ignore[no-untyped-call]
    return out.getvalue()


def archive(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an .npz file"),
        (b"PK\x03\x04 no", "not an .npz file"),
        (archive({}), "no array 'x'"),
        (archive({"x.npy": b"\x80"}), "x: not an array file"),
        (archive({"x.npy": pickle.dumps([1])}), "x: is a Python pickle, which is never read"),
        # a few kB that would unpack to 65 MB, or whose header says so
        (archive({"x.npy": header((36, 2048)) + bytes(65 << 20)}), "would unpack to more than"),
        (archive({"x.npy": header((1 << 30, 2048)) + bytes(64)}), "bytes, its header says"),
        (archive({"x.npy": header((2, 3)) + bytes(25)}), "bytes, its header says"),
        (archive({"x.npy": header((0, 3))}, zipfile.ZIP_LZMA), "packed in a way"),
        (archive({f"{k}.npy": b"" for k in range(101)}), "too many arrays"),
    ],
    ids=range(10),
)
def test_hostile_archives(data: bytes, reason: str) -> None:
    with pytest.raises(WrongFile, match=reason):
        parse_npz(data)


def test_a_size_that_the_zip_directory_hides(tmp_path: Path) -> None:
    """The directory says few bytes, the packed stream holds 50 MB: no more than the directory says is unpacked."""
    data = bytearray(archive({"x.npy": header((2, 3)) + bytes(50 << 20)}))
    start = data.index(b"PK\x01\x02")
    data[start + 24 : start + 28] = struct.pack("<I", len(header((2, 3))) + 24)
    with pytest.raises(WrongFile, match="BadZipFile"):
        parse_npz(bytes(data))


def test_all_problems_at_once(tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "npz"
    write_npz(folder, drawn("0"))
    write_npz(folder, {**drawn("a"), "n": 4})
    write_npz(folder, {**drawn("b"), "features": np.full((3, 6), np.inf, np.float32)})
    write_npz(folder, drawn("c"), x=drawn("c")["features"][:2])
    write_npz(folder, drawn("d"), image_h=None)
    write_npz(folder, drawn("e"), image_w=np.array([100.5]))
    write_npz(folder, drawn("f"), bbox=np.full((3, 4), 1e300))
    write_npz(folder, drawn("g", dim=7))
    write_npz(folder / "more", drawn("a"))
    write_npz(folder / "other", drawn("a", 2))
    write_npz(folder, drawn("j", dim=0))
    (folder / "h.npz").write_bytes(write_npz(folder, drawn("h")).read_bytes()[:-30])
    os.mkfifo(folder / "i.npz")
    with pytest.raises(ItmkitError) as caught:
        import_npz(work, folder)
    text = "\n".join(caught.value.problems)
    for part in (
        "x has shape (3, 6) of float32, float32 (4, D) is needed for num_bbox 4 in file a.npz",
        "float16's 65504 among the features in file b.npz",
        "x has shape (2, 6) of float32",
        "no array 'image_h' in file d.npz",
        "image_w is no whole number in file e.npz",
        "NaN or infinity among the boxes in file f.npz",
        "7 numbers a box, 6 in the first in file g.npz",
        "the name of more/a.npz again in file other/a.npz",
        "a damaged one (BadZipFile) in file h.npz",
        "no regular file in file i.npz",
        "x has shape (3, 0) of float32, float32 (3, D) is needed for num_bbox 3 in file j.npz",
    ):
        assert part in text, part
    assert not work.cache("regions").exists()
    monkeypatch.setattr(picture_files, "MOST_BYTES", 100)
    with pytest.raises(ItmkitError, match="more than 0 MiB"):
        import_npz(work, folder)
    with pytest.raises(ItmkitError, match="no such folder"):
        import_npz(work, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ItmkitError, match=r"holds no \.npz"):
        import_npz(work, tmp_path / "empty")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_a_reason_or_a_whole_region_set(data: st.DataObject) -> None:
    row = drawn("1", 2, 3)
    out = io.BytesIO()
    np.savez(out, x=row["features"], bbox=row["boxes"], num_bbox=2, image_h=60, image_w=100)
    content = bytearray(out.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found, _ = parse_npz(bytes(content))
    except WrongFile as error:
        assert str(error)
        return
    assert isinstance(found, RegionSet) and (found.boxes is None or found.boxes.shape == (len(found), 4))


def test_what_is_left_out_and_what_is_passed_over(tmp_path: Path) -> None:
    folder, keys = tmp_path / "npz", ["a", "b", "c", "d"]
    work = data_set(tmp_path / "work", keys)
    for key in keys:
        write_npz(folder, {**drawn(key), "boxes": np.tile(np.float32([0.5, 0, 1, 0.5]), (3, 1))})
    write_npz(folder / "more", {**drawn(keys[0]), "boxes": np.tile(np.float32([0.5, 0, 1, 0.5]), (3, 1))})
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._a.npz").write_bytes(b"\0\5\x16\7")
    (folder / "._b.npz").write_bytes(b"\0\5\x16\7")
    (folder / f"{keys[1]}.npz").write_bytes(b"broken")
    write_npz(folder, {**drawn(keys[2]), "boxes": np.zeros((3, 4), np.float32)})
    with pytest.raises(ItmkitError, match=rf"no box with an area.* in file {keys[2]}.npz"):
        import_npz(work, folder)
    result = import_npz(work, folder, skip_damaged=True)
    assert result.repeated == 1 and len(result.damaged) == 2 and "between 0 and 1" in result.notes[-1]
    reader = CacheReader.open(work.cache("regions"))
    assert reader.ids == [keys[0], *keys[3:]]
    assert reader.read_all("boxes")[0, 0].tolist() == [50, 0, 100, 30]


def test_features_that_seem_transposed_are_refused_where_no_boxes_tell() -> None:
    turned = np.zeros((2048, 36), np.float32)
    with pytest.raises(WrongFile, match=r"shape \(2048, 36\): 2048 regions of 36 numbers seem transposed"):
        region_set({"x"}, lambda name: turned)
    assert len(region_set({"x"}, lambda name: turned, np.zeros((36, 4)))) == 36
    assert len(region_set({"x"}, lambda name: turned.T)) == 36


def test_folders_that_are_links_are_read_and_circles_end(tmp_path: Path, work: Workspace) -> None:
    for name in ("npz", "disk"):
        write_npz(tmp_path / name, drawn("7" if name == "npz" else "9"))
    (tmp_path / "npz" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "npz")
    result = import_npz(work, tmp_path / "npz")
    assert (result.images, result.repeated) == (2, 0)


def test_the_folder_of_boxes_may_lie_within(tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "npy" / "box").mkdir(parents=True)
    row = drawn("7")
    np.save(tmp_path / "npy" / f"{row['id']}.npy", row["features"])
    np.save(tmp_path / "npy" / "box" / f"{row['id']}.npy", row["boxes"])
    monkeypatch.chdir(tmp_path)
    for boxes in (tmp_path / "npy" / "box", Path("npy/../npy/box")):
        assert import_picture_files(work, Path("npy"), ".npy", boxes=boxes).extras == ("boxes", "sizes")

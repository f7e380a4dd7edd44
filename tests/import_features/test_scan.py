from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itmkit.cache import CacheReader
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.import_features import npy
from itmkit.import_features.scan import import_scan
from itmkit.import_features.scan_check import CheckOptions
from itmkit.import_features.scan_columns import split_tag
from itmkit.inputs import Needs
from itmkit.inputs.images import ImageInputs
from itmkit.status import status
from itmkit.workspace import Workspace
from tests.import_features.scan_folder import write_scan


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


def regions(work: Workspace) -> CacheReader:
    return CacheReader.open(work.cache("regions"))


def tags_of(reader: CacheReader) -> list[list[str]]:
    colours, classes = reader.tables["attributes"], reader.tables["tags"]
    pairs = zip(reader.read_all("attributes"), reader.read_all("tags"), strict=True)
    return [[f"{colours[a]} {classes[t]}" for a, t in zip(*pair, strict=True)] for pair in pairs]


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4"])
def test_exact_values(tmp_path: Path, work: Workspace, dtype: str) -> None:
    content = write_scan(tmp_path / "scan", dtype=dtype)
    dev = write_scan(tmp_path / "scan", "dev", dtype=dtype)
    result = import_scan(work, tmp_path / "scan", shard_size=3)
    reader = regions(work)
    assert result.images == 8 and result.captions == 40 and result.splits == {"train": 4, "val": 4}
    assert reader.ids == content["ids"] + dev["ids"] and len(reader.manifest.shards) == 3
    both = {key: np.concatenate([content[key], dev[key]]) for key in ("ims", "boxes", "scores", "sizes")}
    assert np.array_equal(reader.read_all("features"), both["ims"].astype(np.float16))
    assert np.array_equal(reader.read_all("boxes"), both["boxes"])
    assert np.array_equal(reader.read_all("scores"), both["scores"])
    assert np.array_equal(reader.read_all("size"), both["sizes"])
    assert np.array_equal(reader.read_all("count"), [3] * 8)
    assert tags_of(reader) == content["tags"] + dev["tags"]
    dataset = work.dataset()
    assert dataset.kind == "scan" and dataset.images[0].file is None
    assert dataset.images[0].captions[1] == Caption("train0.jpg#1", content["caps"][1])
    assert dataset.images[0].width == content["sizes"][0, 0]
    assert [state.state for state in status(work)[:2]] == ["done", "done"]


def test_features_kept_exactly_reach_the_matcher(tmp_path: Path, work: Workspace) -> None:
    content = write_scan(tmp_path / "scan", dtype="float32")
    import_scan(work, tmp_path / "scan", exact=True)
    assert regions(work).columns["features"].dtype == "float32"
    assert np.array_equal(regions(work).read_all("features"), content["ims"])
    assert not np.array_equal(content["ims"], content["ims"].astype(np.float16))
    batch = ImageInputs(work, work.dataset().images, Needs()).batch(np.arange(4))
    assert np.array_equal(batch.features.numpy(), content["ims"])
    with pytest.raises(ItmkitError, match="--force"):
        import_scan(work, tmp_path / "scan")


@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize("ids", ["picture", "row", "caption", None])
def test_unique_rows_and_repeated_rows_give_the_same(tmp_path: Path, repeat: bool, ids: str | None) -> None:
    """One row a picture or one a caption, ids a picture, a row or a caption: each way the same pictures."""
    expected = write_scan(tmp_path / "unique")
    write_scan(tmp_path / "scan", repeat=repeat, ids=ids)
    work = Workspace(tmp_path / "work")
    result = import_scan(work, tmp_path / "scan")
    assert (result.images, result.captions, result.repeated) == (4, 20, 16 if repeat else 0)
    reader = regions(work)
    assert np.array_equal(reader.read_all("features"), expected["ims"].astype(np.float16))
    assert np.array_equal(reader.read_all("boxes"), expected["boxes"])
    assert tags_of(reader) == expected["tags"]
    names = expected["ids"] if ids else [f"train-{i}" for i in range(4)]
    assert reader.ids == names
    images = work.dataset().images
    assert [len(image.captions) for image in images] == [5] * 4
    assert [caption.text for image in images for caption in image.captions] == expected["caps"]


def test_ids_of_captions_where_rows_repeat(tmp_path: Path, work: Workspace) -> None:
    """Releases exist whose id file numbers the captions 0, 1, 2, ...: bit-equal neighbours are one picture."""
    write_scan(tmp_path / "scan", repeat=True, ids=None)
    (tmp_path / "scan" / "train_ids.txt").write_text("".join(f"{i}\n" for i in range(20)))
    assert import_scan(work, tmp_path / "scan").images == 4
    assert regions(work).ids == ["0", "5", "10", "15"]


def test_mixed_release(tmp_path: Path, work: Workspace) -> None:
    """As f30k_precomp: unique rows for train, a row a caption for dev."""
    write_scan(tmp_path / "scan", "train", pictures=6)
    write_scan(tmp_path / "scan", "dev", repeat=True)
    result = import_scan(work, tmp_path / "scan")
    assert result.splits == {"train": 6, "val": 4} and result.repeated == 16


def test_testall_is_preferred(tmp_path: Path, work: Workspace) -> None:
    for name in ("test", "testall"):
        write_scan(tmp_path / "scan", name)
    result = import_scan(work, tmp_path / "scan")
    assert regions(work).ids[0] == "testall0.jpg" and result.splits == {"test": 4}
    assert "testall" in result.notes[0]
    other = Workspace(work.root.with_name("other"))
    import_scan(other, tmp_path / "scan", split_map={"test": "test", "testall": "-"})
    assert regions(other).ids[0] == "test0.jpg"


def test_captions_are_text_not_bytes(tmp_path: Path, work: Workspace) -> None:
    """Code that opened caption files as bytes and called str() got words such as b'A, and lost accents."""
    caps = ["Un café à l’angle .", "A dog's ball \u2028 and more .", "b is a letter"]
    write_scan(tmp_path / "scan", pictures=1, captions=3, caps=caps)
    path = tmp_path / "scan" / "train_caps.txt"
    assert not path.read_bytes().endswith(b"\n")
    import_scan(work, tmp_path / "scan")
    read = [caps[0].replace("’", "'"), *caps[1:]]
    assert [caption.text for caption in work.dataset().images[0].captions] == read
    path.write_text("\r\n".join(caps) + "\r\n", encoding="utf-8", newline="")
    import_scan(work, tmp_path / "scan", force=True)
    assert [caption.text for caption in work.dataset().images[0].captions] == read
    path.write_text("".join(f"{text.encode()!r}\n" for text in caps))
    with pytest.raises(ItmkitError, match=r"b'\.\.\.'"):
        import_scan(work, tmp_path / "scan", force=True)


def test_not_utf8(tmp_path: Path, work: Workspace) -> None:
    write_scan(tmp_path / "scan", pictures=1, captions=2)
    (tmp_path / "scan" / "train_caps.txt").write_bytes("ein Hund\nein Bär\n".encode("latin-1"))
    with pytest.raises(ItmkitError, match=r"train_caps.txt: line 2: byte 14 \(0xe4\) is not UTF-8"):
        import_scan(work, tmp_path / "scan")
    assert not work.dataset_path.exists() and not work.cache("regions").exists()


def bad(**replaced: Any) -> dict[str, Any]:
    return replaced


def damaged(value: float, dtype: Any = np.float32) -> np.ndarray:
    array = np.ones((4, 3, 6), dtype)
    array[2, 1, 3] = value
    return array


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (bad(ims=damaged(np.nan)), r"train_ims.npy: NaN or values beyond.* row 2 \(picture train2.jpg: nan\)"),
        (bad(ims=damaged(np.nan, np.float16)), r"row 2 \(picture train2.jpg"),
        (bad(ims=damaged(-70000.0)), r"row 2 \(picture train2.jpg: -70000\)"),
        (bad(ims=np.ones((4, 3, 6), np.float64)), "float16 or float32"),
        (bad(ims=np.ones((4, 6), np.float32)), r"shape \(4, 6\).*array\[:, None\]"),
        (bad(ims=np.ones((4, 600, 3), np.float32)), r"seem transposed"),
        (bad(ims=np.ones((4, 3, 6), np.float32).astype(object)), "Python objects"),
        (bad(ims=np.asfortranarray(damaged(1))), "column by column"),
        (bad(caps=["a"] * 19), "19 captions for 4 rows"),
        (bad(caps=["a"] * 19 + [" "]), "line 20 without a caption"),
        (bad(caps=[]), r"train_caps.txt: holds no captions"),
        (bad(caps=["a"] * 19 + ["&nbsp;"]), "line 20 without a caption"),
        (bad(ids=["a"] * 7), "7 ids for 4 rows"),
        (bad(ids=["a", "b", "c", "a"]), r"different features under the same id 'a' \(rows 0 and 3\)"),
        (bad(ids=["a", "", "b", "c"]), "line 2 of the ids is empty"),
        (bad(boxes=np.ones((4, 3, 29), np.float32)), r"\(4, 3, 29\).*or 30 or 31 columns, block positions"),
        (bad(boxes=np.full((4, 3, 30), 257, np.float32)), "block numbers.*from 0 to 256 in rows 0 .picture train0"),
        (bad(boxes=np.full((4, 3, 31), 0.5, np.float32)), "block numbers that are not whole"),
        (bad(boxes=np.full((4, 3, 30), np.nan, np.float32)), "shares that are negative, NaN or infinite in rows 0"),
        (bad(boxes=np.ones((4, 2, 4), np.float32)), r"shape \(4, 2, 4\).*\(4, 3, 4\) expected"),
        (bad(boxes=np.tile(np.float32([5, 5, 1, 9]), (4, 3, 1))), r"x2 < x1.*rows 0 \(picture train0.jpg\)"),
        (bad(boxes=np.tile(np.float32([5, 5, 9, 9999]), (4, 3, 1))), "beyond the edge"),
        (
            bad(boxes=np.zeros((4, 3, 4), np.float32)),
            r"train_boxes.npy: no box with an area .* rows 0 \(picture train0",
        ),
        (bad(scores=np.full((4, 3), np.inf, np.float32)), "train_scores.npy: NaN or infinity in rows 0"),
        (bad(sizes=np.zeros((4, 2), np.int32)), "not a size in pixels"),
        (bad(tags=[["red dog"] * 3] * 3), "3 rows of tags for 4 rows"),
        (bad(tags=[["red dog"] * 2] * 4), r"3 tags a row.*rows 0 \(2 tags\)"),
        (bad(tags=[[1, 2, 3]] * 4), "row 0: must be a list of strings"),
    ],
)
def test_bad_files(tmp_path: Path, work: Workspace, replaced: dict[str, Any], message: str) -> None:
    write_scan(tmp_path / "scan", **replaced)
    with pytest.raises(ItmkitError, match=message):
        import_scan(work, tmp_path / "scan")
    assert not work.root.exists()


def test_all_problems_at_once(tmp_path: Path, work: Workspace) -> None:
    write_scan(tmp_path / "scan", "train", ims=damaged(np.inf), caps=["a"] * 19)
    write_scan(tmp_path / "scan", "dev", regions=2)
    (tmp_path / "scan" / "dev_caps.txt").unlink()
    np.save(tmp_path / "scan" / "test_ims.npy", np.zeros((2, 3, 6), np.float32))
    with pytest.raises(ItmkitError) as caught:
        import_scan(work, tmp_path / "scan")
    text = "\n".join(caught.value.problems)
    for part in ("train_ims.npy: NaN", "19 captions for 4", "dev_caps.txt: no such", "test_caps.txt: no such"):
        assert part in text
    assert "2 regions x 6" in text


def test_splits_must_agree(tmp_path: Path, work: Workspace) -> None:
    write_scan(tmp_path / "scan", "train")
    write_scan(tmp_path / "scan", "dev", ids=None, extras=("sizes", "scores", "tags"))
    (tmp_path / "scan" / "dev_ids.txt").write_text("a\nb\ntrain1.jpg\nc\n")
    with pytest.raises(ItmkitError) as caught:
        import_scan(work, tmp_path / "scan")
    text = "\n".join(caught.value.problems)
    assert "train has boxes, dev has not" in text and "1 pictures are in both train and dev (train1.jpg)" in text


def test_sizes_in_the_other_order(tmp_path: Path, work: Workspace) -> None:
    sizes = np.tile([100, 300], (4, 1))
    boxes = np.tile(np.float32([0, 0, 290, 90]), (4, 3, 1))
    write_scan(tmp_path / "scan", sizes=sizes, boxes=boxes)
    with pytest.raises(ItmkitError, match="with --size-order height-width all would fit"):
        import_scan(work, tmp_path / "scan")
    import_scan(work, tmp_path / "scan", options=CheckOptions("height-width"))
    assert regions(work).read_all("size").tolist() == [[300, 100]] * 4


def test_truncated_array(tmp_path: Path, work: Workspace) -> None:
    write_scan(tmp_path / "scan")
    path = tmp_path / "scan" / "train_ims.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ItmkitError, match="the file is incomplete"):
        import_scan(work, tmp_path / "scan")
    path.write_bytes(b"PK\x03\x04 no array")
    with pytest.raises(ItmkitError, match="not an array file"):
        import_scan(work, tmp_path / "scan")


def test_padding_and_empty_pictures(tmp_path: Path, work: Workspace) -> None:
    """Zero vectors at the end are not regions; a picture of zeros only is left out and listed."""
    ims = np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32)
    ims[1, 2] = 0
    ims[2] = 0
    ims[3, 0] = 0  # in the middle: a region like any other
    write_scan(tmp_path / "scan", ims=ims)
    result = import_scan(work, tmp_path / "scan")
    reader = regions(work)
    assert result.skipped == 1 and reader.ids == ["train0.jpg", "train1.jpg", "train3.jpg"]
    assert reader.read_all("count").tolist() == [3, 2, 3]
    assert reader.read_all("tags")[1, 2] == -1 and not reader.read_all("boxes")[1, 2].any()


def test_without_extras(tmp_path: Path, work: Workspace) -> None:
    write_scan(tmp_path / "scan", extras=())
    result = import_scan(work, tmp_path / "scan")
    assert result.extras == ()
    notes = regions(work).manifest.notes
    assert notes["boxes"] is False and notes["sizes"] is False
    assert not regions(work).read_all("boxes").any() and (regions(work).read_all("tags") == -1).all()


def test_again_does_nothing_and_other_files_are_refused(tmp_path: Path, work: Workspace) -> None:
    content = write_scan(tmp_path / "scan")
    import_scan(work, tmp_path / "scan")
    before = {path: path.stat().st_mtime_ns for path in work.root.rglob("*") if path.is_file() and path.name != ".lock"}
    assert import_scan(work, tmp_path / "scan").unchanged
    assert {path: path.stat().st_mtime_ns for path in before} == before
    np.save(tmp_path / "scan" / "train_ims.npy", content["ims"] * 2)
    with pytest.raises(ItmkitError, match=r"files_sha256 changed.*--force"):
        import_scan(work, tmp_path / "scan")
    import_scan(work, tmp_path / "scan", force=True)
    assert np.array_equal(regions(work).read_all("features"), (content["ims"] * 2).astype(np.float16))
    write_scan(tmp_path / "scan", pictures=5)
    with pytest.raises(ItmkitError, match="imported from other files"):
        import_scan(work, tmp_path / "scan")


def test_a_prepared_data_set_stays(tmp_path: Path, work: Workspace) -> None:
    """Features join the data set by id or file name; its captions and splits are kept, its sizes used."""
    write_scan(tmp_path / "scan", extras=("boxes",))
    images = [
        ImageRecord(
            str(100 + i), "val", (Caption(f"c{i}", "mine"),), f"images/train{i}.jpg", width=900, height=800, sha256="0"
        )
        for i in (2, 0, 1, 3)
    ]
    write_dataset(work.dataset_path, images, kind="karpathy", settings={})
    import_scan(work, tmp_path / "scan")
    assert work.dataset().images == images
    assert regions(work).ids == ["100", "101", "102", "103"]
    assert regions(work).read_all("size").tolist() == [[900, 800]] * 4
    assert regions(work).manifest.notes["sizes"] is True
    write_dataset(
        work.dataset_path,
        [*images[:2], ImageRecord("x", "val", (Caption("y", "z"),), "x.jpg")],
        kind="karpathy",
        settings={},
    )
    with pytest.raises(ItmkitError) as caught:
        import_scan(work, tmp_path / "scan", force=True)
    assert "1 pictures of dataset.jsonl are not among the features (x)" in caught.value.problems[0]
    write_dataset(work.dataset_path, images[:3], kind="karpathy", settings={})
    result = import_scan(work, tmp_path / "scan", force=True)
    assert (result.images, result.left_out, regions(work).ids) == (3, 1, ["100", "101", "102"])


def test_boxes_from_0_to_1_become_pixels(tmp_path: Path, work: Workspace) -> None:
    """By the sizes beside them, by those of a prepared data set; without any sizes they are refused."""
    ones = np.tile(np.float32([0.25, 0, 1, 0.5]), (4, 3, 1))
    sizes = np.tile([200, 100], (4, 1))
    write_scan(tmp_path / "scan", boxes=ones, sizes=sizes)
    result = import_scan(work, tmp_path / "scan")
    assert "between 0 and 1" in result.notes[0]
    assert regions(work).read_all("boxes")[0, 0].tolist() == [50, 0, 200, 50]
    write_scan(tmp_path / "bare", boxes=ones, extras=("boxes",))
    other = Workspace(tmp_path / "other")
    with pytest.raises(ItmkitError, match=r"train_boxes.npy: all values lie between 0 and 1.* add train_sizes.npy"):
        import_scan(other, tmp_path / "bare")
    assert not other.dataset_path.exists()
    images = [ImageRecord(f"train{i}.jpg", "train", (Caption(f"{i}", "a"),), width=400, height=40) for i in range(4)]
    write_dataset(other.dataset_path, images, kind="csv", settings={})
    import_scan(other, tmp_path / "bare")
    assert regions(other).read_all("boxes")[3, 2].tolist() == [100, 0, 400, 20]
    far = np.tile(np.float32([0, 0, 90, 90]), (4, 3, 1))
    write_scan(tmp_path / "bare", boxes=far, extras=("boxes",))
    with pytest.raises(ItmkitError, match=r"beyond the edge .* rows 0 \(picture train0.jpg\).*prepared pictures"):
        import_scan(other, tmp_path / "bare", force=True)


def test_rows_and_captions_that_cannot_be_used_are_left_out(tmp_path: Path, work: Workspace) -> None:
    ims = np.ones((4, 3, 6), np.float32)
    ims[1, 0, 0] = np.nan
    boxes = np.tile(np.float32([5, 5, 9, 9]), (4, 3, 1))
    boxes[2] = [9, 9, 5, 5]
    caps = [f"dog {number}" for number in range(8)]
    caps[0], caps[6], caps[7] = "\u200b", "...", " "
    write_scan(tmp_path / "scan", captions=2, ims=ims, boxes=boxes, caps=caps)
    with pytest.raises(ItmkitError) as caught:
        import_scan(work, tmp_path / "scan")
    text = str(caught.value)
    assert "lines 1, 8 without a caption (--skip-empty" in text and "row 1 (picture train1.jpg: nan)" in text
    assert "row 2 (picture train2.jpg) (--skip-damaged" in text
    result = import_scan(work, tmp_path / "scan", options=CheckOptions(skip_damaged=True, skip_empty=True))
    assert result.empty == 3 and [image.id for image in work.dataset().images] == [
        "train0.jpg",
        "train1.jpg",
        "train2.jpg",
    ]
    assert [caption.text for caption in work.dataset().images[0].captions] == ["dog 1"]
    assert regions(work).ids == ["train0.jpg"] and len(result.damaged) == 2
    assert result.damaged[1]["place"] == "train: row 2" and "x2 < x1" in result.damaged[1]["reason"]
    assert regions(work).manifest.notes["damaged"] == result.damaged


def test_a_killed_import_continues_to_the_same_bytes(
    tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train", "dev"):
        write_scan(tmp_path / "scan", name, pictures=7, repeat=name == "dev")
    whole = Workspace(tmp_path / "whole")
    monkeypatch.setattr(npy, "_BLOCK_BYTES", 200)  # blocks of two rows: several a shard
    import_scan(whole, tmp_path / "scan", shard_size=4)

    class Kill:
        """Ends the process, as far as the import can tell, after some blocks."""

        def __init__(self, after: int) -> None:
            self.left = after

        def __call__(self, n: int = 1, *, status: str | None = None) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

        def __enter__(self) -> Kill:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    class Progress:
        def task(self, description: str, total: int | None = None, *, done: int = 0, unit: str = "") -> Kill:
            return Kill(5 if description == "import-features" else 10_000)

        def note(self, text: str) -> None:
            pass

    kills = 0
    while True:
        try:
            import_scan(work, tmp_path / "scan", shard_size=4, progress=Progress())
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 1
    names = sorted(path.name for path in whole.cache("regions").iterdir())
    assert names == sorted(path.name for path in work.cache("regions").iterdir())
    for name in names:
        assert (whole.cache("regions") / name).read_bytes() == (work.cache("regions") / name).read_bytes(), name


def test_split_tag() -> None:
    assert split_tag("red traffic light", "colour-class") == ("red", "traffic light")
    assert split_tag(" dog ", "colour-class") == ("", "dog")
    assert split_tag("traffic light", "class") == ("", "traffic light")
    assert split_tag("", "colour-class") == ("", "")


def test_split_map_problems(tmp_path: Path, work: Workspace) -> None:
    write_scan(tmp_path / "scan", "mine")
    for split_map, message in (
        ({}, "what split is 'mine'"),
        ({"mine": "validation"}, "unknown split 'validation'"),
        ({"other": "test"}, "no other_ims.npy"),
        ({"mine": "-"}, "every file is left out"),
    ):
        with pytest.raises(ItmkitError, match=message):
            import_scan(work, tmp_path / "scan", split_map=split_map)
    with pytest.raises(ItmkitError, match="no such folder"):
        import_scan(work, tmp_path / "nowhere")
    with pytest.raises(ItmkitError, match=r"no \*_ims.npy"):
        import_scan(work, tmp_path)
    import_scan(work, tmp_path / "scan", split_map={"mine": "test"})


@pytest.mark.skipif("ITMKIT_TEST_DATA" not in os.environ, reason="needs ITMKIT_TEST_DATA")
def test_real_features_of_flickr8k(tmp_path: Path, work: Workspace) -> None:
    source = Path(os.environ["ITMKIT_TEST_DATA"]) / "f8k_precomp"
    folder = tmp_path / "scan"
    folder.mkdir()
    for path in source.glob("dev_*"):
        (folder / path.name).symlink_to(path)
    result = import_scan(work, folder)
    reader = regions(work)
    assert (result.images, result.captions, result.regions, result.dim) == (1000, 5000, 36, 256)
    rows = np.random.default_rng(0).permutation(1000)[:200]
    for column, what in (("features", "ims"), ("boxes", "boxes"), ("scores", "scores"), ("size", "sizes")):
        expected = np.load(source / f"dev_{what}.npy", mmap_mode="r")[rows]
        assert np.array_equal(reader.read(column, rows), expected), column
    assert tags_of(reader) == json.loads((source / "dev_tags.json").read_text())


def test_captions_a_picture_may_differ_where_ids_tell(tmp_path: Path, work: Workspace) -> None:
    caps = [f"dog {number}" for number in range(7)]
    write_scan(tmp_path / "scan", pictures=3, caps=caps, ids=["a", "a", "a", "b", "b", "c", "c"])
    import_scan(work, tmp_path / "scan")
    assert [(image.id, len(image.captions)) for image in work.dataset().images] == [("a", 3), ("b", 2), ("c", 2)]
    assert regions(work).ids == ["a", "b", "c"]


def test_boxes_by_another_name_and_files_that_nothing_reads(tmp_path: Path, work: Workspace) -> None:
    written = write_scan(tmp_path / "scan")
    (tmp_path / "scan" / "train_boxes.npy").rename(tmp_path / "scan" / "train_ims_bbx.npy")
    (tmp_path / "scan" / "train_precaps_stan.txt").write_text("x")
    result = import_scan(work, tmp_path / "scan")
    assert np.array_equal(regions(work).read_all("boxes"), written["boxes"])
    assert "train_precaps_stan.txt" in result.notes[0] and "bbx" not in result.notes[0]


def test_boxes_with_a_row_a_caption_and_the_other_files_of_gsmn(tmp_path: Path, work: Workspace) -> None:
    folder = tmp_path / "gsmn"
    held = write_scan(folder, extras=("boxes", "sizes"))
    (folder / "train_boxes.npy").unlink()
    boxes = np.repeat(held["boxes"], 5, axis=0)
    np.save(folder / "train_ims_bbx.npy", boxes)
    np.save(folder / "train_ims_size.npy", np.array([{"image_w": 1}] * 20, object))
    (folder / "train_caps.json").write_text("[]")
    (folder / "train_precaps_stan.txt").write_text("")
    result = import_scan(work, folder)
    assert np.array_equal(CacheReader.open(work.cache("regions")).read_all("boxes"), held["boxes"])
    told = " ".join(result.notes)
    assert "file train_ims_size.npy, GSMN's and RCAR's sizes, pickled" in told
    assert "files train_caps.json, train_precaps_stan.txt, dependencies and word numbers of GSMN" in told
    boxes[7, 0, 0] -= 0.5
    np.save(folder / "train_ims_bbx.npy", boxes)
    with pytest.raises(
        ItmkitError, match=r"has 20 rows, 5 a picture, but rows 5 to 9, which belong to one picture, differ"
    ):
        import_scan(work, folder, force=True)

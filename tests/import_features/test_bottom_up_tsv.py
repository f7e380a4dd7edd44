from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.cache import CacheReader
from itmkit.errors import ItmkitError
from itmkit.import_features import bottom_up_tsv
from itmkit.import_features.sets import import_bottom_up
from itmkit.import_features.tsv_lines import BOTTOM_UP, WrongLine, parse_line
from itmkit.status import status
from itmkit.workspace import Workspace
from tests.import_features.feature_files import data_set, drawn, tsv_line, write_tsv

KEYS = ["7", "3", "9", "1", "4"]


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return data_set(tmp_path / "work", KEYS)


def regions(work: Workspace) -> CacheReader:
    return CacheReader.open(work.cache("regions"))


def test_shards_in_any_order_become_the_order_of_the_data_set(tmp_path: Path, work: Workspace) -> None:
    """Two files in an order of their own, pictures with 1 to 5 boxes, one without boxes, one missing, one unknown."""
    rows = {key: drawn(key, count) for key, count in zip(["9", "7", "3", "77"], (5, 1, 3, 50), strict=True)}
    rows["4"] = drawn("4", 0)
    files = [write_tsv(tmp_path / "b.tsv", [rows["4"], rows["9"], rows["77"]])]
    files.append(write_tsv(tmp_path / "a.tsv", [rows["3"], rows["7"]]))
    result = import_bottom_up(work, files, shard_size=2)
    assert (result.images, result.regions, result.dim, result.left_out) == (3, 5, 6, 1)
    assert result.skipped == [
        {"id": "1", "reason": "the files hold no features of it"},
        {"id": "4", "reason": "has no boxes"},
    ]
    reader = regions(work)
    assert reader.ids == ["7", "3", "9"] and reader.read_all("count").tolist() == [1, 3, 5]
    for place, key in enumerate(reader.ids):
        n = rows[key]["n"]
        for column, name in (("features", "features"), ("boxes", "boxes")):
            values = reader.read_all(column)[place]
            assert np.array_equal(values[:n], rows[key][name].astype(values.dtype)) and not values[n:].any()
    assert reader.read_all("size").tolist() == [[100, 60]] * 3
    assert (reader.read_all("tags") == -1).all() and not reader.read_all("scores").any()
    assert {state.stage: state.state for state in status(work)}["regions"] == "done"


def test_lxmert_with_and_without_vocabulary(tmp_path: Path, work: Workspace) -> None:
    rows = [drawn(key) for key in KEYS]
    file = write_tsv(tmp_path / "a.tsv", rows, "lxmert")
    result = import_bottom_up(work, [file])
    assert "--vocabulary" in result.notes[0] and result.extras == ("boxes", "sizes", "scores")
    assert (regions(work).read_all("tags") == -1).all()
    (tmp_path / "vg").mkdir()
    (tmp_path / "vg" / "objects_vocab.txt").write_text("dog\nstop sign,stopsign\ncat")
    (tmp_path / "vg" / "attributes_vocab.txt").write_text("red\nlight blue\n")
    result = import_bottom_up(work, [file], vocabulary=tmp_path / "vg", force=True)
    reader = regions(work)
    assert reader.tables == {"tags": ["dog", "stop sign", "cat"], "attributes": ["red", "light blue"]}
    assert result.extras == ("boxes", "sizes", "scores", "tags", "attributes") and not result.notes
    for column, name in (("tags", "objects"), ("attributes", "attributes"), ("scores", "confidences")):
        assert np.array_equal(reader.read_all(column), [row[name] for row in rows]), column
    assert reader.read_all("size").tolist() == [[100, 60]] * 5
    (tmp_path / "vg" / "objects_vocab.txt").write_text("dog")
    with pytest.raises(ItmkitError, match=r"a\.tsv: objects_id beyond the 1 names.* line"):
        import_bottom_up(work, [file], vocabulary=tmp_path / "vg", force=True)
    (tmp_path / "vg" / "attributes_vocab.txt").unlink()
    (tmp_path / "vg" / "objects_vocab.txt").write_text("dog\n\ncat\n")
    with pytest.raises(ItmkitError) as caught:
        import_bottom_up(work, [file], vocabulary=tmp_path / "vg", force=True)
    assert "no name in line 2" in caught.value.problems[0] and "no such file" in caught.value.problems[1]


@pytest.mark.parametrize(
    ("ids", "files", "keys", "rule"),
    [
        (["a", "b"], ["x/COCO_train2014_000000150367.jpg", "x/COCO_val2014_000000000042.jpg"], ["42", "150367"],
         "COCO's number"),
        (["a", "b"], ["000000150367.jpg", "000000000042.jpg"], ["42", "150367"], "COCO's number"),
        (["150367", "42"], ["p/1.jpg", "p/2.jpg"], ["COCO_val2014_000000000042", "COCO_train2014_000000150367"],
         "COCO's number"),
        (["a", "b"], ["p/COCO_train2014_000000150367.jpg", "p/b.c.jpg"], ["b.c", "COCO_train2014_000000150367"],
         "file name"),
        (["150367", "42"], ["p/COCO_val2014_000000150367.jpg", "p/COCO_val2014_000000000042.jpg"], ["42", "150367"],
         "id"),
        # ids are places in a list here, some of which are other pictures' numbers
        (["0", "1"], ["p/COCO_val2014_000000000001.jpg", "p/COCO_val2014_000000000042.jpg"], ["42", "1"],
         "COCO's number"),
    ],
)  # fmt: skip
def test_pictures_are_found(tmp_path: Path, ids: list[str], files: list[str], keys: list[str], rule: str) -> None:
    work = data_set(tmp_path / "work", ids, files)
    rows = [drawn(key) for key in keys]
    file = write_tsv(tmp_path / "a.tsv", rows)
    result = import_bottom_up(work, [file])
    assert result.matched_by == rule and result.images == 2
    assert np.array_equal(regions(work).read_all("features")[0], rows[1]["features"].astype(np.float16))


def test_no_picture_is_found(tmp_path: Path, work: Workspace) -> None:
    with pytest.raises(ItmkitError, match="none of the 1 features belongs to a picture of the data set.*'x'.*'7'"):
        import_bottom_up(work, [write_tsv(tmp_path / "a.tsv", [drawn("x")])])
    assert not work.cache("regions").exists()


def test_one_name_for_several(tmp_path: Path) -> None:
    work = data_set(tmp_path / "work", ["a", "b"], ["train/1.jpg", "val/1.jpg"])
    with pytest.raises(ItmkitError, match="by file name, several pictures of the data set are one: pair 'a' and 'b'"):
        import_bottom_up(work, [write_tsv(tmp_path / "a.tsv", [drawn("1")])])
    work = data_set(tmp_path / "work", ["a"], ["COCO_val2014_000000000042.jpg"])
    file = write_tsv(tmp_path / "a.tsv", [drawn("42"), drawn("042")])
    with pytest.raises(ItmkitError, match="by COCO's number, several features are one: pair '42' and '042'"):
        import_bottom_up(work, [file])


def test_all_problems_at_once_with_file_and_line(tmp_path: Path, work: Workspace) -> None:
    rows: list[dict[str, Any]] = [drawn(key) for key in KEYS]
    rows[1]["n"] = 4
    rows[2]["features"] = rows[2]["features"].copy()
    rows[2]["features"][1, 2] = np.nan
    rows[3]["boxes"] = rows[3]["boxes"] + np.float32(100)
    rows[4]["boxes"] = rows[4]["boxes"][:, [2, 3, 0, 1]]
    first = write_tsv(tmp_path / "a.tsv", rows)
    more = [drawn("7", 4), drawn("20", dim=7), {**drawn("21"), "boxes": "!!"}, {**drawn("22"), "w": "wide"}]
    lines = b"".join(map(tsv_line, more)) + b"23\t1\t2\n" + tsv_line(drawn("24"))[:-9] + b"\r\n"
    (tmp_path / "b.tsv").write_bytes(lines + tsv_line({**drawn("25"), "features": np.full((3, 6), 7e4, "<f4")}))
    other = write_tsv(tmp_path / "c.tsv", [drawn("30")], "lxmert")
    with pytest.raises(ItmkitError) as caught:
        import_bottom_up(work, [first, tmp_path / "b.tsv", other, tmp_path / "gone.tsv"])
    text = "\n".join(caught.value.problems)
    for part in (
        "a.tsv: num_boxes is 4, boxes holds 3 boxes in line 2 (picture 3)",
        "a.tsv: NaN or values beyond float16's 65504 among the features in line 3 (picture 9)",
        "a.tsv: a box beyond the edge of the picture in line 4 (picture 1)",
        "a.tsv: x2 < x1 or y2 < y1 (corners x1 y1 x2 y2 are needed) in line 5 (picture 4)",
        "b.tsv: the id of line 1 of a.tsv again in line 1 (picture 7)",
        "b.tsv: 7 numbers a box, 6 in the first in line 2 (picture 20)",
        "b.tsv: boxes that is not base64 in line 3 (picture 21)",
        "b.tsv: image_w is 'wide', a whole number is needed in line 4 (picture 22)",
        "b.tsv: 3 fields between tabs instead of 6; cut short? in line 5 (picture 23)",
        "in line 6 (picture 24)",
        "b.tsv: NaN or values beyond float16's 65504 among the features in line 7 (picture 25)",
        "c.tsv: is a lxmert file",
        "gone.tsv: no such file",
    ):
        assert part in text, part
    assert not work.cache("regions").exists()


def test_other_files(tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tsv").write_text("image_id,image_w\n")
    with pytest.raises(ItmkitError, match="its first line has 1 fields between tabs"):
        import_bottom_up(work, [tmp_path / "a.tsv"])
    with pytest.raises(ItmkitError, match="is not a regular file"):
        import_bottom_up(work, [tmp_path])
    file = write_tsv(tmp_path / "a.tsv", [drawn(key) for key in KEYS])
    with pytest.raises(ItmkitError, match="holds no ids of objects"):
        vg = tmp_path / "vg"
        vg.mkdir()
        (vg / "objects_vocab.txt").write_text("a\n")
        (vg / "attributes_vocab.txt").write_text("a\n")
        import_bottom_up(work, [file], vocabulary=vg)
    with pytest.raises(ItmkitError, match=r"--regions 2: too few for pictures '7' \(3\).*; 3 holds them all"):
        import_bottom_up(work, [file], regions=2)
    assert import_bottom_up(work, [file], regions=5).regions == 5
    assert regions(work).read_all("features").shape == (5, 5, 6)
    monkeypatch.setattr(bottom_up_tsv, "LONGEST_LINE", 300)
    (tmp_path / "b.tsv").write_bytes(tsv_line(drawn("1")) + b"x" * 1000)
    with pytest.raises(ItmkitError, match="has lines longer than"):
        import_bottom_up(work, [tmp_path / "b.tsv"])
    with pytest.raises(ItmkitError, match="has no data set; run `itmkit prepare`"):
        import_bottom_up(Workspace(tmp_path / "empty"), [file])


def test_again_does_nothing_and_a_killed_import_continues_to_the_same_bytes(tmp_path: Path, work: Workspace) -> None:
    rows = [drawn(key) for key in random.Random(0).sample(KEYS, 5)]
    file = write_tsv(tmp_path / "a.tsv", rows)
    import_bottom_up(work, [file], shard_size=2)
    expected = {path.name: path.read_bytes() for path in work.cache("regions").iterdir()}
    assert import_bottom_up(work, [file], shard_size=2).unchanged
    # as killed in the second shard
    manifest = work.cache("regions") / "manifest.json"
    killed = data_set(tmp_path / "killed", KEYS)

    class Progress:
        def task(self, description: str, total: int | None = None, *, done: int = 0, unit: str = "") -> Any:
            outer = self

            class Task:
                calls = 0

                def __enter__(self) -> Task:
                    return self

                def __exit__(self, *error: object) -> None:
                    pass

                def __call__(self, n: int = 1, *, status: str | None = None) -> None:
                    self.calls += description == "import-features"
                    if self.calls == 2:
                        raise KeyboardInterrupt(outer)

            return Task()

        def note(self, text: str) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        import_bottom_up(killed, [file], shard_size=2, progress=Progress())
    import_bottom_up(killed, [file], shard_size=2)
    assert {path.name: path.read_bytes() for path in killed.cache("regions").iterdir()} == expected
    rows[0]["features"] = rows[0]["features"] * 2
    write_tsv(tmp_path / "a.tsv", rows)
    with pytest.raises(ItmkitError, match=r"files_sha256 changed.*--force"):
        import_bottom_up(work, [file], shard_size=2)
    assert manifest.read_bytes() == expected["manifest.json"]


def test_a_turned_picture_is_noted(tmp_path: Path, work: Workspace) -> None:
    rows = [{**drawn("7"), "w": 200, "h": 100}, drawn("3")]
    result = import_bottom_up(work, [write_tsv(tmp_path / "a.tsv", rows)])
    assert result.notes[0].startswith("picture '7' with another width or height")
    assert regions(work).read_all("size").tolist() == [[200, 100], [100, 60]]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_line_is_a_reason_or_a_whole_region_set(data: st.DataObject) -> None:
    line = bytearray(tsv_line(drawn("1", data.draw(st.integers(0, 3)))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(line) - 1)))
        if data.draw(st.booleans()):
            line[place : place + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=6))
        elif line:
            line[min(place, len(line) - 1)] = data.draw(st.integers(0, 255))
    try:
        key, found = parse_line(bytes(line), BOTTOM_UP)
    except WrongLine as error:
        assert str(error)
        return
    assert key and found.boxes.shape == (len(found), 4) and found.features.shape[0] == len(found)


def test_real_features_come_out_exactly(tmp_path: Path, test_data: Path) -> None:
    """Both extractors' features of one real picture, against a literal decoding of the fields."""
    folder = test_data / "buatt_features_sample"
    files = sorted(folder.glob("*.tsv*"))
    assert len(files) == 2
    for number, file in enumerate(files):
        name = "COCO_train2014_000000150367.jpg"
        work = data_set(tmp_path / str(number), ["0"], [str(folder / name)])
        result = import_bottom_up(work, [file])
        assert (result.matched_by, result.images, result.regions, result.dim) == ("COCO's number", 1, 36, 2048)
        key, width, height, count, boxes, features = file.read_text().strip().split("\t")
        assert (key, width, height, count) == ("150367", "640", "480", "36")
        reader = regions(work)
        literal = np.frombuffer(base64.decodebytes(features.encode()), np.float32).reshape(36, 2048)
        assert np.array_equal(reader.read("features", [0])[0], literal.astype(np.float16))
        assert np.array_equal(
            reader.read("boxes", [0])[0], np.frombuffer(base64.decodebytes(boxes.encode()), np.float32).reshape(36, 4)
        )
        assert reader.read("size", [0]).tolist() == [[640, 480]] and reader.read("count", [0]).tolist() == [36]


def with_boxes(key: str, *box: float) -> dict[str, Any]:
    return {**drawn(key), "boxes": np.tile(np.array(box, "<f4"), (3, 1))}


def test_boxes_from_0_to_1_become_pixels(tmp_path: Path, work: Workspace) -> None:
    ones = [with_boxes(key, 0.25, 0, 1, 0.5) for key in KEYS]
    result = import_bottom_up(work, [write_tsv(tmp_path / "a.tsv", ones)])
    assert "between 0 and 1" in result.notes[0]
    assert regions(work).read_all("boxes")[4].tolist() == [[25, 0, 100, 30]] * 3
    mixed = write_tsv(tmp_path / "a.tsv", [*ones[:1], *map(drawn, KEYS[1:])])
    with pytest.raises(ItmkitError, match=r"boxes between 0 and 1, while .* in line 1 \(picture 7\) \(--skip-damaged"):
        import_bottom_up(work, [mixed], force=True)
    assert import_bottom_up(work, [mixed], force=True, skip_damaged=True).images == 4
    around = write_tsv(tmp_path / "a.tsv", [with_boxes(key, -0.5, -0.5, 0.5, 0.5) for key in KEYS])
    with pytest.raises(ItmkitError, match="between -1 and 1"):
        import_bottom_up(work, [around], force=True)


def test_boxes_without_an_area_are_refused(tmp_path: Path, work: Workspace) -> None:
    rows = [with_boxes(KEYS[0], 0, 0, 0, 0), with_boxes(KEYS[1], 4, 4, 9, 4), *map(drawn, KEYS[2:])]
    with pytest.raises(ItmkitError, match=r"no box with an area .* lines 1 \(picture 7\), 2 \(picture 3\)"):
        import_bottom_up(work, [write_tsv(tmp_path / "a.tsv", rows)])


def test_damaged_lines_are_left_out_and_equal_ones_taken_once(tmp_path: Path, work: Workspace) -> None:
    """Released files hold a line cut short and, later, the same picture whole."""
    whole = [tsv_line(drawn(key)) for key in KEYS]
    other = tsv_line({**drawn(KEYS[1]), "features": drawn("x")["features"]})
    turned = tsv_line({**drawn("turned"), "w": 60, "h": 100})
    (tmp_path / "a.tsv").write_bytes(whole[0][:-30] + b"\n" + b"".join([*whole[:4], whole[1], other, turned]))
    result = import_bottom_up(work, [tmp_path / "a.tsv"], skip_damaged=True)
    assert result.repeated == 1 and result.images == 4
    assert [one["place"].rpartition(": ")[2] for one in result.damaged] == [
        "line 1 (picture 7)",
        "line 7 (picture 3)",
        "line 8 (picture turned)",
    ]
    assert "width and height exchanged" in result.damaged[2]["reason"]
    assert regions(work).manifest.notes["damaged"] == result.damaged
    (tmp_path / "a.tsv").write_bytes(whole[0][:-30])
    with pytest.raises(ItmkitError, match="holds no picture that can be used"):
        import_bottom_up(work, [tmp_path / "a.tsv"], skip_damaged=True, force=True)


def test_base64_without_padding_or_as_python_3_prints_it(tmp_path: Path, work: Workspace) -> None:
    rows = [tsv_line(drawn(key, 1, 7)) for key in KEYS]
    fields = rows[1].rstrip().split(b"\t")
    rows[1] = b"\t".join([*fields[:4], *(b"b'" + field + b"'" for field in fields[4:])]) + b"\n"
    assert b"=" in rows[0]
    (tmp_path / "a.tsv").write_bytes(b"".join(rows).replace(b"=", b""))
    import_bottom_up(work, [tmp_path / "a.tsv"])
    assert np.array_equal(regions(work).read_all("features")[1], drawn("3", 1, 7)["features"].astype(np.float16))


def test_features_of_float16(tmp_path: Path, work: Workspace) -> None:
    rows = [{**drawn(key, dim=8), "features": np.abs(drawn(key, dim=8)["features"]).astype("<f2")} for key in KEYS]
    file = write_tsv(tmp_path / "a.tsv", rows)
    result = import_bottom_up(work, [file])
    assert result.dim == 4 and "--dtype float16" in result.notes[0]
    result = import_bottom_up(work, [file], dtype="float16", force=True)
    assert result.dim == 8 and not result.notes
    assert np.array_equal(regions(work).read_all("features")[2], rows[2]["features"])
    usual = import_bottom_up(work, [write_tsv(tmp_path / "b.tsv", [drawn(key) for key in KEYS])], force=True)
    assert not usual.notes


def test_an_archive_is_named(tmp_path: Path, work: Workspace) -> None:
    (tmp_path / "trainval_36.zip").write_bytes(b"PK\3\4 and more")
    with pytest.raises(ItmkitError, match=r"trainval_36.zip: is a zip archive; unpack it"):
        import_bottom_up(work, [tmp_path / "trainval_36.zip"])

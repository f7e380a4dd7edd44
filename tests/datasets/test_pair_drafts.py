"""Rows of pictures and captions become images, whatever file they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.datasets.pairs import prepare_csv, prepare_jsonl
from itmkit.datasets.parquet import prepare_parquet
from itmkit.datasets.skip import Skip
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.datasets.packed_files import picture
from tests.workspaces import save_picture


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


def test_keys_of_json_in_capitals(tmp_path: Path, work: Workspace) -> None:
    save_picture(tmp_path / "a.jpg")
    (tmp_path / "t.jsonl").write_text('{"Image": "a.jpg", "Caption": "A", "Split": "test", "Labels": ["dog"]}\n')
    prepare_jsonl(work, tmp_path / "t.jsonl")
    (image,) = work.dataset().images
    assert (image.split, image.labels) == ("test", ("dog",))


def test_empty_labels_are_none_and_the_others_stripped(tmp_path: Path, work: Workspace) -> None:
    save_picture(tmp_path / "a.jpg")
    row = {"image": "a.jpg", "caption": "A", "split": "test", "labels": ["", "dog", " dog", " "]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    prepare_jsonl(work, tmp_path / "t.jsonl")
    assert work.dataset().images[0].labels == ("dog",)


def test_labels_of_parquet_that_are_null(tmp_path: Path, work: Workspace) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    row = {"jpg": picture(), "caption": "A", "labels": ["dog", None]}
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "t.parquet")
    prepare_parquet(work, [tmp_path / "t.parquet"], split="test")
    assert work.dataset().images[0].labels == ("dog",)


def test_names_of_one_file_are_one_image(tmp_path: Path, work: Workspace) -> None:
    for number, name in enumerate(("1.jpg", "2.jpg", "caf\u00e9.jpg")):
        save_picture(tmp_path / name, colour=number)
    names = ["1", "2.jpg", "caf\u00e9.jpg", "1.jpg", "./2.jpg", "cafe\u0301.jpg", "x/../2.jpg"]
    table = "".join(f"{name},Caption {number}\n" for number, name in enumerate(names))
    (tmp_path / "t.csv").write_text(f"image,caption\n{table}", encoding="utf-8")
    prepare_csv(work, tmp_path / "t.csv")
    images = {image.id: image for image in work.dataset().images}
    assert list(images) == ["1", "2.jpg", "caf\u00e9.jpg"]
    assert [caption.id for caption in images["2.jpg"].captions] == ["2.jpg#0", "2.jpg#1", "2.jpg#2"]
    assert {image.split for image in images.values()} == {"train", "val", "test"}


def test_names_of_one_file_have_one_split(tmp_path: Path, work: Workspace) -> None:
    save_picture(tmp_path / "1.jpg")
    (tmp_path / "t.csv").write_text("image,caption,split\n1.jpg,A,train\n./1.jpg,B,test\n")
    with pytest.raises(ItmkitError, match=r"line 3: image '\./1\.jpg': split 'test' here, 'train' before"):
        prepare_csv(work, tmp_path / "t.csv")


@pytest.mark.parametrize("text", ["&nbsp;", "&#8203;", " &#10;&amp;nbsp; "])
def test_captions_that_are_empty_once_entities_are_characters(tmp_path: Path, work: Workspace, text: str) -> None:
    save_picture(tmp_path / "1.jpg")
    table = tmp_path / "t.csv"
    table.write_text(f"image,caption\n1.jpg,A&nbsp;\n1.jpg,{text}\n")
    with pytest.raises(ItmkitError, match=r"t\.csv: line 2: image .* caption '1\.jpg#1' is empty.*--skip-empty"):
        prepare_csv(work, table, split="train")
    result = prepare_csv(work, table, split="train", skip=Skip(empty=True))
    assert [caption.text for caption in work.dataset().images[0].captions] == ["A"] and len(result.left_out) == 1
    assert "1 captions are stored in one spelling" in result.notes[0]


def test_a_picture_that_cannot_be_looked_for_is_missing(
    tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_picture(tmp_path / "1.jpg")
    (tmp_path / "t.csv").write_text(f"image,caption\n1.jpg,A\n{'x' * 300},B\nclosed/2.jpg,C\n1.jpg,\u200b\n", "utf-8")
    whole = Path.exists

    def exists(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError("Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(ItmkitError) as caught:
        prepare_csv(work, tmp_path / "t.csv", split="train")
    told = "\n".join(caught.value.problems)
    assert "2 of 3 pictures are no use" in told and "File name too long" in told and "is empty" in told
    result = prepare_csv(work, tmp_path / "t.csv", split="train", skip=Skip(missing=True, empty=True))
    assert len(result.skipped) == 2

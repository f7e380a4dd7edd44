from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from itmkit.datasets.pairs import prepare_csv, prepare_jsonl
from itmkit.datasets.pictures import prepare_images
from itmkit.datasets.webdataset import prepare_webdataset
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.datasets.packed_files import picture, write_tar
from tests.workspaces import save_picture


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    for number in range(6):
        save_picture(tmp_path / f"{number}.jpg", colour=number)
    table(tmp_path, "first.csv", range(3))
    work = Workspace(tmp_path / "work")
    prepare_csv(work, tmp_path / "first.csv", split="train")
    return work


def table(folder: Path, name: str, numbers: range, word: str = "Picture") -> Path:
    path = folder / name
    path.write_text("image,caption\n" + "".join(f"{n}.jpg,{word} {n}\n" for n in numbers))
    return path


def test_new_images_come_last_and_old_ones_stay(tmp_path: Path, work: Workspace) -> None:
    old = work.dataset().images
    grown = table(tmp_path, "grown.csv", range(1, 5))
    result = prepare_csv(work, grown, split="train", add=True)
    assert result.notes[-1] == "new images: 2; there already: 2"
    images = work.dataset().images
    assert images[:3] == old and [image.id for image in images[3:]] == ["3.jpg", "4.jpg"]
    assert prepare_csv(work, grown, split="train", add=True).unchanged
    lines = tmp_path / "more.jsonl"
    lines.write_text('{"image": "5.jpg", "caption": "Five", "split": "val"}\n')
    prepare_jsonl(work, lines, add=True)
    assert work.dataset().kind == "csv" and work.dataset().images[-1].split == "val"


def test_other_captions_of_an_old_image_are_told_and_not_taken(tmp_path: Path, work: Workspace) -> None:
    old = work.dataset().images
    result = prepare_csv(work, table(tmp_path, "b.csv", range(1, 4), "Other"), split="train", add=True)
    assert "2 of these (the first: 1.jpg) have other captions" in result.notes[-1]
    assert work.dataset().images[:3] == old and len(work.dataset().images) == 4


def test_a_picture_that_is_there_under_another_id_is_told(tmp_path: Path, work: Workspace) -> None:
    shutil.copy(tmp_path / "0.jpg", tmp_path / "copy.jpg")
    (tmp_path / "b.csv").write_text("image,caption\ncopy.jpg,Again\n./1.jpg,Again\n3.jpg,New\n")
    result = prepare_csv(work, tmp_path / "b.csv", split="test", add=True)
    assert "2 of the new (the first: copy.jpg) are pictures that are there already" in result.notes[-1]
    assert "2 pictures are in two splits, byte for byte the same; the first: 0.jpg (train)" in result.notes[-2]


def test_other_pictures_of_the_same_ids_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("cc3m", "cc12m")):
        sample = [("a.jpg", picture(number)), ("a.txt", b"A")]
        write_tar(tmp_path / name / "00000.tar", sample)
    work = Workspace(tmp_path / "work")
    prepare_webdataset(work, [tmp_path / "cc3m"], split="train")
    before = sorted((work.root / "unpacked").rglob("*"))
    with pytest.raises(ItmkitError, match=r"1 images are called as .* \(the first: 00000/a.jpg is unpacked"):
        prepare_webdataset(work, [tmp_path / "cc12m"], split="train", add=True)
    assert sorted((work.root / "unpacked").rglob("*")) == before
    result = prepare_webdataset(work, [tmp_path / "cc3m"], split="train", add=True)
    assert result.unchanged
    save_picture(tmp_path / "x/1.jpg", colour=9)
    prepare_csv(Workspace(tmp_path / "csv"), table(tmp_path / "x", "t.csv", range(1, 2)), split="train")
    save_picture(tmp_path / "y/1.jpg", colour=19)
    with pytest.raises(ItmkitError, match="Rename the files, or name them together"):
        prepare_csv(Workspace(tmp_path / "csv"), table(tmp_path / "y", "t.csv", range(1, 2)), split="train", add=True)
    save_picture(tmp_path / "x/1.jpg", colour=29)  # the same file, changed
    result = prepare_csv(Workspace(tmp_path / "csv"), tmp_path / "x/t.csv", split="train", add=True)
    assert "1 of these (the first: 1.jpg)" in result.notes[-1]


def test_adding_needs_a_data_set_of_pairs_and_good_files(tmp_path: Path, work: Workspace) -> None:
    before = work.dataset_path.read_bytes()
    with pytest.raises(ItmkitError, match="pictures are no use"):
        prepare_csv(work, table(tmp_path, "c.csv", range(5, 9)), split="train", add=True)
    assert work.dataset_path.read_bytes() == before
    photos = Workspace(tmp_path / "photos")
    prepare_images(photos, tmp_path)
    with pytest.raises(ItmkitError, match="--add adds to a data set of csv, jsonl.*this one is of the kind images"):
        prepare_csv(photos, tmp_path / "first.csv", add=True)
    empty = Workspace(tmp_path / "empty")
    assert prepare_csv(empty, tmp_path / "first.csv", add=True).counts["train"]["images"] == 1

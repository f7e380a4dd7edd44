from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itmkit.datasets.coco import prepare_coco
from itmkit.datasets.draft import split_of_name
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.workspaces import save_picture


def captions_file(folder: Path, name: str, ids: list[int], *, each: int = 2, **more: Any) -> Path:
    annotations = [
        {"image_id": id, "id": 1000 * id + n, "caption": f"caption {n} of {id}. "} for n in range(each) for id in ids
    ]
    content = {"images": [{"id": id, "file_name": f"{id:012d}.jpg"} for id in ids], "annotations": annotations}
    file = folder / name
    file.write_text(json.dumps({**content, **more}))
    return file


def instances_file(folder: Path, pairs: list[tuple[int, int]]) -> Path:
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]
    annotations = [{"id": n, "image_id": image, "category_id": c} for n, (image, c) in enumerate(pairs)]
    file = folder / "instances_train2017.json"
    file.write_text(json.dumps({"images": [], "annotations": annotations, "categories": categories}))
    return file


def test_two_files_two_splits_and_labels(tmp_path: Path) -> None:
    train = captions_file(tmp_path, "captions_train2017.json", [5, 7])
    val = captions_file(tmp_path, "captions_val2017.json", [9], each=7)
    save_picture(tmp_path / "train2017" / f"{5:012d}.jpg")
    save_picture(tmp_path / "train2017" / f"{7:012d}.jpg", colour=1)
    save_picture(tmp_path / "val2017" / f"{9:012d}.jpg", colour=2)
    instances = instances_file(tmp_path, [(7, 3), (7, 1), (7, 3), (4711, 18)])
    workspace = Workspace(tmp_path / "work")
    result = prepare_coco(workspace, [train, val], images=tmp_path, instances=[instances])
    assert result.counts == {"train": {"images": 2, "captions": 4}, "val": {"images": 1, "captions": 5}}
    five, seven, _ = workspace.dataset().images
    assert five.id == "5" and [(c.id, c.text) for c in five.captions] == [
        ("5000", "caption 0 of 5."),
        ("5001", "caption 1 of 5."),
    ]
    assert five.labels == () and seven.labels == ("person", "car")


def test_split_of_a_file_name() -> None:
    assert split_of_name(Path("x/train/captions_val2014.json")) == "val"
    assert split_of_name(Path("captions_trainval2014.json")) is None
    assert split_of_name(Path("mine.json")) is None


def test_a_split_is_a_word_of_its_own_in_a_name() -> None:
    said = {
        "train": ["karpathy_train.json", "train-00000-of-00002.parquet", "imagesTrain.csv", "restval.json", "TRAIN"],
        "val": ["retrieval_valid.csv", "validation.tsv", "val5k.json", "sits_dev.csv"],
        "test": ["f30k-test.csv", "testset.csv", "testB.csv", "test_retrieval.csv", "testall.tar"],
        None: ["retrieval.csv", "latest.parquet", "contest_1.tar", "medieval.csv", "train_val.csv", "prétest.csv"],
    }  # fmt: skip
    assert {name: split_of_name(Path(name)) for names in said.values() for name in names} == {
        name: split for split, names in said.items() for name in names
    }


def test_a_file_whose_name_says_no_split_needs_the_option(tmp_path: Path) -> None:
    file = captions_file(tmp_path, "mine.json", [5])
    save_picture(tmp_path / f"{5:012d}.jpg")
    with pytest.raises(ItmkitError, match="says no split .*--split"):
        prepare_coco(Workspace(tmp_path), [file], images=tmp_path)
    assert "test" in prepare_coco(Workspace(tmp_path), [file], images=tmp_path, split="test").counts


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    train = captions_file(tmp_path, "captions_train2017.json", [5, 5, 6])
    content = json.loads(train.read_text())
    content["annotations"] += [
        {"image_id": 8, "id": 1, "caption": "of nothing"},
        {"image_id": 6, "id": 2, "caption": None},
        {"image_id": 6, "caption": "no id"},
        {"image_id": 6, "id": 6000, "caption": "an id twice"},
    ]
    content["images"][1]["file_name"] = "other.jpg"
    content["images"].append({"id": 10, "file_name": "a.jpg"})
    train.write_text(json.dumps(content))
    val = captions_file(tmp_path, "captions_val2017.json", [6])
    instances = instances_file(tmp_path, [(4711, 18), (5, 99)])
    save_picture(tmp_path / f"{5:012d}.jpg")
    with pytest.raises(ItmkitError) as caught:
        prepare_coco(Workspace(tmp_path / "work"), [train, val], images=tmp_path, instances=[instances])
    text = str(caught.value)
    for part in (
        f"{train}: images[1]: image '5': this id occurs before, at {train}: images[0]",
        f"{val}: images[0]: image '6': this id occurs before, at {train}: images[2]",
        "annotations[6]: image '8' is not among the images of this file",
        "annotations[7]: 'caption' is missing",
        "annotations[8]: 'id' is missing",
        "the caption id '6000' occurs before",
        "image '10': has no caption",
        "annotations[1]: category '99' is not among the categories",
        f"{instances}: describes none of these images",
        "a.jpg: no such file",
    ):
        assert part in text, part


def test_real_sample(tmp_path: Path, test_data: Path) -> None:
    folder = test_data / "coco_mini"
    workspace = Workspace(tmp_path)
    result = prepare_coco(
        workspace,
        [folder / "annotations" / "captions_train2017.json"],
        images=folder,
        instances=[folder / "annotations" / "instances_train2017.json"],
    )
    assert result.counts == {"train": {"images": 40, "captions": 200}}
    described = json.loads((folder / "annotations" / "captions_train2017.json").read_text())["images"]
    sizes = {str(image["id"]): (image["width"], image["height"]) for image in described}
    images = workspace.dataset().images
    assert {image.id: (image.width, image.height) for image in images} == sizes
    assert sum(bool(image.labels) for image in images) >= 38


def test_super_categories_are_kept_and_older_data_sets_get_them(tmp_path: Path) -> None:
    train = captions_file(tmp_path, "captions_train2017.json", [5, 7])
    save_picture(tmp_path / f"{5:012d}.jpg")
    save_picture(tmp_path / f"{7:012d}.jpg", colour=1)
    instances = instances_file(tmp_path, [(7, 18), (7, 1), (7, 3), (7, 4), (5, 4)])
    content = json.loads(instances.read_text())
    kinds = {1: "person", 18: "animal", 3: "vehicle"}
    for category in content["categories"]:
        category["supercategory"] = kinds[category["id"]]
    content["categories"].append({"id": 4, "name": "thing"})  # files in COCO's layout often have none
    instances.write_text(json.dumps(content))
    workspace = Workspace(tmp_path / "work")

    def prepare() -> bool:
        return prepare_coco(workspace, [train], images=tmp_path, instances=[instances]).unchanged

    assert not prepare() and prepare()
    five, seven = workspace.dataset().images
    assert (five.labels, five.supercategories) == (("thing",), ())
    assert seven.labels == ("person", "dog", "car", "thing")
    assert seven.supercategories == ("person", "animal", "vehicle")
    written = workspace.dataset_path.read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert "supercategories" not in lines[0]
    del lines[1]["supercategories"]  # as older versions wrote it
    before = workspace.dataset().captions_digest
    workspace.dataset_path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    assert prepare() and workspace.dataset_path.read_text() == written
    assert workspace.dataset().captions_digest == before


def test_an_instance_without_a_category_is_reported_not_fatal(tmp_path: Path) -> None:
    train = captions_file(tmp_path, "captions_train2017.json", [5])
    save_picture(tmp_path / f"{5:012d}.jpg")
    instances = instances_file(tmp_path, [(5, 1)])
    content = json.loads(instances.read_text())
    content["annotations"] += [{"id": 9, "image_id": 5}, {"id": 10, "image_id": 5, "category_id": None}]
    instances.write_text(json.dumps(content))
    with pytest.raises(ItmkitError) as error:
        prepare_coco(Workspace(tmp_path / "work"), [train], images=tmp_path, instances=[instances])
    assert [problem.partition(": ")[2] for problem in error.value.problems] == [
        "annotations[1]: 'category_id' is missing (--skip-damaged leaves such records out)",
        "annotations[2]: 'category_id' is missing",
    ]


def test_all_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    good = captions_file(tmp_path, "captions_train2017.json", [5])
    good.write_text(good.read_text().replace('"caption 0', '1, "x": "caption 0'))
    others = {
        "captions_val2017.json": '{"images": [',
        "captions_test2017.json": "[]",
        "instances.json": '{"categories": 1}',
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    captions, instances = [good, *(tmp_path / name for name in list(others)[:2])], tmp_path / "instances.json"
    with pytest.raises(ItmkitError) as caught:
        prepare_coco(Workspace(tmp_path / "work"), captions, images=tmp_path, instances=[instances])
    told = [problem.removeprefix(f"{tmp_path}/").partition(" (--skip")[0] for problem in caught.value.problems]
    assert told == [
        "captions_train2017.json: annotations[0]: 'caption' is 1, not a string",
        "captions_val2017.json: line 1, column 13: not JSON (Expecting value)",
        "captions_test2017.json: is a list; an object with a list under 'images' is needed",
        "instances.json: 'categories' is no list",
    ]
    with pytest.raises(ItmkitError) as caught:
        prepare_coco(Workspace(tmp_path / "work"), [tmp_path / "a.json", tmp_path / "b.json"], images=tmp_path)
    assert [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems] == [
        "a.json: no such file",
        "b.json: no such file",
    ]

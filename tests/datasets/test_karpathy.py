from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itmkit.datasets.karpathy import prepare_karpathy
from itmkit.datasets.skip import Skip
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.workspaces import save_picture


def entry(number: int, split: str = "train", sentences: int = 5, **more: Any) -> dict[str, Any]:
    texts = [{"raw": f" caption {number} {n} \n", "sentid": 10 * number + n} for n in range(sentences)]
    return {"filename": f"{number}.jpg", "imgid": number, "split": split, "sentences": texts, **more}


def write(folder: Path, *entries: Any) -> Path:
    file = folder / "dataset_small.json"
    file.write_text(json.dumps({"images": list(entries), "dataset": "small"}))
    return file


def test_flickr_layout(tmp_path: Path) -> None:
    for number in range(4):
        save_picture(tmp_path / "pictures" / f"{number}.jpg", colour=number)
    file = write(tmp_path, entry(0), entry(1, "restval"), entry(2, "val"), entry(3, "test"))
    workspace = Workspace(tmp_path / "work")
    result = prepare_karpathy(workspace, file, images=tmp_path / "pictures")
    assert not result.unchanged and result.kind == "karpathy"
    assert result.counts == {
        "train": {"images": 2, "captions": 10},
        "val": {"images": 1, "captions": 5},
        "test": {"images": 1, "captions": 5},
    }
    images = workspace.dataset().images
    assert [image.id for image in images] == ["0", "1", "2", "3"]
    assert [(c.id, c.text) for c in images[1].captions][:2] == [("10", "caption 1 0"), ("11", "caption 1 1")]
    assert images[0].file == str(tmp_path / "pictures" / "0.jpg")
    assert (images[0].width, images[0].height) == (30, 20)


def test_coco_layout_takes_cocoid_filepath_and_the_first_five_captions(tmp_path: Path) -> None:
    save_picture(tmp_path / "val2014" / "0.jpg")
    file = write(tmp_path, entry(0, "test", 7, cocoid=391895, filepath="val2014"))
    workspace = Workspace(tmp_path)
    prepare_karpathy(workspace, file, images=tmp_path)
    (image,) = workspace.dataset().images
    assert image.id == "391895" and len(image.captions) == 5
    assert image.file == "val2014/0.jpg"  # inside the workspace: relative to it
    prepare_karpathy(workspace, file, images=tmp_path, captions=None, force=True)
    assert len(workspace.dataset().images[0].captions) == 7


def test_pictures_of_all_folders_thrown_together_are_found(tmp_path: Path) -> None:
    save_picture(tmp_path / "0.jpg")
    file = write(tmp_path, entry(0, filepath="val2014"))
    prepare_karpathy(Workspace(tmp_path), file, images=tmp_path)
    assert Workspace(tmp_path).dataset().images[0].file == "0.jpg"


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    for number in (0, 1, 2, 3, 4, 9):
        save_picture(tmp_path / f"{number}.jpg")
    (tmp_path / "5.jpg").write_text("no picture")
    no_raw = entry(4)
    del no_raw["sentences"][2]["raw"]
    no_split = entry(9)
    del no_split["split"]
    file = write(
        tmp_path,
        entry(0),
        {**entry(1), "imgid": 0},
        entry(2, "weird"),
        {**entry(3), "sentences": [{"raw": "  ", "sentid": 77}]},
        no_raw,
        entry(5, sentences=1),
        entry(6, sentences=1),
        "text",
        entry(8, sentences=0, filename=8),
        no_split,
    )
    with pytest.raises(ItmkitError) as caught:
        prepare_karpathy(Workspace(tmp_path / "work"), file, images=tmp_path)
    text = str(caught.value)
    for part in (
        f"{file}: images[1]: image '0': this id occurs before, at {file}: images[0]",
        "images[2]: image '2': unknown split 'weird'; known are train, restval",
        "images[3]: image '3': caption '77' is empty",
        "images[4].sentences[2]: 'raw' is missing",
        "images[5]: image '5': ",
        "5.jpg: cannot be read as a picture",
        "6.jpg: no such file",
        "2 of 7 pictures are no use; --skip-missing",
        "images[7]: not an object",
        "images[8]: 'filename' is 8, not a string",
        "images[9]: 'split' is missing",
    ):
        assert part in text
    assert not (tmp_path / "work").exists()


def test_missing_pictures_can_be_left_out(tmp_path: Path) -> None:
    save_picture(tmp_path / "0.jpg")
    (tmp_path / "2.jpg").touch()
    file = write(tmp_path, entry(0), entry(1), entry(2))
    result = prepare_karpathy(Workspace(tmp_path), file, images=tmp_path, skip=Skip(missing=True))
    assert [(skip.id, skip.reason.rsplit(": ")[-1]) for skip in result.skipped] == [
        ("1", "no such file"),
        ("2", "is empty"),
    ]
    assert result.counts == {"train": {"images": 1, "captions": 5}}


@pytest.mark.parametrize("skip_missing", [True, False])
def test_a_wrong_folder_is_one_problem_not_one_a_picture(tmp_path: Path, skip_missing: bool) -> None:
    file = write(tmp_path, *(entry(number) for number in range(100)))
    with pytest.raises(ItmkitError) as caught:
        prepare_karpathy(Workspace(tmp_path), file, images=tmp_path / "typo", skip=Skip(missing=skip_missing))
    assert len(caught.value.problems) == 1
    assert "none of the 100 pictures" in str(caught.value) and "--images" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": 3}', "'images' is no list"),
        (b"[]", "is a list; an object with a list under 'images' is needed"),
        (b"{}", "'images' is missing"),
        (b'{"images": [', "line 1, column 13: not JSON"),
        (b'{"images": ["\xff"]}', "is not UTF-8"),
        (b"[" * 100_000, "is a list"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ItmkitError, match=message):
        prepare_karpathy(Workspace(tmp_path), tmp_path / "a.json", images=tmp_path)


def test_preparing_again(tmp_path: Path) -> None:
    for number in range(2):
        save_picture(tmp_path / f"{number}.jpg", colour=number)
    workspace = Workspace(tmp_path / "work")
    file = write(tmp_path, entry(0))
    prepare_karpathy(workspace, file, images=tmp_path)
    before = workspace.dataset_path.stat()
    again = prepare_karpathy(workspace, file, images=tmp_path)
    assert again.unchanged and workspace.dataset_path.stat().st_mtime_ns == before.st_mtime_ns

    file = write(tmp_path, entry(0), entry(1))
    with pytest.raises(ItmkitError, match=r"another data set is there already \(karpathy: train 1\)\. --force"):
        prepare_karpathy(workspace, file, images=tmp_path)
    assert len(workspace.dataset().images) == 1
    assert not prepare_karpathy(workspace, file, images=tmp_path, force=True).unchanged
    assert len(workspace.dataset().images) == 2

    workspace.dataset_path.write_text("damaged\n")
    with pytest.raises(ItmkitError, match="damaged .*--force"):
        prepare_karpathy(workspace, file, images=tmp_path)
    prepare_karpathy(workspace, file, images=tmp_path, force=True)
    assert len(workspace.dataset().images) == 2


def test_a_changed_picture_makes_another_data_set(tmp_path: Path) -> None:
    save_picture(tmp_path / "0.jpg")
    file = write(tmp_path, entry(0))
    prepare_karpathy(Workspace(tmp_path), file, images=tmp_path)
    save_picture(tmp_path / "0.jpg", colour=99)
    with pytest.raises(ItmkitError, match="another data set"):
        prepare_karpathy(Workspace(tmp_path), file, images=tmp_path)


def test_one_picture_in_two_splits_is_noted(tmp_path: Path) -> None:
    save_picture(tmp_path / "0.jpg")
    save_picture(tmp_path / "1.jpg")
    file = write(tmp_path, entry(0, "train"), entry(1, "test"))
    result = prepare_karpathy(Workspace(tmp_path), file, images=tmp_path)
    assert result.notes == ["1 pictures are in two splits, byte for byte the same; the first: 0 (train) and 1 (test)"]


def test_real_file_with_few_of_its_pictures(tmp_path: Path, test_data: Path) -> None:
    folder = test_data / "ucm_captions_sample"
    workspace = Workspace(tmp_path)
    result = prepare_karpathy(workspace, folder / "dataset.json", images=folder / "images", skip=Skip(missing=True))
    assert result.counts == {"test": {"images": 20, "captions": 100}}
    assert len(result.skipped) == 2080
    assert {(image.width, image.height) for image in workspace.dataset().images} == {(256, 256)}
    assert all(image.file and image.file.endswith(".tif") for image in workspace.dataset().images)


def test_instances_of_coco_become_labels(tmp_path: Path) -> None:
    save_picture(tmp_path / "0.jpg")
    save_picture(tmp_path / "1.jpg", colour=1)
    instances = tmp_path / "instances_val2014.json"
    categories = [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 1, "name": "person"}]
    annotations = [{"image_id": 391895, "category_id": c} for c in (1, 18, 18)] + [{"image_id": 9, "category_id": 1}]
    instances.write_text(json.dumps({"annotations": annotations, "categories": categories}))
    file = write(tmp_path, entry(0, "test", cocoid=391895), entry(1, "test", cocoid=42))
    workspace = Workspace(tmp_path / "work")
    prepare_karpathy(workspace, file, images=tmp_path, instances=[instances])
    images = workspace.dataset().images
    assert [image.labels for image in images] == [("dog", "person"), ()]
    assert [image.supercategories for image in images] == [("animal",), ()]
    assert workspace.dataset().info["settings"]["instances"] == ["instances_val2014.json"]
    file = write(tmp_path, entry(0), entry(1))
    with pytest.raises(ItmkitError, match=r"have no cocoid, by which --instances finds their categories"):
        prepare_karpathy(Workspace(tmp_path / "flickr"), file, images=tmp_path, instances=[instances])

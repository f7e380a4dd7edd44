from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from itmkit.datasets.mirflickr import COLUMNS, LABELS, prepare_mirflickr
from itmkit.datasets.skip import Skip
from itmkit.datasets.tagged import Division
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.workspaces import save_picture

TAGS = {1: ["sky", "nikon"], 2: ["sky"], 3: [], 4: ["rare"], 5: ["sky", "españa"], 6: ["españa", "sky"]}
ANNOTATIONS = {"sky": [1, 2, 6], "clouds": [1, 3, 6], "clouds_r1": [1], "people": [4]}


def official(folder: Path, annotations: str = "mirflickr25k_annotations_v080") -> Path:
    """mirflickr/ as its authors pack it; image 3 has no tag, 4 a rare one, 5 no label."""
    (folder / "mirflickr/meta/tags").mkdir(parents=True)
    for number, tags in TAGS.items():
        save_picture(folder / f"mirflickr/im{number}.jpg", colour=number)
        text = "".join(f"{tag}\r\n" for tag in tags)
        (folder / f"mirflickr/meta/tags/tags{number}.txt").write_text(text, encoding="utf-8")
    (folder / annotations).mkdir()
    for label, numbers in ANNOTATIONS.items():
        (folder / annotations / f"{label}.txt").write_text("".join(f"{number}\n" for number in numbers))
    (folder / annotations / "README.txt").write_text("Potential and relevant labels\n")
    return folder


def aligned(folder: Path, names: bool = False) -> Path:
    folder.mkdir()
    for number in (1, 2, 6):
        save_picture(folder / f"mirflickr/im{number}.jpg", colour=number)
    (folder / "all_imgs.txt").write_text("".join(f"mirflickr/im{number}.jpg\r\n" for number in (1, 2, 6)))
    text = "".join(",".join(TAGS[number]) + "\r\n" for number in (1, 2, 6))
    (folder / "all_tags.txt").write_text(text, encoding="utf-8")
    if names:
        (folder / "labels_annotation.txt").write_text("clouds,sky\nsky\nclouds,sky\n")
    else:
        rows = [[str(int(n in ANNOTATIONS.get(label, []))) for label in LABELS] for n in (1, 2, 6)]
        (folder / "all_labels.txt").write_text("".join(" ".join(row) + "\r\n" for row in rows))
    return folder


def records(workspace: Workspace) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {i.id: (i.captions[0].text, i.labels) for i in workspace.dataset().images}


DIVISION = {"test", "val", "train", "seed", "lists"}


def prepare(tmp_path: Path, folder: Path, **options: Any) -> Any:
    drawn = {"test": 1, "val": 1} | {name: options.pop(name) for name in DIVISION & options.keys()}
    division = Division(**drawn)
    return prepare_mirflickr(Workspace(tmp_path / "work"), folder, **{"min_count": 2, "division": division, **options})


@pytest.mark.parametrize("annotations", ["mirflickr25k_annotations_v080", "annotations", "mirflickr/annotations"])
@pytest.mark.parametrize("inner", [False, True])
def test_the_authors_layout(tmp_path: Path, annotations: str, inner: bool) -> None:
    folder = official(tmp_path / "data", annotations)
    result = prepare(tmp_path, folder / "mirflickr" if inner else folder)
    assert {split: count["images"] for split, count in result.counts.items()} == {"train": 1, "val": 1, "test": 1}
    assert records(Workspace(tmp_path / "work")) == {
        "im1.jpg": ("sky", ("clouds", "sky")),  # clouds_r1 is clouds again
        "im2.jpg": ("sky", ("sky",)),
        "im6.jpg": ("españa sky", ("clouds", "sky")),
    }
    assert Workspace(tmp_path / "work").dataset().images[0].captions[0].id == "im1.jpg#0"
    assert result.notes == [
        "2 of 6 images are left out: none of the 2 tags (in at least 2 images)",
        "1 of 6 images are left out: tags, but no label",
    ]


def test_every_picture_is_kept(tmp_path: Path) -> None:
    folder = official(tmp_path / "data")
    result = prepare(tmp_path, folder, keep_all=True, test=2)
    assert records(Workspace(tmp_path / "work")) == {
        "im1.jpg": ("sky", ("clouds", "sky")),
        "im2.jpg": ("sky", ("sky",)),
        "im3.jpg": ("untagged", ("clouds",)),
        "im4.jpg": ("rare", ("people",)),
        "im5.jpg": ("sky españa", ()),
        "im6.jpg": ("españa sky", ("clouds", "sky")),
    }
    assert result.notes == [
        "1 of 6 images have rare tags alone",
        "1 of 6 images have no tag, and the caption 'untagged'",
        "1 of 6 images have no label",
    ]
    assert {split: count["images"] for split, count in result.counts.items()} == {"train": 3, "val": 1, "test": 2}
    shutil.rmtree(folder / "mirflickr25k_annotations_v080")
    prepare(tmp_path, folder, keep_all=True, force=True)
    assert {labels for _, labels in records(Workspace(tmp_path / "work")).values()} == {()}


def test_common_tags_say_which_tags_count(tmp_path: Path) -> None:
    folder = official(tmp_path / "data")
    (folder / "mirflickr/doc").mkdir()
    (folder / "mirflickr/doc/common_tags.txt").write_text("nikon 1\nrare 1\n")
    prepare(tmp_path, folder, min_count=None, test=1, val=0)
    assert records(Workspace(tmp_path / "work")) == {
        "im1.jpg": ("nikon", ("clouds", "sky")),
        "im4.jpg": ("rare", ("people",)),
    }
    prepare(tmp_path, folder, min_count=3, test=1, val=0, force=True)
    assert set(records(Workspace(tmp_path / "work"))) == {"im1.jpg", "im2.jpg", "im6.jpg"}


@pytest.mark.parametrize("names", [False, True])
def test_files_with_a_line_an_image(tmp_path: Path, names: bool) -> None:
    result = prepare(tmp_path, aligned(tmp_path / "lists", names), min_count=1)
    assert records(Workspace(tmp_path / "work")) == {
        "im1.jpg": ("sky nikon", ("clouds", "sky")),
        "im2.jpg": ("sky", ("sky",)),
        "im6.jpg": ("españa sky", ("clouds", "sky")),
    }
    assert result.notes == []
    assert prepare(tmp_path, tmp_path / "lists", min_count=1).unchanged


def test_lists_say_the_splits(tmp_path: Path) -> None:
    folder, lists = official(tmp_path / "data"), tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("im1.jpg 0 1\n")
    (lists / "test.txt").write_text("im6.jpg 1 0\nim5.jpg 1 0\n")
    (lists / "database.txt").write_text("im1.jpg 0 1\nim2.jpg 1 1\n")
    result = prepare(tmp_path, folder, lists=lists, test=None)
    assert {i.id: i.split for i in Workspace(tmp_path / "work").dataset().images} == {
        "im1.jpg": "train", "im2.jpg": "val", "im6.jpg": "test",
    }  # fmt: skip
    assert result.notes[-1] == f"1 images of the lists in {lists} are left out: without tags, labels or entry"
    result = prepare(tmp_path, folder, lists=lists, test=None, val=0, force=True)
    assert result.notes[-1] == "1 images with tags and labels are in no split and left out"
    with pytest.raises(ItmkitError, match="--lists says which images are test and train"):
        prepare(tmp_path, folder, lists=lists, test=1)


def test_labels_of_lists_where_there_are_no_others(tmp_path: Path) -> None:
    folder, lists = official(tmp_path / "data"), tmp_path / "lists"
    shutil.rmtree(folder / "mirflickr25k_annotations_v080")
    with pytest.raises(ItmkitError, match="no labels were found"):
        prepare(tmp_path, folder)
    lists.mkdir()
    for split, number, label in (("train", 1, "baby_r1"), ("test", 2, "water")):
        row = " ".join(str(int(name == label)) for name in COLUMNS[38])
        (lists / f"{split}.txt").write_text(f"im{number}.jpg {row}\n")
    prepare(tmp_path, folder, lists=lists, test=None, val=0)
    assert {id: labels for id, (_, labels) in records(Workspace(tmp_path / "work")).items()} == {
        "im1.jpg": ("baby_r1",), "im2.jpg": ("water",),
    }  # fmt: skip


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    folder = official(tmp_path / "data")
    tags, notes = folder / "mirflickr/meta/tags", folder / "mirflickr25k_annotations_v080"
    (tags / "tags2.txt").write_bytes(b"sky\ncaf\xe9\n")
    (notes / "sky.txt").write_text("1\n2\n6 \nseven\n")
    (folder / "mirflickr/im1.jpg").unlink()
    (folder / "mirflickr/im6.jpg").write_text("no picture")
    with pytest.raises(ItmkitError) as caught:
        prepare(tmp_path, folder)
    text = str(caught.value)
    for part in (
        f"{tags / 'tags2.txt'}: line 2: byte 4 (0xe9) is not UTF-8",
        f"{notes / 'sky.txt'}: line 4: expected the number of an image, found 'seven'",
        f"{tags / 'tags1.txt'}: image 'im1.jpg': {folder / 'mirflickr/im1.jpg'}: no such file",
        "im6.jpg: cannot be read as a picture",
        "--skip-missing",
    ):
        assert part in text, part
    assert not (tmp_path / "work").exists()


def test_everything_wrong_with_the_lines_is_reported_at_once(tmp_path: Path) -> None:
    folder = aligned(tmp_path / "lists")
    (folder / "all_tags.txt").write_text("sky\nsky\n")
    lines = (folder / "all_labels.txt").read_text().splitlines()
    (folder / "all_labels.txt").write_text(f"{lines[0]}\n1 0 1\n{lines[2][:-1]}x\nmore\n")
    with pytest.raises(ItmkitError) as caught:
        prepare(tmp_path, folder, min_count=1)
    text = str(caught.value)
    for part in (
        f"{folder / 'all_labels.txt'}: line 2: expected 24 or 38 columns of 0 and 1, found '1 0 1'",
        f"{folder / 'all_labels.txt'}: line 3: expected 24",
        "all_tags.txt has 2 lines, all_imgs.txt 3",
        "the file of labels has 4 lines, all_imgs.txt 3",
    ):
        assert part in text, part


def test_splits_too_large_and_folders_of_something_else(tmp_path: Path) -> None:
    folder = official(tmp_path / "data")
    with pytest.raises(ItmkitError, match="--test 2 and --val 1 leave nothing to train on: 3 images have tags"):
        prepare(tmp_path, folder, test=2)
    with pytest.raises(ItmkitError, match="has neither all_imgs.txt nor meta/tags"):
        prepare(tmp_path, tmp_path)
    with pytest.raises(ItmkitError) as caught:
        prepare(tmp_path, folder, min_count=None)  # no tag occurs 20 times
    assert len(caught.value.problems) == 1 and "0 images have tags and labels" in str(caught.value)


def test_missing_pictures_can_be_left_out(tmp_path: Path) -> None:
    folder = official(tmp_path / "data")
    (folder / "mirflickr/im2.jpg").unlink()
    result = prepare(tmp_path, folder, skip=Skip(missing=True))
    assert [skip.id for skip in result.skipped] == ["im2.jpg"]
    assert set(records(Workspace(tmp_path / "work"))) == {"im1.jpg", "im6.jpg"}


def test_real_lists(tmp_path: Path, test_data: Path) -> None:
    """20,015 images with the 1,386 tags and 24 labels; of the other file of labels, the first 500."""
    folder = test_data / "mirflickr25k_text"
    for number in (1, 2, 13368):
        save_picture(tmp_path / f"pictures/im{number}.jpg", colour=number % 256)
    result = prepare_mirflickr(Workspace(tmp_path / "a"), folder, images=tmp_path / "pictures", skip=Skip(missing=True))
    assert len(result.skipped) == 20_015 - 3 and result.notes == []
    first = records(Workspace(tmp_path / "a"))
    assert first["im1.jpg"] == (
        "cigarette tattoos smoke red dress sunglasses",
        ("female", "people", "portrait", "sky", "structures"),
    )
    named = tmp_path / "named"
    named.mkdir()
    for name, file in (
        *((name, name) for name in ("all_imgs.txt", "all_tags.txt", "TagList.txt")),
        ("labels_annotation.txt", "MATH/labels_annotation.txt"),
    ):
        lines = (folder / file).read_bytes().splitlines(keepends=True)
        (named / name).write_bytes(b"".join(lines if name == "TagList.txt" else lines[:500]))
    prepare(tmp_path / "b", named, min_count=None, images=tmp_path / "pictures", skip=Skip(missing=True), val=0)
    assert records(Workspace(tmp_path / "b" / "work")) == {name: first[name] for name in ("im1.jpg", "im2.jpg")}
    result = prepare_mirflickr(
        Workspace(tmp_path / "c"),
        folder,
        images=tmp_path / "pictures",
        division=Division(lists=folder / "deephash_38label"),
        skip=Skip(missing=True),
    )
    assert {i.id: i.split for i in Workspace(tmp_path / "c").dataset().images}["im13368.jpg"] == "test"
    assert result.notes[0].startswith("4,985 images of the lists")  # 25,000 less 20,015


def test_real_columns_have_these_names(test_data: Path) -> None:
    """The 24 named columns among the 38 of the lists are the same images' labels, as are those of all_labels.txt."""
    folder = test_data / "mirflickr25k_text"
    names = [line.strip().rpartition("/")[2] for line in (folder / "all_imgs.txt").read_text().splitlines()]
    labels = [set(line.split(",")) for line in (folder / "MATH/labels_annotation.txt").read_text().splitlines()]
    columns = [line.split() for line in (folder / "all_labels.txt").read_text().splitlines()]
    for marks, expected in zip(columns, labels, strict=True):
        assert {label for label, mark in zip(COLUMNS[24], marks, strict=True) if mark == "1"} == expected
    rows = {
        name: marks
        for split in ("train", "test", "database")
        for name, *marks in map(str.split, (folder / f"deephash_38label/{split}.txt").read_text().splitlines())
    }
    for name, expected in zip(names, labels, strict=True):
        marked = {label for label, mark in zip(COLUMNS[38], rows[name], strict=True) if mark == "1"}
        assert {label for label in marked if not label.endswith("_r1")} == expected

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from itmkit.datasets.nuswide import prepare_nuswide
from itmkit.datasets.tagged import Division
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.workspaces import save_picture

PICTURES = [
    ("actor/0001_11.jpg", ["person", "sky"], {"person", "sky"}),
    ("actor/0002_12.jpg", ["person"], {"person"}),
    ("zebra/0001_13.jpg", [], {"animal"}),  # no tag
    ("zebra/0002_14.jpg", ["zebra", "odd"], {"animal", "sky"}),
    ("zebra/0003_15.jpg", ["zebra"], set()),  # no label
    ("zebra/0004_11.jpg", ["person", "sky"], {"person", "sky"}),  # Flickr's number 11 again, as happens
]
CONCEPTS = ("animal", "person", "sky")
TRAIN, TEST = (0, 1, 2, 4), (3, 5)


def make(folder: Path, flat: bool = False) -> Path:
    """The unpacked archives, or with `flat` all their files in one folder."""

    def place(path: str) -> Path:
        where = folder / (Path(path).name if flat else path)
        where.parent.mkdir(parents=True, exist_ok=True)
        return where

    names = [name.replace("/", "\\") for name, _, _ in PICTURES]
    place("ImageList/Imagelist.txt").write_text("".join(f"{name} \r\n" for name in names))
    for part, chosen in (("Train", TRAIN), ("Test", TEST)):
        place(f"ImageList/{part}Imagelist.txt").write_text("".join(f"{names[n]}\n" for n in chosen))
    lines = [f"{name.rpartition('_')[2][:-4]}      {' '.join(tags)} \n" for name, tags, _ in PICTURES]
    place("NUS_WID_Tags/All_Tags.txt").write_text("".join(lines))
    place("NUS_WID_Tags/TagList1k.txt").write_text("person\nsky\nzebra\n")
    place("ConceptsList/Concepts81.txt").write_text("".join(f"{concept}\n" for concept in CONCEPTS))
    labels = folder / ("AllLabels" if flat else "Groundtruth/AllLabels")
    labels.mkdir(parents=True)
    parts = labels.parent / "TrainTestLabels"
    parts.mkdir()
    for concept in CONCEPTS:
        marks = [f"{int(concept in shown)}\n" for _, _, shown in PICTURES]
        (labels / f"Labels_{concept}.txt").write_text("".join(marks))
        for part, chosen in (("Train", TRAIN), ("Test", TEST)):
            (parts / f"Labels_{concept}_{part}.txt").write_text("".join(marks[n] for n in chosen))
    for number, (name, _, _) in enumerate(PICTURES):
        save_picture(folder / "Flickr" / name, colour=number)
    return folder


DIVISION = {"test", "val", "train", "seed", "lists"}


def prepare(tmp_path: Path, folder: Path, **options: Any) -> Any:
    drawn = {"test": 1, "val": 1} | {name: options.pop(name) for name in DIVISION & options.keys()}
    return prepare_nuswide(Workspace(tmp_path / "work"), folder, division=Division(**drawn), **options)


def records(tmp_path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {i.id: (i.captions[0].text, i.labels) for i in Workspace(tmp_path / "work").dataset().images}


KEPT = {
    "actor/0001_11.jpg": ("person sky", ("person", "sky")),
    "actor/0002_12.jpg": ("person", ("person",)),
    "zebra/0002_14.jpg": ("zebra", ("animal", "sky")),
    "zebra/0004_11.jpg": ("person sky", ("person", "sky")),
}


@pytest.mark.parametrize("flat", [False, True])
def test_the_authors_layout(tmp_path: Path, flat: bool) -> None:
    result = prepare(tmp_path, make(tmp_path / "nus", flat))
    assert records(tmp_path) == KEPT
    assert {split: count["images"] for split, count in result.counts.items()} == {"train": 2, "val": 1, "test": 1}
    assert result.notes == [
        "1 of 6 images are left out: none of the 3 tags (TagList1k.txt)",
        "1 of 6 images are left out: tags, but no label",
    ]
    assert prepare(tmp_path, tmp_path / "nus").unchanged


def test_the_most_frequent_concepts(tmp_path: Path) -> None:
    """person and sky have three images each, animal two: the two remain, and the images without them do not."""
    prepare(tmp_path, make(tmp_path / "nus"), concepts=2)
    assert records(tmp_path) == {**KEPT, "zebra/0002_14.jpg": ("zebra", ("sky",))}
    prepare(tmp_path, tmp_path / "nus", concepts=1, force=True)
    assert {labels for _, labels in records(tmp_path).values()} == {("person",)} and len(records(tmp_path)) == 3


def test_images_of_one_concept_alone(tmp_path: Path) -> None:
    """The ten classes of NUS-WIDE-10K in small: so many images of each, which have no other of the classes."""
    folder = make(tmp_path / "nus")
    result = prepare(tmp_path, folder, concepts=("person", "animal"), each=1, val=0)
    # zebra/0002_14.jpg is of the sky too, which is none of the classes; zebra/0001_13.jpg has no tag.
    found = records(tmp_path)
    assert found.pop("zebra/0002_14.jpg") == ("zebra", ("animal",))
    assert len(found) == 1 and {labels for _, labels in found.values()} == {("person",)}
    assert result.notes[0] == "2 of 6 images are taken, 1 with each of 2 labels and no other"
    drawn = [next(iter(found))]
    for seed in range(1, 9):
        prepare(tmp_path, folder, concepts=("person", "animal"), each=1, val=0, seed=seed, force=True)
        drawn += [id for id in records(tmp_path) if id != "zebra/0002_14.jpg"]
    assert 1 < len(set(drawn)) <= 3
    with pytest.raises(ItmkitError) as caught:
        prepare(tmp_path, folder, concepts=("person", "animals"), each=9, force=True)
    text = str(caught.value)
    assert "--concepts 'animals': no such concept; did you mean 'animal'?" in text
    assert "--each 9: only 3 images have tags and 'person' as their one label" in text
    with pytest.raises(ItmkitError, match="--each draws images, and --lists says which"):
        prepare(tmp_path, folder, lists=folder / "ImageList", test=None, each=1)


def test_the_official_split(tmp_path: Path) -> None:
    folder = make(tmp_path / "nus")
    prepare(tmp_path, folder, lists=folder / "ImageList", test=None, val=0)
    assert {i.id: i.split for i in Workspace(tmp_path / "work").dataset().images} == {
        "actor/0001_11.jpg": "train", "actor/0002_12.jpg": "train",
        "zebra/0002_14.jpg": "test", "zebra/0004_11.jpg": "test",
    }  # fmt: skip


def test_another_vocabulary_or_none(tmp_path: Path) -> None:
    folder = make(tmp_path / "nus")
    final = folder / "NUS_WID_Tags/Final_Tag_List.txt"
    final.write_text("odd\nsky\n")
    prepare(tmp_path, folder, vocabulary=final, val=0)
    assert {id: text for id, (text, _) in records(tmp_path).items()} == {
        "actor/0001_11.jpg": "sky", "zebra/0002_14.jpg": "odd", "zebra/0004_11.jpg": "sky",
    }  # fmt: skip
    (folder / "NUS_WID_Tags/TagList1k.txt").unlink()
    prepare(tmp_path, folder, force=True)
    assert records(tmp_path)["zebra/0002_14.jpg"][0] == "zebra odd"


def test_labels_of_the_two_official_lists(tmp_path: Path) -> None:
    folder = make(tmp_path / "nus")
    shutil.rmtree(folder / "Groundtruth/AllLabels")
    prepare(tmp_path, folder)
    assert records(tmp_path) == KEPT
    (folder / "ConceptsList/Concepts81.txt").unlink()  # the names of the files are enough
    assert prepare(tmp_path, folder).unchanged
    # The real Labels_lake_Train.txt has such a line.
    path = folder / "Groundtruth/TrainTestLabels/Labels_sky_Train.txt"
    path.write_text("1\n0\n-1130179\n0\n")
    with pytest.raises(ItmkitError, match=r"Labels_sky_Train\.txt: line 3: expected 0 or 1, found '-1130179'"):
        prepare(tmp_path, folder)


def test_only_lists_with_labels_and_tags_by_number(tmp_path: Path) -> None:
    folder, lists = tmp_path / "nus", tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("images/0007_11.jpg 1 0\nimages/0009_12.jpg 0 1\nimages/0010_99.jpg 0 1\n")
    (lists / "test.txt").write_text("images/36051_13_ab0704971e_m.jpg 1 1\n")
    folder.mkdir()
    (folder / "All_Tags.txt").write_text("13 sea\n11 sky dog\n12 sun\n")
    for number, name in enumerate(("0007_11.jpg", "0009_12.jpg", "36051_13_ab0704971e_m.jpg")):
        save_picture(folder / "images" / name, colour=number)
    result = prepare(tmp_path, folder, lists=lists, test=None, val=0)
    assert records(tmp_path) == {
        "images/0007_11.jpg": ("sky dog", ("concept 1",)),
        "images/0009_12.jpg": ("sun", ("concept 2",)),
        "images/36051_13_ab0704971e_m.jpg": ("sea", ("concept 1", "concept 2")),
    }
    assert result.notes[0] == "1 of 4 images are left out: none of the 4 tags (all)"
    (folder / "Concepts81.txt").write_text("animal\nsky\n")
    prepare(tmp_path, folder, lists=lists, test=None, val=0, force=True)
    assert records(tmp_path)["images/0009_12.jpg"] == ("sun", ("sky",))


def test_listed_pictures_are_recognised_by_path_name_or_number(tmp_path: Path) -> None:
    folder, lists = make(tmp_path / "nus"), tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("zebra\\0004_11.jpg\nimages/0002_12.jpg\n")
    (lists / "test.txt").write_text("images/5_14_ab_m.jpg\n")
    prepare(tmp_path, folder, lists=lists, test=None, val=0)
    assert {i.id: i.split for i in Workspace(tmp_path / "work").dataset().images} == {
        "zebra/0004_11.jpg": "train", "actor/0002_12.jpg": "train", "zebra/0002_14.jpg": "test",
    }  # fmt: skip


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    folder = make(tmp_path / "nus")
    tags = folder / "NUS_WID_Tags/All_Tags.txt"
    tags.write_text(tags.read_text().replace("12 ", "21 ") + "\n")
    labels = folder / "Groundtruth/AllLabels"
    (labels / "Labels_person.txt").write_text("1\n1\n0\n2\n0\n1\n")
    (labels / "Labels_sky.txt").write_text("1\n")
    (labels / "Labels_animal.txt").unlink()
    (folder / "Flickr/actor/0001_11.jpg").unlink()
    with pytest.raises(ItmkitError) as caught:
        prepare(tmp_path, folder)
    text = str(caught.value)
    for part in (
        f"{tags}: has 7 lines, the list of images 6",
        f"{tags}: line 2: expected tags of 12, as {folder / 'ImageList/Imagelist.txt'}: line 2; found ['21']",
        f"{labels / 'Labels_person.txt'}: line 4: expected 0 or 1, found '2'",
        f"{labels / 'Labels_sky.txt'}: has 1 lines, the list of its images 6",
        f"{labels / 'Labels_animal.txt'}: no such file",
        "0001_11.jpg: no such file",
    ):
        assert part in text, part
    assert not (tmp_path / "work").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match=r"has no ImageList/Imagelist\.txt"):
        prepare(tmp_path, tmp_path)
    folder = make(tmp_path / "nus")
    shutil.rmtree(folder / "NUS_WID_Tags")
    shutil.rmtree(folder / "Groundtruth")
    with pytest.raises(ItmkitError) as caught:
        prepare(tmp_path, folder, vocabulary=folder / "typo.txt")
    text = str(caught.value)
    for part in ("has no NUS_WID_Tags/All_Tags.txt", "has neither Groundtruth/AllLabels nor", "typo.txt: no such file"):
        assert part in text, part


@pytest.mark.parametrize(("name", "width"), [("deephash_21", 21), ("deephash_81_m", 81)])
def test_real_lists(tmp_path: Path, test_data: Path, name: str, width: int) -> None:
    """The lists are real; the tags of their pictures are not at hand and made up, for the first three of each."""
    lists = test_data / "nuswide_text" / name
    chosen = [line.split() for s in ("train", "test") for line in (lists / f"{s}.txt").read_text().splitlines()[:3]]
    folder = tmp_path / "nus"
    folder.mkdir()
    shutil.copy(test_data / "nuswide_text/TagList1k.txt", folder)
    number = {path: path.rpartition("/")[2].split("_")[1].removesuffix(".jpg") for path, *_ in chosen}
    (folder / "All_Tags.txt").write_text("".join(f"{number[path]} nature no-tag-of-these sky\n" for path, *_ in chosen))
    for colour, (path, *_) in enumerate(chosen):
        save_picture(folder / path, colour=colour)
    result = prepare(tmp_path, folder, lists=lists, test=None, val=0, concepts=None)
    assert {split: count["images"] for split, count in result.counts.items()} == {"train": 3, "test": 3}
    marked = {path: [f"concept {n}" for n, mark in enumerate(marks, 1) if mark == "1"] for path, *marks in chosen}
    assert len(chosen[0]) == width + 1
    assert records(tmp_path) == {path: ("nature sky", tuple(marked[path])) for path, *_ in chosen}

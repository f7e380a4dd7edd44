from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itmkit.datasets.auto import prepare_auto
from itmkit.datasets.look import READERS, look_at
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.datasets.packed_files import img2dataset_sample, write_tar
from tests.workspaces import save_picture


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


def text(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_kaggle_flickr30k_with_the_line_that_lacks_a_bar(here: Path) -> None:
    for number, name in enumerate(("1000092795.jpg", "2199200615.jpg")):
        save_picture(here / "flickr30k_images" / name, colour=number)
    lines = ["image_name| comment_number| comment"]
    lines += [f"1000092795.jpg| {n}| Two young guys with shaggy hair number {n} ." for n in range(5)]
    lines += [f"2199200615.jpg| {n}| A dog , number {n} ." for n in range(4)]
    lines += ["2199200615.jpg| 4   A dog runs across the grass ."]
    text(here / "results.csv", "\n".join(lines) + "\n")
    work = Workspace(here / "work")
    look, result = prepare_auto(work, here / "results.csv", images=here / "flickr30k_images", split="test")
    assert look.reader == "csv" and result.notes[0].startswith(
        "taken for csv: a table with the columns image_name and comment"
    )
    dog = work.dataset().images[1]
    assert (dog.captions[4].id, dog.captions[4].text) == ("2199200615.jpg#4", "A dog runs across the grass .")


def test_kaggle_flickr8k(here: Path) -> None:
    for number in range(3):
        save_picture(here / "Images" / f"{number}.jpg", colour=number)
    rows = [f'{number}.jpg,"A child, number {k} ."' for number in range(3) for k in range(5)]
    text(here / "captions.txt", "\n".join(["image,caption", *rows]))
    work = Workspace(here / "work")
    look, result = prepare_auto(work, here, images=here / "Images")
    assert (look.reader, look.paths) == ("csv", (here / "captions.txt",))
    assert sum(count["captions"] for count in result.counts.values()) == 15


def test_json_lists_of_albef_and_blip(here: Path) -> None:
    for number in range(4):
        save_picture(here / "val2014" / f"COCO_val2014_{number}.jpg", colour=number)
    train = [
        {"caption": f"C {n}", "image": f"val2014/COCO_val2014_{n}.jpg", "image_id": f"coco_{n}"} for n in (0, 0, 1)
    ]
    val = [{"image": "val2014/COCO_val2014_2.jpg", "caption": [f"V {k}" for k in range(7)]}]
    test = [{"image": "val2014/COCO_val2014_3.jpg", "caption": [f"T {k}" for k in range(5)]}]
    for name, content in (("train", train), ("val", val), ("test", test)):
        text(here / f"coco_karpathy_{name}.json", content)
    work = Workspace(here / "work")
    look, result = prepare_auto(work, here)
    assert look.reader == "jsonl" and len(look.paths) == 3
    assert {split: tuple(count.values()) for split, count in result.counts.items()} == {
        "test": (1, 5), "train": (2, 3), "val": (1, 7),
    }  # fmt: skip


def test_what_things_are_taken_for(here: Path) -> None:
    karpathy = {"images": [{"sentids": [1], "sentences": [{"raw": "A"}], "filename": "a.jpg"}], "dataset": "flickr8k"}
    coco = {"info": {}, "images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}
    text(here / "f8k" / "Flickr8k.token.txt", "a.jpg#0\tA")
    text(here / "mir" / "meta" / "tags" / "tags1.txt", "dog")
    text(here / "nus" / "ImageList" / "Imagelist.txt", "a\\b.jpg")
    text(here / "hub" / "train" / "metadata.csv", "file_name,text\n")
    write_tar(here / "wds" / "test" / "0.tar", img2dataset_sample(0, "A"))
    text(here / "sidecar" / "a.txt", "A")
    save_picture(here / "sidecar" / "a.jpg")
    save_picture(here / "photos" / "deep" / "a.jpg")
    text(here / "coco" / "annotations" / "captions_val2017.json", coco)
    text(here / "coco" / "annotations" / "instances_val2017.json", coco)
    (here / "p.parquet").write_bytes(b"PAR1 ... PAR1")
    cases = {
        text(here / "k.json", karpathy): "karpathy",
        text(here / "c.json", coco): "coco",
        text(here / "l.jsonl", '{"image": "a.jpg", "caption": "A"}\n'): "jsonl",
        text(here / "results_20130124.token", "1000092795.jpg#0\tTwo men ."): "csv",
        here / "p.parquet": "parquet",
        here / "wds" / "test" / "0.tar": "webdataset",
        here / "f8k": "flickr8k",
        here / "mir": "mirflickr",
        here / "nus": "nuswide",
        here / "hub": "imagefolder",
        here / "wds": "webdataset",
        here / "sidecar": "pairs",
        here / "photos": "images",
        here / "coco": "coco",
    }
    assert {path: look_at(path).reader for path in cases} == cases
    assert look_at(here / "coco").paths == (here / "coco" / "annotations" / "captions_val2017.json",)
    assert set(cases.values()) == set(READERS)


def test_what_is_several_things_or_none(here: Path) -> None:
    text(here / "both" / "a.csv", "image,caption\n")
    text(here / "both" / "b.jsonl", '{"image": "a.jpg", "caption": "A"}')
    with pytest.raises(
        ItmkitError, match=r"may be several things\. has a\.csv.*prepare csv .*; has b\.jsonl.*prepare jsonl"
    ):
        look_at(here / "both")
    text(here / "none" / "readme.md", "x")
    with pytest.raises(ItmkitError, match=r"nothing that a reader knows; it holds readme\.md\. readers: karpathy"):
        look_at(here / "none")
    (here / "scan").mkdir()
    np.save(here / "scan" / "train_ims.npy", np.zeros(3))
    with pytest.raises(ItmkitError, match="import-features scan"):
        look_at(here / "scan")
    with pytest.raises(ItmkitError, match="ratings of Crisscrossed Captions"):
        look_at(text(here / "sits_val.csv", "image,caption,agg_score,sampling_method\n"))
    with pytest.raises(ItmkitError, match="no reader knows"):
        look_at(text(here / "x.json", '{\n "model": 1}'))
    with pytest.raises(ItmkitError, match="its first line is 'Dear reader'. If it is a table"):
        look_at(text(here / "letter.txt", "Dear reader\n"))
    (here / "a.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(ItmkitError, match="is a Python pickle, which is never read"):
        look_at(here / "a.pkl")
    with pytest.raises(ItmkitError, match="no such file or folder"):
        look_at(here / "gone")
    save_picture(here / "photos" / "a.jpg")
    with pytest.raises(ItmkitError, match="is taken for images .*, which has no --split"):
        prepare_auto(Workspace(here / "work"), here / "photos", split="train")


def test_what_the_workspace_made_is_passed_over(here: Path) -> None:
    """The folder is the workspace too, as it is without -w."""
    for number in range(3):
        save_picture(here / f"{number}.jpg", colour=number)
    text(here / "captions.csv", "image,caption\n0.jpg,A\n1.jpg,B\n2.jpg,C\n")
    work = Workspace(here)
    prepare_auto(work, here)
    work.dataset()  # writes its index
    text(here / "plots" / "table.json", '{"image": "a.jpg", "caption": "A"}')
    assert prepare_auto(work, here)[1].unchanged
    assert prepare_auto(Workspace(here / "other"), here.parent)[0].reader == "csv"
    (here / "dataset.info.json").unlink()  # a file of anybody's may be called so
    with pytest.raises(ItmkitError, match="may be several things"):
        look_at(here)

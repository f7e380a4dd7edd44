from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from itmkit.commands.console import run
from itmkit.commands.prepare import command
from itmkit.workspace import Workspace
from tests.workspaces import save_picture


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(2):
        save_picture(tmp_path / f"{number}.jpg", colour=number)
    (tmp_path / "t.csv").write_text("image,caption\n0.jpg,One\n0.jpg,Uno\n1.jpg,Two\n")
    return tmp_path / "t.csv"


def prepare(*arguments: str | Path) -> int:
    return run(command, [str(argument) for argument in arguments])


def test_table_of_counts_and_doing_nothing_twice(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = table.parent / "work"
    assert prepare("csv", table, "--split", "train", "-w", work) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("train" in line and "2" in line and "3" in line for line in lines)
    assert lines[-1] == f"{work}/dataset.jsonl written"
    assert prepare("csv", table, "--split", "train", "-w", work) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("is already this data set; nothing to do")
    assert prepare("csv", table, "--split", "val", "-w", work) == 2
    assert "--force" in capsys.readouterr().err
    assert prepare("csv", table, "--split", "val", "-w", work, "--force") == 0
    assert [image.split for image in Workspace(work).dataset().images] == ["val", "val"]


def test_json(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(table, "a") as out:
        out.write("gone.jpg,Nothing\n")
    assert prepare("csv", table, "--split", "test", "-w", table.parent, "--skip-missing", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["counts"] == {"test": {"images": 2, "captions": 3}} and result["unchanged"] is False
    assert [skip["id"] for skip in result["skipped"]] == ["gone.jpg"]


def test_problems_go_to_standard_error_with_exit_code_2(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.write_text("image,caption,split\n0.jpg,,train\ngone.jpg,x,nowhere\n")
    assert prepare("csv", table, "-w", table.parent / "work") == 2
    told = capsys.readouterr()
    assert told.out == "" and "Traceback" not in told.err
    for part in ("line 2: image '0.jpg': caption '0.jpg#0' is empty", "unknown split 'nowhere'", "4 problems"):
        assert part in told.err
    assert not (table.parent / "work").exists()


def test_hundreds_of_problems_are_capped(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.write_text("image,caption\n" + "".join(f"{number}.jpg,x\n" for number in range(500)))
    assert prepare("csv", table, "--split", "val", "-w", table.parent) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 51 and errors[-1] == "499 problems, 449 more not shown"
    assert "--skip-missing" in errors[0]


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_captions_is_a_number_or_all(tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("flickr8k", tmp_path, "--captions", value) == 2
    assert "neither a number above 0 nor `all`" in capsys.readouterr().err


def test_all_captions(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.jpg")
    (tmp_path / "captions_val2014.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg"}],
                "annotations": [{"id": n, "image_id": 1, "caption": f"{n}"} for n in range(8)],
            }
        )
    )
    for captions, count in (("all", 8), ("2", 2)):
        arguments = ["coco", tmp_path / "captions_val2014.json", "--images", tmp_path, "--captions", captions]
        assert prepare(*arguments, "-w", tmp_path / captions) == 0
        assert len(Workspace(tmp_path / captions).dataset().images[0].captions) == count


def test_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scenes", "--train", "4", "--val", "3", "--test", "3", "-w", tmp_path]
    assert prepare(*arguments) == 0
    dataset = Workspace(tmp_path).dataset()
    assert dataset.kind == "scenes" and len(dataset.images) == 10
    assert prepare(*arguments) == 0
    assert "is already this data set" in capsys.readouterr().out
    assert prepare(*arguments, "--seed", "1") == 2
    assert prepare(*arguments, "--seed", "1", "--force") == 0
    assert Workspace(tmp_path).dataset().images != dataset.images


def test_without_a_kind_the_help_is_shown() -> None:
    result = CliRunner().invoke(command, [])
    for kind in ("karpathy", "flickr8k", "coco", "mirflickr", "nuswide", "jsonl", "csv", "scenes"):
        assert kind in result.output


def test_mirflickr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 6):
        save_picture(tmp_path / f"mirflickr/im{number}.jpg", colour=number)
    tags = tmp_path / "mirflickr/meta/tags"
    tags.mkdir(parents=True)
    for number in range(1, 6):
        (tags / f"tags{number}.txt").write_text("" if number == 5 else f"sky\ntag{number}\n")
    (tmp_path / "annotations_v080").mkdir()
    (tmp_path / "annotations_v080/clouds.txt").write_text("1\n2\n3\n4\n")
    arguments = ["mirflickr", tmp_path, "--test", "1", "--val", "1", "--train", "1", "-w", tmp_path / "work"]
    assert prepare(*arguments, "--min-count", "2") == 0
    told = capsys.readouterr().out
    assert "note: 1 of 5 images are left out: none of the 1 tags (in at least 2 images)" in told
    assert "note: 1 images with tags and labels are in no split and left out" in told
    dataset = Workspace(tmp_path / "work").dataset()
    assert dataset.kind == "mirflickr" and sorted(i.split for i in dataset.images) == ["test", "train", "val"]
    assert {(i.captions[0].text, i.labels) for i in dataset.images} == {("sky", ("clouds",))}
    assert prepare(*arguments, "--min-count", "2", "--lists", tmp_path) == 2
    assert "--lists says which images are test and train" in capsys.readouterr().err
    assert prepare(*arguments) == 2  # no tag is in 20 images
    assert "0 images have tags and labels" in capsys.readouterr().err


def test_nuswide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("ImageList", "NUS_WID_Tags", "Groundtruth/AllLabels"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(1, 5):
        save_picture(tmp_path / f"Flickr/actor/000{number}_1{number}.jpg", colour=number)
    paths = [f"actor\\000{number}_1{number}.jpg\n" for number in range(1, 5)]
    (tmp_path / "ImageList/Imagelist.txt").write_text("".join(paths))
    (tmp_path / "ImageList/TrainImagelist.txt").write_text("".join(paths[:3]))
    (tmp_path / "ImageList/TestImagelist.txt").write_text(paths[3])
    (tmp_path / "NUS_WID_Tags/All_Tags.txt").write_text("11 a\n12 b\n13 c\n14 d\n")
    (tmp_path / "Groundtruth/AllLabels/Labels_sky.txt").write_text("1\n1\n1\n1\n")
    (tmp_path / "Groundtruth/AllLabels/Labels_sun.txt").write_text("0\n1\n0\n0\n")
    arguments = ["nuswide", tmp_path, "--lists", tmp_path / "ImageList", "--val", "1", "-w", tmp_path / "work"]
    assert prepare(*arguments, "--concepts", "all", "--json") == 0
    counts = {split: count["images"] for split, count in json.loads(capsys.readouterr().out)["counts"].items()}
    assert counts == {"train": 2, "val": 1, "test": 1}
    images = Workspace(tmp_path / "work").dataset().images
    assert [image.labels for image in images] == [("sky",), ("sky", "sun"), ("sky",), ("sky",)]
    assert images[3].split == "test" and images[3].file == str(tmp_path / "Flickr/actor/0004_14.jpg")
    (tmp_path / "Groundtruth/AllLabels/Labels_sun.txt").write_text("0\n1\n-1\n0\n")
    assert prepare(*arguments, "--force") == 2
    assert "Labels_sun.txt: line 3: expected 0 or 1, found '-1'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["mirflickr", "nuswide"])
def test_help_has_an_example(kind: str) -> None:
    result = CliRunner().invoke(command, [kind, "--help"])
    assert f"itmkit prepare {kind} " in result.output and "--lists" in result.output


def test_options_of_a_table_and_what_is_left_out(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["where\ten\tde", "0.jpg\tOne [bold]\tEins", "1.jpg\t...\t\u200b", *("0.jpg" for _ in range(12))]
    table.write_text("\n".join(rows), encoding="utf-8")
    Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(table.parent / "0.jpg", "png")
    work = table.parent / "work"
    columns = ["--image-column", "where", "--caption-column", "en", "--caption-column", "de", "--delimiter", "tab"]
    assert prepare("csv", table, *columns, "--split", "val", "-w", work, "--skip-damaged", "--skip-empty") == 0
    printed = capsys.readouterr().out
    assert f"15 records, captions or images were left out (all are listed in {work}/dataset.left-out.txt):" in printed
    assert "line 4: has 1 cells, the header 3" in printed and "and 5 more" in printed
    assert "note: 1 grey pictures are stored with 16 bits" in printed
    assert len((work / "dataset.left-out.txt").read_text().splitlines()) == 15
    assert [caption.text for caption in Workspace(work).dataset().images[0].captions] == ["One [bold]", "Eins"]
    assert prepare("csv", table, "--delimiter", "two") == 2
    assert "one character, or tab, comma" in capsys.readouterr().err

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

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
    for kind in ("karpathy", "flickr8k", "coco", "jsonl", "csv", "scenes"):
        assert kind in result.output

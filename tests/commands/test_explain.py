from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import itmkit
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.workspace import Workspace

TEXT = "a big red dog left of the car"


def explain(trained: Workspace, name: str, *more: str, image: str | None = None, text: str = TEXT) -> int:
    image = image or trained.dataset().split("test")[0].id
    return run(cli, ["explain", "-w", str(trained.root), "--run", name, "--image", image, *more, text])


def test_a_table_of_words_with_what_they_look_at(trained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    image = trained.dataset().split("test")[0]
    found = itmkit.open(trained.run("glfn")).explain(image.id, TEXT)
    assert found.attention is not None
    assert explain(trained, "glfn") == 0
    told = capsys.readouterr()
    assert f"{image.id}: score {found.score:.4f} by glfn" in told.out and "mean of t2i" in told.out
    (row,) = [line for line in told.out.splitlines() if "│ dog" in line]
    best = int(found.attention[3].argmax())
    assert f"{found.importance[3]:+.4f}" in row and f"{best} {found.regions[best]}" in row
    assert f"{found.attention[3, best]:.3f}" in row
    assert explain(trained, "dual") == 0
    assert "no word looks at a region" in capsys.readouterr().out


def test_all_numbers_as_json_printed_and_in_a_file(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(trained, "mpsm", "--json", "-o", str(tmp_path / "a.json"), text="a zebra left of the car") == 0
    told = capsys.readouterr()
    printed = json.loads(told.out)
    assert printed == json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [word["word"] for word in printed["words"]] == ["a", "zebra", "left", "of", "the", "car"]
    np.testing.assert_allclose(np.sum(printed["attention"], axis=1), 1, atol=1e-4)
    assert "training did not see" in told.err and "zebra" in told.err


def test_a_figure_of_a_new_picture_with_the_path_of_a_run(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    Image.new("RGB", (90, 60), (200, 180, 160)).save(tmp_path / "new.png")
    monkeypatch.chdir(tmp_path)
    elsewhere = Workspace(tmp_path)
    given = str(trained.run("mefn"))
    assert explain(elsewhere, given, "-o", "figure.svg", image="new.png") == 0, capsys.readouterr().err
    written = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "new.png: score" in written and ">entropy<" in written and ">nsubj<" not in written
    assert str(tmp_path / "figure.svg") in capsys.readouterr().out
    assert explain(elsewhere, given, "-o", "new.jpg", image="new.png") == 2
    assert ".svg, .png, .pdf or .json" in capsys.readouterr().err


def test_without_its_picture_the_figure_is_grey_and_says_so(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    home = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    image = home.dataset().split("test")[0]
    assert image.file is not None
    home.image_path(image.file).write_bytes(b"another one")
    assert explain(home, "mpsm", "-o", str(tmp_path / "a.png")) == 0
    told = capsys.readouterr()
    assert "drawn without the picture" in told.err and "has changed since its regions were found" in told.err
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_wrong_is_exit_code_2_and_nothing_is_written(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, says in (
        ({"name": "mpms"}, "no such run, nor the folder of one; there are dual, glfn, mefn, mpsm"),
        ({"name": "mpsm", "image": "nowhere.jpg"}, "no such file, and not the id of an image"),
        ({"name": "mpsm", "text": " .\u200b"}, "holds no word"),
    ):
        assert explain(trained, **arguments) == 2
        told = capsys.readouterr()
        assert says in told.err and "Traceback" not in told.err and told.out == ""
    assert run(cli, ["explain", "-w", str(trained.root), "--image", "x", TEXT]) == 2
    assert "--run NAME says which run" in capsys.readouterr().err
    assert explain(trained, "mpsm", "--model-of", "bert") == 2
    assert "is written CACHE=FOLDER" in capsys.readouterr().err
    (tmp_path / "mine.svg").write_text("notes")
    assert explain(trained, "mpsm", "-o", str(tmp_path / "mine.svg")) == 2
    assert "is there already and is not a figure" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert explain(trained, "mpsm", "-o", str(tmp_path / "a.svg")) == 2
    assert "pip install 'itmkit[report]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.svg"]

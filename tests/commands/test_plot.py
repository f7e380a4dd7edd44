from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.commands.plot import WHAT
from itmkit.report.plots import PLOTS
from itmkit.workspace import Workspace
from tests.report import files
from tests.training.tiny import make_workspace

TRAINED = ["--epochs", "2", "--batch-size", "8", "--minimum-count", "1", "--embed", "8", "--word", "6", "--seeds", "2"]


def test_the_command_knows_every_plot() -> None:
    assert list(WHAT) == list(PLOTS)


def test_of_files_that_training_and_compare_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    make_workspace(tmp_path)
    assert run(cli, ["compare", "-w", str(tmp_path), "--methods", "vsepp,scan", *TRAINED]) == 0
    capsys.readouterr()
    assert run(cli, ["plot", "epochs", "compare", "-w", str(tmp_path), "--json"]) == 0
    epochs, compare = json.loads(capsys.readouterr().out)
    assert epochs["plot"] == "epochs" and len(epochs["series"]) == 4 and compare["series"][0] in ("vsepp", "scan")
    table = json.loads((tmp_path / "runs" / "compare-test.json").read_text())
    drawn = Path(compare["file"]).read_text(encoding="utf-8")
    for row in table["rows"]:
        assert f">{row['mean']['rsum']:.1f} ±{row['spread']['rsum']:.1f}<" in drawn
    assert re.search(r">compare-scan-seed1 \(ensemble of 2\)<", Path(epochs["file"]).read_text(encoding="utf-8"))
    assert run(cli, ["plot", "cmc", "-w", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "no run has curves of split 'test'; run `itmkit evaluate --run NAME --split test --curves`" in told


def test_of_files_that_evaluate_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    workspace = make_workspace(tmp_path)
    lines = [json.loads(line) for line in workspace.dataset_path.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["labels"] = ["even" if number % 2 else "odd"]
    workspace.dataset_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = [*TRAINED[: TRAINED.index("--seeds")], "-w", str(tmp_path), "--method", "scan"]
    assert run(cli, ["train", *training]) == 0
    asked = ["--curves", "--slices", "--labels"]
    assert run(cli, ["evaluate", "-w", str(tmp_path), "--run", "scan", *asked]) == 0
    capsys.readouterr()
    (result,) = json.loads((workspace.run("scan") / "eval-test.json").read_text())["results"][:1]
    assert result["intervals"]["i2t R@1"]["value"] == result["i2t"]["R@1"]  # beside which the slices are drawn
    assert run(cli, ["plot", "cmc", "precision", "slices", "labels", "-w", str(tmp_path), "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert [one["plot"] for one in drawn] == ["cmc", "precision", "slices", "labels"]
    text = {one["plot"]: Path(one["file"]).read_text(encoding="utf-8") for one in drawn}
    assert "even" in text["labels"] and "without colour" in text["slices"]


def test_a_table_of_what_was_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    workspace = Workspace(tmp_path)
    for name in ("a", "b"):
        files.evaluation(workspace, name, [files.result(name, 20)])
    command = ["plot", "cmc", "precision", "slices", "labels", "-w", str(tmp_path), "--split", "val", "--run", "a"]
    assert run(cli, [*command, "--format", "png", "--out", str(tmp_path / "figures")]) == 0
    told = capsys.readouterr().out
    for name in ("cmc", "precision", "slices", "labels"):
        path = tmp_path / "figures" / f"{name}-val.png"
        assert path.read_bytes().startswith(b"\x89PNG") and str(path) in told
    assert told.count("val, 100 images, single") == 4


def test_what_is_not_there_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert run(cli, ["plot", "compare", "epochs", "-w", str(tmp_path), "--run", "x"]) == 2
    told = capsys.readouterr().err
    assert "itmkit compare" in told and "itmkit train --run x" in told and "2 problems" in told
    assert run(cli, ["plot", "-w", str(tmp_path)]) == 2
    assert run(cli, ["plot", "pie", "-w", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())


def test_without_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(cli, ["plot", "epochs", "-w", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "pip install 'itmkit[report]'" in told and "Traceback" not in told

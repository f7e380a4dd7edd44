from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import h5py
import pytest

import itmkit
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.commands.plot import WHAT
from itmkit.report.plots import PLOTS
from itmkit.workspace import Workspace
from tests.report import files
from tests.training.tiny import make_workspace

TRAINED = ["--epochs", "1", "--batch-size", "8", "--minimum-count", "1", "--embed", "8", "--word", "6", "--seeds", "2"]


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


@pytest.fixture(scope="module")
def scored(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the trained workspace, with labels, in which two runs keep their scores of val."""
    workspace = Workspace(shutil.copytree(trained.root, tmp_path_factory.mktemp("scored") / "work"))
    lines = [json.loads(line) for line in workspace.dataset_path.read_text(encoding="utf-8").splitlines()]
    text = "".join(json.dumps(line | {"labels": ["scene"]}) + "\n" for line in lines)
    workspace.dataset_path.write_text(text, encoding="utf-8")
    for name in ("glfn", "dual"):
        keeps = str(workspace.run(name) / "scores-val.h5")
        command = ["evaluate", "-w", str(workspace.root), "--run", name, "--split", "val", "--save-scores", keeps]
        assert run(cli, command) == 0
    return workspace


def plotted(workspace: Workspace, capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, str]:
    """{plot: the SVG} of a command that draws them."""
    capsys.readouterr()
    assert run(cli, ["plot", "-w", str(workspace.root), "--split", "val", "--json", *command]) == 0
    return {one["plot"]: Path(one["file"]).read_text(encoding="utf-8") for one in json.loads(capsys.readouterr().out)}


def test_finds_and_scores_of_kept_scores(scored: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    image, other = scored.dataset().split("val")
    drawn = plotted(scored, capsys, "retrieved", "scores", "--queries", "1")
    assert ">dual<" in drawn["retrieved"] and ">glfn<" in drawn["retrieved"]  # side by side
    captions = len(image.captions) + len(other.captions)
    assert f">dual: {captions} and {captions} pairs<" in drawn["scores"]
    with h5py.File(scored.run("glfn") / "scores-val.h5") as file:
        scores = file["scores"][()]
    place = len(image.captions)  # the first caption of the other image
    asked = ["--run", "glfn", "--caption", other.captions[0].id, "--best", "2"]
    one = plotted(scored, capsys, "retrieved", *asked)["retrieved"]
    order = sorted(scores[:, place].tolist(), reverse=True)
    assert [f">{k + 1}  ({score:.3f})<" in one for k, score in enumerate(order)] == [True, True]
    assert one.count(">\u2713<") == 1 and "image queries" not in one and f">{other.captions[0].text}<" in one
    by_labels = plotted(scored, capsys, "retrieved", *asked, "--by", "labels")["retrieved"]
    assert by_labels.count(">\u2713<") == 2 and ">\u2717<" not in by_labels
    again = ["--scores", str(scored.run("glfn") / "scores-val.h5"), "--caption", other.captions[0].text, "--best", "2"]
    assert plotted(scored, capsys, "retrieved", *again)["retrieved"] == one


def test_what_a_run_computes_of_one_pair(scored: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    image = scored.dataset().split("val")[0]
    pair = ["--image", image.id, "--caption", "a big red dog left of the car"]
    drawn = plotted(scored, capsys, "attention", "entropy", "edges", "--run", "mefn", *pair)
    with itmkit.open(scored.run("mefn")) as matcher:
        found = matcher.explain(image.id, pair[-1])
    assert all(f"{image.id}, mefn, score {found.score:.3f}<" in svg for svg in drawn.values())
    assert ">a big red dog left of the car<" in drawn["attention"] and ">word hears region<" in drawn["edges"]
    with itmkit.open(scored.run("glfn")) as matcher:
        blocks = matcher.block_attention(image.id)
    assert {name: each.shape for name, each in blocks.items()} == {"t2i": (6, 256), "i2t": (6, 256)}
    boxed = plotted(scored, capsys, "blocks", "--run", "glfn", "--image", image.id)["blocks"]
    for each in blocks.values():
        sums = each.sum(axis=1)
        assert all(abs(total - 1) < 1e-4 or total == 0 for total in sums)
        assert f">strongest block {each[0].max():.3f}<" in boxed


def test_what_a_run_cannot_show_is_told_with_what_it_can(
    scored: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")

    def told(*command: str) -> str:
        capsys.readouterr()
        out = str(tmp_path / "figures")
        assert run(cli, ["plot", "-w", str(scored.root), "--split", "val", "--out", out, *command]) == 2
        return " ".join(capsys.readouterr().err.split())

    one = told("attention", "entropy", "--run", "mpsm")
    assert "entropy: needs entropies of regions and words, as MEFN has them; of mpsm, a run of mpsm, attention" in one
    assert "none of attention, entropy, edges, blocks can be drawn" in told("blocks", "--run", "dual")
    assert "--run: 2 are named, and attention, entropy, edges, blocks are of one" in told(
        "edges", "--run", "mefn", "--run", "glfn"
    )
    assert "--run NAME says which run; there are dual, glfn, mefn, mpsm" in told("edges")
    missing = scored.run("mpsm") / "scores-val.h5"
    command = f"itmkit evaluate --run mpsm --split val --save-scores {missing}"
    assert command in told("retrieved", "--run", "mpsm")
    assert "--image nowhere: no such image" in told("retrieved", "--image", "nowhere", "--caption", "nothing")
    assert "give one of them" in told("scores", "--run", "glfn", "--scores", str(scored.run("glfn") / "scores-val.h5"))
    assert "cannot be read as HDF5" in told("scores", "--scores", str(scored.dataset_path))
    assert not (tmp_path / "figures").exists()
    assert run(cli, ["plot", "scores", "-w", str(scored.root), "--split", "val"]) == 0
    note = " ".join(capsys.readouterr().err.split())
    assert f"scores: without mpsm, whose scores are not kept; run `{command}`" in note


def test_a_table_of_what_was_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    workspace = Workspace(tmp_path)
    for name in ("a", "b"):
        files.evaluation(workspace, name, [files.result(name, 20)])
    command = ["plot", "cmc", "slices", "-w", str(tmp_path), "--split", "val", "--run", "a"]
    assert run(cli, [*command, "--format", "png", "--out", str(tmp_path / "figures")]) == 0
    told = capsys.readouterr().out
    for name in ("cmc", "slices"):
        path = tmp_path / "figures" / f"{name}-val.png"
        assert path.read_bytes().startswith(b"\x89PNG") and str(path) in told
    assert told.count("val, 100 images, single") == 2


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

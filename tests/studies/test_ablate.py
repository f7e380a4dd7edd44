from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.matchers import METHODS, method
from itmkit.methods.published import published
from itmkit.runs.settings import changed, read_config, resolve
from itmkit.studies import ablate as module
from itmkit.studies.ablate import ablate
from itmkit.training import budget
from itmkit.training import train as loop
from itmkit.training.estimate import Estimate, StageEstimate
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace

SETTINGS = {**FAST["mefn"], **FAST_TRAINING, "epochs": 1, "seed": 3, "words": "gru"}
ROWS = ["without MFE", "without local attention", "without global attention"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path)


def test_each_row_is_trained_like_the_whole(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    real = loop.train

    def killed(*args: Any, run: str, **options: Any) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(run)
        return real(*args, run=run, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            ablate(workspace, "mefn", settings=SETTINGS, split="val")
    before = (workspace.run("mefn+without-MFE") / "best-fusion.safetensors").stat().st_mtime_ns
    found = ablate(workspace, "mefn", split="val")  # the run is there: its settings count
    assert (workspace.run("mefn+without-MFE") / "best-fusion.safetensors").stat().st_mtime_ns == before
    assert [row.label for row in found.rows] == ROWS and not found.left_out
    whole = read_config(workspace.run("mefn") / "config.toml")
    for row in found.rows:
        config = read_config(workspace.run(row.run) / "config.toml")
        assert config == changed(whole, row.settings) != whole and config.training.seed == 3
    # The same as evaluate says of the two runs.
    against = evaluate(workspace, ["mefn+without-MFE"], split="val", against="mefn").against
    assert against is not None and found.rows[0].difference == {
        name: against.figures[name] for name in found.rows[0].difference
    }
    assert found.rows[0].core_minutes and found.rows[0].epochs == 1
    stored = json.loads((workspace.root / "runs" / "mefn-ablation-val.json").read_text())
    assert [row["row"] for row in stored["rows"]] == ["full", *ROWS]
    assert stored["rows"][1]["reported"]["whole"] == "MEFN"
    with pytest.raises(ItmkitError, match="setting embed was 8, is 12 now"):
        ablate(workspace, "mefn", settings=SETTINGS | {"embed": 12}, split="val")


def test_some_rows_and_the_table(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (FAST["mpsm"] | FAST_TRAINING).items()]
    options += ["--epochs=1", "--kgid-layers=3"]
    command = ["ablate", "mpsm", "-w", str(workspace.root), "--only", "without KGID", "--only", "joint training"]
    assert run(cli, [*command, *options]) == 0
    printed = capsys.readouterr().out
    for word in ("full", "without KGID", "joint training", "ensemble of 2", "core min", "-7.7", "i2t R@1 -3.1"):
        assert word in printed.replace("\n", " ") or word in "".join(printed.split("\n")), word
    assert "paper: less MPSM (distance), flickr1k (Xie et al., UAI 2022, table 2): without KGID" in printed
    assert run(cli, [*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["rows"]) == 3 and "epoch 1/1" not in captured.err
    for wrong, says in (
        (["--only", "3 KGID"], "--only '3 KGID': runs/mpsm is like this already"),
        (["--only", "KGID"], "--only 'KGID': mpsm has no such row; it has without KGID, "),
        (["KGID"], "'KGID': one run or method at a time"),
    ):
        assert run(cli, ["ablate", "mpsm", "-w", str(workspace.root), *wrong]) == 2
        assert says in capsys.readouterr().err


def test_rows_within_the_budget_of_the_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is measured by itself: a method without a part may train longer."""

    def found(*_: Any, run: str, **__: Any) -> Estimate:
        step = 10.0 if run == "mefn" else 5.0
        return Estimate("cpu", "float32", {}, 3, [StageEstimate("", 1, 1.0, step, 0.0, 1.0)], 0.0, 0.0, 0, 0)

    monkeypatch.setattr(budget, "estimate", found)
    settings = {name: value for name, value in SETTINGS.items() if name != "epochs"} | {"budget": "1m"}
    result = ablate(workspace, "mefn", settings=settings, only=ROWS[:1], split="val")
    assert (result.full.epochs, result.rows[0].epochs) == (2, 4)
    again = ablate(workspace, "mefn", only=ROWS[:1], split="val")
    assert again.to_json() == result.to_json()
    one, other = (read_config(workspace.run(row.run) / "config.toml") for row in (result.full, result.rows[0]))
    assert one.measured["asked_decay_epoch"] == other.measured["asked_decay_epoch"]


def test_what_cannot_be_ablated(workspace: Workspace) -> None:
    for name, says in (("mefm", "'mefm' is neither a run"), ("vsepp", "vsepp declares no ablations")):
        with pytest.raises(ItmkitError, match=says):
            ablate(workspace, name, settings={} if name == "mefm" else {**FAST["vsepp"], **FAST_TRAINING})
    with pytest.raises(ItmkitError, match="needs 5,000 images in split 'test'"):
        ablate(workspace, "mefn", settings=SETTINGS, split="coco1k")
    assert not (workspace.root / "runs").exists()


def test_a_row_whose_caches_are_missing_is_left_out(workspace: Workspace) -> None:
    config = resolve("scan", settings=FAST["scan"] | FAST_TRAINING)
    rows, left_out = module._planned(workspace, config, "scan", ())
    assert list(rows) == ["t2i only", "i2t only"]
    assert "encode-text" in left_out["only BERT"] and left_out["without tags"] == "runs/scan is like this already"


@pytest.mark.parametrize("name", [name for name in METHODS if hasattr(method(name), "ABLATIONS")])
def test_every_row_is_a_change_that_training_takes(name: str) -> None:
    runs, config = set(), resolve(name, recipe="paper")
    for label, settings in method(name).ABLATIONS.items():
        assert changed(config, settings).method == name
        runs.add(module.row_run("run", label).lower())
    assert len(runs) == len(method(name).ABLATIONS)


def test_the_rows_of_papers_that_agree_most_with_the_run() -> None:
    mpsm = published(resolve("mpsm", recipe="paper"), {"kgid_layers": 0}, "val")
    assert mpsm is not None and (mpsm.whole, mpsm.protocol) == ("MPSM (distance)", "flickr1k")
    assert mpsm.rsum == 492.2 and mpsm.difference["rsum"] == pytest.approx(492.2 - 499.9)
    both = published(resolve("glfn", recipe="paper"), {"tags": False}, "val")
    alone = published(resolve("glfn", recipe="paper", settings={"directions": "t2i"}), {"tags": False}, "val")
    assert both is not None and alone is not None
    assert (both.whole, alone.whole) == ("GLFN i2t+t2i", "GLFN t2i")
    coco = published(resolve("mpsm", recipe="paper"), {"similarities": "distance"}, "coco5k")
    assert coco is not None and coco.protocol == "coco5k"
    joint = published(resolve("mpsm", recipe="paper"), {"training": "joint"}, "val")
    assert joint is not None and joint.rsum is None and joint.difference["t2i R@1"] == -2.2
    alone = published(resolve("sgraf", recipe="paper"), {"modules": "sgr"}, "flickr1k")
    assert alone is not None and alone.whole == "SGRAF (updated)"  # of the same source, not the first of all
    distance = resolve("mpsm", recipe="paper", settings={"similarities": "distance"})
    assert published(distance, {"similarities": "direction"}, "val") is None  # the paper's change begins elsewhere
    assert published(resolve("mpsm", recipe="paper"), {"kgid_layers": 7}, "val") is None

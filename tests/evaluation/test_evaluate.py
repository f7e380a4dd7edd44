from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate, open_run
from itmkit.evaluation.metrics import retrieval
from itmkit.evaluation.protocols import PROTOCOLS, Protocol
from itmkit.inputs import Inputs
from itmkit.scoring.blocks import score_matrix
from itmkit.training.loop import train
from itmkit.training.settings import resolve
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = make_workspace(tmp_path_factory.mktemp("evaluate"), skipped=("image20",))
    for method in ("mpsm", "vsepp"):
        train(workspace, resolve(method, settings={**FAST[method], **FAST_TRAINING, "epochs": 1}))
    return workspace.root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(template, tmp_path / "work")
    return Workspace(tmp_path / "work")


def matrices(workspace: Workspace, run: str) -> tuple[dict[str, np.ndarray], Inputs]:
    opened = open_run(workspace, run, device=torch.device("cpu"))
    inputs = Inputs(workspace, workspace.dataset().split("test"), opened.vocabulary, opened.needs)
    return score_matrix(opened.members, inputs), inputs


def test_single_and_ensemble_are_told_apart(workspace: Workspace) -> None:
    found = evaluate(workspace, ["mpsm", "vsepp"])
    assert [(row.name, row.kind) for row in found.rows] == [
        ("mpsm/distance", "single"),
        ("mpsm/direction", "single"),
        ("mpsm", "ensemble of 2"),
        ("vsepp", "single"),
        ("mpsm + vsepp", "ensemble of 3"),
    ]
    mpsm, inputs = matrices(workspace, "mpsm")
    vsepp, _ = matrices(workspace, "vsepp")
    both = (mpsm["distance"] + mpsm["direction"]) / 2
    for row, scores in zip(
        found.rows, [*mpsm.values(), both, vsepp["global"], (both + vsepp["global"]) / 2], strict=True
    ):
        assert row.result == retrieval(scores, inputs.image_of), row.name


def test_pictures_without_features_are_counted(workspace: Workspace) -> None:
    found = evaluate(workspace, ["vsepp"])
    assert (found.images, found.captions, found.left_out) == (5, 10, 1)


def test_everything_is_written_beside_the_run(workspace: Workspace) -> None:
    together = evaluate(workspace, ["mpsm", "vsepp"]).to_json()
    alone = json.loads((workspace.run("mpsm") / "eval-test.json").read_text())
    assert [row["name"] for row in alone["results"]] == ["mpsm/distance", "mpsm/direction", "mpsm"]
    assert json.loads((workspace.run("mpsm") / "eval-test+vsepp.json").read_text()) == together
    assert [row["kind"] for row in json.loads((workspace.run("vsepp") / "eval-test.json").read_text())["results"]] == [
        "single"
    ]
    for key in ("split", "folds", "left_out", "images", "captions", "chance_rsum"):
        assert key in alone
    assert evaluate(workspace, ["mpsm"], split="val").to_json()["split"] == "val"


def test_folds_are_scored_apart_and_averaged(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol like coco1k in small: two folds of three training images."""
    monkeypatch.setitem(PROTOCOLS, "tiny", Protocol("tiny", "train", 12, 4, "four folds of three"))
    found = evaluate(workspace, ["vsepp"], split="tiny")
    opened = open_run(workspace, "vsepp", device=torch.device("cpu"))
    inputs = Inputs(workspace, workspace.dataset().split("train"), opened.vocabulary, opened.needs)
    whole = score_matrix(opened.members, inputs)["global"]
    parts = [
        retrieval(whole[start : start + 3, 2 * start : 2 * start + 6], np.repeat(np.arange(3), 2))
        for start in range(0, 12, 3)
    ]
    result = found.rows[0].result
    assert result.rsum == pytest.approx(np.mean([part.rsum for part in parts]))
    assert result.t2i.medr == pytest.approx(np.mean([part.t2i.medr for part in parts]))
    assert (result.images, result.captions) == (12, 24)


def test_what_cannot_be_evaluated(workspace: Workspace) -> None:
    with pytest.raises(ItmkitError, match="no such run; there are mpsm, vsepp"):
        evaluate(workspace, ["mspm"])
    with pytest.raises(ItmkitError, match="no run named"):
        evaluate(workspace, [])
    with pytest.raises(ItmkitError, match="--run vsepp: named twice"):
        evaluate(workspace, ["vsepp", "mpsm", "vsepp"])
    with pytest.raises(ItmkitError, match="no such split or protocol"):
        evaluate(workspace, ["vsepp"], split="tset")
    with pytest.raises(ItmkitError, match="coco5k: needs 5,000 images"):
        evaluate(workspace, ["vsepp"], split="coco5k")
    (workspace.run("vsepp") / "best-global.safetensors").unlink()
    with pytest.raises(ItmkitError, match=r"best-global\.safetensors: no such file; run `itmkit train`"):
        evaluate(workspace, ["vsepp"])


def test_stale_caches_are_refused(workspace: Workspace) -> None:
    text = workspace.dataset_path.read_text()
    workspace.dataset_path.write_text(text.replace("there", "here"))
    with pytest.raises(ItmkitError, match=r"caches/text is stale .*run `itmkit parse-text --force`"):
        evaluate(workspace, ["vsepp"])

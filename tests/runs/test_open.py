"""Runs of this workspace and of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.inputs import Inputs
from itmkit.runs.open import open_run
from itmkit.runs.settings import resolve
from itmkit.scoring.matrix import score_matrix
from itmkit.scoring.metrics import retrieval
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A workspace with a run, and another one whose captions use other words too."""
    folder = tmp_path_factory.mktemp("trained")
    home = make_workspace(folder / "home")
    train(home, resolve("vsepp", settings={**FAST["vsepp"], **FAST_TRAINING, "epochs": 1, "minimum_count": 2}))
    return home.root, make_workspace(folder / "other", train=10, val=4, test=9).root


@pytest.fixture
def other(homes: tuple[Path, Path], tmp_path: Path) -> Workspace:
    shutil.copytree(homes[1], tmp_path / "other")
    return Workspace(tmp_path / "other")


def test_a_run_of_another_workspace(homes: tuple[Path, Path], other: Workspace) -> None:
    found = evaluate(other, [str(homes[0] / "runs" / "vsepp")])
    assert [row.name for row in found.rows] == ["home/vsepp"] and found.images == 9 and found.notes == ()
    run = open_run(other, str(homes[0] / "runs" / "vsepp"), device=CPU)
    inputs = Inputs(other, other.dataset().split("test"), run.vocabulary, run.needs)
    assert found.rows[0].result == retrieval(score_matrix(run.members, inputs)["global"], inputs.image_of)
    written = json.loads((other.root / "transfer" / "home-vsepp" / "eval-test.json").read_text())
    assert written["results"][0]["rsum"] == found.rows[0].result.rsum
    assert not (other.root / "runs").exists() and not (homes[0] / "runs" / "vsepp" / "eval-test.json").exists()


def test_an_own_run_goes_before_a_folder_of_that_name(
    homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(homes[0] / "runs")  # where the folder vsepp is too
    assert open_run(Workspace(homes[0]), "vsepp", device=CPU).name == "vsepp"


def test_caches_made_otherwise_are_told(homes: tuple[Path, Path], other: Workspace) -> None:
    manifest = other.cache("regions") / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["made_by"]["settings"] = {"regions": 5}
    manifest.write_text(json.dumps(facts))
    run = open_run(other, str(homes[0] / "runs" / "vsepp"), device=CPU)
    (note,) = run.notes
    assert note.startswith("regions: made otherwise than in training: settings.regions is ")
    moved = shutil.copytree(homes[0] / "runs" / "vsepp", other.root / "moved" / "runs" / "alone")
    assert open_run(other, str(moved), device=CPU).notes == (note,)  # the run says itself how its caches were made
    shutil.rmtree(moved / "made")
    notes = open_run(other, str(moved), device=CPU).notes
    assert notes and all("not known how that of training was made" in note for note in notes)


def test_features_of_another_size_are_refused(homes: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "wide" / "runs" / "vsepp"
    shutil.copytree(homes[0] / "runs" / "vsepp", run)
    facts = json.loads((run / "run.json").read_text())
    facts["sizes"]["feature"] = 8
    opened = open_run(Workspace(homes[1]), str(run), device=CPU)
    wrong = type(opened.sizes)(**{**facts["sizes"], "feature": 2048, "vocabulary": 3})
    with pytest.raises(ItmkitError) as error:
        opened.check_sizes(wrong)
    assert "feature was 8 in training, is 2048 here" in str(error.value) and len(error.value.problems) == 3


def test_two_runs_on_the_same_images(homes: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(homes[0], tmp_path / "home")
    workspace = Workspace(tmp_path / "home")
    train(workspace, resolve("scan", settings={**FAST["scan"], **FAST_TRAINING, "epochs": 1}))
    found = evaluate(workspace, ["vsepp"], against="scan")
    assert [row.name for row in found.rows] == ["vsepp", "scan/t2i", "scan/i2t", "scan"]  # no mean of the two
    assert found.against is not None and (found.against.first, found.against.second) == ("vsepp", "scan")
    rows = {row.name: row.result for row in found.rows}
    for figure, difference in found.against.figures.items():
        expected = rows["vsepp"].figures()[figure] - rows["scan"].figures()[figure]
        assert difference.value == pytest.approx(expected) and 0 < difference.p <= 1
    written = json.loads((workspace.run("vsepp") / "eval-test+scan.json").read_text())
    assert written["against"]["second"] == "scan"
    assert "against" not in json.loads((workspace.run("scan") / "eval-test.json").read_text())
    evaluate(workspace, ["vsepp", "scan"])  # the mean of the two, in the same file
    assert "keeps what was measured before with --against" in evaluate(workspace, ["vsepp", "scan"]).notes[0]
    for against in (None, "scan"):
        evaluate(workspace, ["vsepp"] if against else ["vsepp", "scan"], against=against)
        both = json.loads((workspace.run("vsepp") / "eval-test+scan.json").read_text())
        assert [row["name"] for row in both["results"]] == ["vsepp", "scan/t2i", "scan/i2t", "scan", "vsepp + scan"]
        assert both["against"] == written["against"]
    three = evaluate(workspace, ["vsepp", "scan"], against=str(homes[0] / "runs" / "vsepp"))
    assert three.against is not None and three.against.first == "vsepp + scan"
    assert np.isfinite([one.value for one in three.against.figures.values()]).all()
    with pytest.raises(ItmkitError, match="--run scan: named twice"):
        evaluate(workspace, ["scan"], against="scan")


def test_the_mean_over_runs_of_one_method(homes: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(homes[0], tmp_path / "home")
    workspace = Workspace(tmp_path / "home")
    for seed in (1, 2):
        settings = {**FAST["vsepp"], **FAST_TRAINING, "epochs": 1, "seed": seed}
        train(workspace, resolve("vsepp", settings=settings), run=f"seed{seed}")
    found = evaluate(workspace, ["vsepp", "seed1", "seed2"])
    values = [row.result.rsum for row in found.rows if row.kind == "single"]
    assert found.over_runs is not None and found.over_runs["rsum"].n == len(values) == 3
    assert found.over_runs["rsum"].mean == pytest.approx(np.mean(values))
    assert found.over_runs["rsum"].deviation == pytest.approx(np.std(values, ddof=1))
    assert found.to_json()["over_runs"]["rsum"]["n"] == 3
    assert "over_runs" not in json.loads((workspace.run("vsepp") / "eval-test.json").read_text())
    assert evaluate(workspace, ["vsepp"], against="seed1").over_runs is None


def test_runs_of_one_name_have_rows_and_places_of_their_own(
    homes: tuple[Path, Path], other: Workspace, tmp_path: Path
) -> None:
    one, two = (shutil.copytree(homes[0] / "runs/vsepp", tmp_path / place / "home/runs/vsepp") for place in "ab")
    found = evaluate(other, [str(one)], against=str(two))
    first, second = (row.name for row in found.rows)
    assert first == "home/vsepp" and second.startswith("home/vsepp-")
    assert [row.name for row in evaluate(other, [str(two)]).rows] == [second]  # the other place is that of `one`
    assert [row.name for row in evaluate(other, [str(one)]).rows] == [first]
    results = sorted(path.parent.name for path in other.root.glob("transfer/*/eval-test.json"))
    assert results == [name.replace("/", "-") for name in (first, second)]
    mine = Workspace(shutil.copytree(homes[0], tmp_path / "mine"))
    export = shutil.copytree(one, tmp_path / "exported/vsepp")
    names = [row.name for row in evaluate(mine, ["vsepp"], against=str(export)).rows]
    assert names[0] == "vsepp" and names[1].startswith("vsepp-")
    written = json.loads((mine.run("vsepp") / "eval-test.json").read_text())
    assert [row["name"] for row in written["results"]] == ["vsepp"]
    with pytest.raises(ItmkitError, match=rf"--run vsepp, {mine.run('vsepp')}: named twice"):
        evaluate(mine, ["vsepp", str(mine.run("vsepp"))])

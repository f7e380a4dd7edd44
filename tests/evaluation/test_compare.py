from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.evaluation import compare as module
from itmkit.evaluation.compare import FIGURES, Contender, compare
from itmkit.training import loop
from itmkit.workspace import Workspace
from tests.training.tiny import FAST_TRAINING, make_workspace

SETTINGS = {**FAST_TRAINING, "epochs": 1, "embed": 8, "word": 6}
MPSM = "mpsm:similarity=4:kgid-layers=1:kernels=2"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("compare")).root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(template, tmp_path / "work")
    return Workspace(tmp_path / "work")


def test_mean_and_spread_over_seeds(workspace: Workspace) -> None:
    found = compare(workspace, [MPSM, "vsepp", "vsepp:words=gru:embed=4"], seeds=3, settings=SETTINGS)
    assert {row.name for row in found.rows} == {MPSM, "vsepp", "vsepp:words=gru:embed=4"}
    assert {row.name for row in found.members} == {f"{MPSM}/distance", f"{MPSM}/direction"}
    kinds = {row.name: row.kind for row in (*found.rows, *found.members)}
    assert kinds[MPSM] == "ensemble of 2" and kinds[f"{MPSM}/distance"] == kinds["vsepp"] == "single"
    for row in (*found.rows, *found.members):
        results = []
        for run in row.runs:
            text = (workspace.run(run.partition("/")[0]) / "eval-test.json").read_text()
            results += [one for one in json.loads(text)["results"] if one["name"] == run]
        assert len(results) == 3 and len({run.rpartition("-seed")[2] for run in row.runs}) == 3
        sums = [one["rsum"] for one in results]
        assert row.mean("rsum") == pytest.approx(np.mean(sums))
        assert row.spread("rsum") == pytest.approx(np.sqrt(np.square(sums - np.mean(sums)).sum() / 2))
        assert row.mean("t2i R@5") == pytest.approx(np.mean([one["t2i"]["R@5"] for one in results]))
    best = [row.mean("rsum") for row in found.rows]
    assert best == sorted(best, reverse=True)
    stored = json.loads((workspace.root / "runs" / "compare-test.json").read_text())
    assert [row["name"] for row in stored["rows"]] == [row.name for row in found.rows]
    assert set(stored["rows"][0]["mean"]) == set(FIGURES)


def test_one_seed_has_no_spread(workspace: Workspace) -> None:
    found = compare(workspace, ["vsepp"], seeds=1, settings=SETTINGS)
    assert np.isnan(found.rows[0].spread("rsum")) and found.to_json()["rows"][0]["spread"]["rsum"] is None


def test_a_killed_comparison_goes_on_and_finished_runs_stay(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    real = loop.train

    def killed(*args: object, run: str, **options: object) -> object:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(run)
        return real(*args, run=run, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(workspace, ["vsepp", "vsepp:embed=4"], seeds=2, settings=SETTINGS)
    monkeypatch.setattr(module, "train", real)
    first = workspace.run(trained[0]) / "best-global.safetensors"
    written = first.stat().st_mtime_ns
    found = compare(workspace, ["vsepp", "vsepp:embed=4"], seeds=2, settings=SETTINGS)
    assert first.stat().st_mtime_ns == written
    whole = workspace.root.parent / "whole"
    shutil.copytree(workspace.root, whole, ignore=shutil.ignore_patterns("runs"))
    again = compare(Workspace(whole), ["vsepp", "vsepp:embed=4"], seeds=2, settings=SETTINGS)
    assert again.to_json() == found.to_json()


def test_everything_wrong_is_told_before_any_training(workspace: Workspace) -> None:
    with pytest.raises(ItmkitError) as error:
        compare(workspace, ["vsepp", "scam", "vsepp:words=bert", "mpsm:kernels=0", "vsepp:x"], settings=SETTINGS)
    told = "\n".join(error.value.problems)
    assert "scam: --method 'scam': no such method" in told
    assert "vsepp:words=bert: " in told and "itmkit encode-text --model MODEL" in told
    assert "mpsm:kernels=0: setting 'kernels' = '0'" in told
    assert "'vsepp:x': a setting is written NAME:setting=value" in told
    assert not (workspace.root / "runs").exists()
    for methods, seeds, says in (
        ([], 3, "no method named"),
        (["vsepp", "vsepp"], 3, "named twice"),
        (["vsepp"], [], "one seed"),
    ):
        with pytest.raises(ItmkitError, match=says):
            compare(workspace, methods, seeds=seeds, settings=SETTINGS)


def test_runs_of_different_settings_have_names_of_their_own() -> None:
    names = {Contender.read(text).run(0, "compare") for text in ("mefn", "mefn:mfe=false", "mefn:images=a/b")}
    assert names == {"compare-mefn-seed0", "compare-mefn+mfe=false-seed0", "compare-mefn+images=a_b-seed0"}

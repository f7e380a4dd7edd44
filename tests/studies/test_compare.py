from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.runs.open import open_run
from itmkit.studies import compare as module
from itmkit.studies import kept_ranks
from itmkit.studies.compare import Asked, compare
from itmkit.studies.comparison import FIGURES
from itmkit.training import budget
from itmkit.training import train as loop
from itmkit.training.estimate import Estimate, StageEstimate
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
    found = compare(workspace, [MPSM, "vsepp:words=gru:embed=4"], seeds=2, settings=SETTINGS)
    assert {row.name for row in found.rows} == {MPSM, "vsepp:words=gru:embed=4"}
    assert {row.name for row in found.members} == {f"{MPSM}/distance", f"{MPSM}/direction"}
    kinds = {row.name: row.kind for row in (*found.rows, *found.members)}
    assert kinds[MPSM] == "ensemble of 2" and kinds[f"{MPSM}/distance"] == kinds["vsepp:words=gru:embed=4"] == "single"
    for row in (*found.rows, *found.members):
        results = []
        for run in row.runs:
            text = (workspace.run(run.partition("/")[0]) / "eval-test.json").read_text()
            results += [one for one in json.loads(text)["results"] if one["name"] == run]
        assert len(results) == 2 and len({run.rpartition("-seed")[2] for run in row.runs}) == 2
        sums = [one["rsum"] for one in results]
        assert row.mean("rsum") == pytest.approx(np.mean(sums))
        assert row.spread("rsum") == pytest.approx(np.sqrt(np.square(sums - np.mean(sums)).sum()))
        assert row.mean("t2i R@5") == pytest.approx(np.mean([one["t2i"]["R@5"] for one in results]))
    for row in found.rows:  # what is learned and what scores, of all members, and how fast
        members = open_run(workspace, row.runs[0], device=torch.device("cpu")).members
        count = sum(weight.numel() for member in members.values() for weight in member.parameters())
        assert row.to_json()["parameters"] == {"trained": count, "scoring": count}
        told = (workspace.run(row.runs[0]) / "metrics.jsonl").read_text().splitlines()
        assert row.pairs_per_second[0] == pytest.approx(json.loads(told[-1])["pairs_per_second"])
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
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(run)
        return real(*args, run=run, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(workspace, ["vsepp", "vsepp:embed=4"], seeds=1, settings=SETTINGS)
    monkeypatch.setattr(module, "train", real)
    first = workspace.run(trained[0]) / "best-global.safetensors"
    written = first.stat().st_mtime_ns
    found = compare(workspace, ["vsepp", "vsepp:embed=4"], seeds=1, settings=SETTINGS)
    assert first.stat().st_mtime_ns == written
    whole = workspace.root.parent / "whole"
    shutil.copytree(workspace.root, whole, ignore=shutil.ignore_patterns("runs"))
    again = compare(Workspace(whole), ["vsepp", "vsepp:embed=4"], seeds=1, settings=SETTINGS)
    assert untimed(again.to_json()) == untimed(found.to_json())


def untimed(found: dict[str, Any]) -> dict[str, Any]:
    for row in found["rows"]:
        assert all(value > 0 for key in ("core_minutes", "pairs_per_second") for value in row.pop(key))
    return found


def test_a_contender_with_seeds_of_its_own(workspace: Workspace) -> None:
    found = compare(
        workspace, ["vsepp", "vsepp:embed=4:seeds=1"], seeds=2, settings=SETTINGS, asked=Asked(against="vsepp")
    )
    rows = {row.name: row for row in found.rows}
    assert {name: row.seeds for name, row in rows.items()} == {"vsepp": [0, 1], "vsepp:embed=4": [0]}
    assert rows["vsepp"].mean_core_minutes and rows["vsepp"].epochs == [1, 1]
    (versus,) = found.against
    assert (versus.first, versus.second) == ("vsepp:embed=4", "vsepp")
    gain = rows["vsepp:embed=4"].mean("rsum") - rows["vsepp"].mean("rsum")
    assert versus.figures["rsum"].value == pytest.approx(gain)
    first = [rows[name].values["rsum"][0] for name in ("vsepp:embed=4", "vsepp")]
    assert versus.by_seed == {0: pytest.approx(first[0] - first[1])}
    # More seeds of it later join the one that is there.
    before = (workspace.run("compare-vsepp+embed=4-seed0") / "best-global.safetensors").stat().st_mtime_ns
    assert compare(workspace, ["vsepp", "vsepp:embed=4"], seeds=2, settings=SETTINGS).seeds == [0, 1]
    assert (workspace.run("compare-vsepp+embed=4-seed0") / "best-global.safetensors").stat().st_mtime_ns == before
    for wrong, says in (("vsepp:seeds=0", "no number of seeds"), ("vsepp:seeds=1", "named twice")):
        with pytest.raises(ItmkitError, match=says):
            compare(workspace, ["vsepp", wrong], settings=SETTINGS)
    with pytest.raises(ItmkitError, match="--against 'scan': is none of the methods vsepp"):
        compare(workspace, ["vsepp"], settings=SETTINGS, asked=Asked(against="scan"))


def test_intervals_of_runs_that_are_there(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = [MPSM, "vsepp:seeds=2"]
    plain = compare(workspace, methods, seeds=1, settings=SETTINGS)
    assert not plain.rows[0].intervals and "intervals" not in plain.to_json()["rows"][0]
    found = compare(workspace, methods, seeds=1, settings=SETTINGS, asked=Asked(intervals=True))
    for row in (*found.rows, *found.members):
        assert set(row.intervals) == set(FIGURES)
        for name, interval in row.intervals.items():
            assert interval.value == pytest.approx(row.mean(name))
            assert np.isnan(interval.low) or interval.low <= interval.value <= interval.high
    assert set(found.to_json()["rows"][0]["intervals"]["rsum"]) == {"value", "low", "high"}
    # Ranks are kept: nothing is scored again. Those of other figures do not count.
    scored: list[str] = []
    real = kept_ranks.evaluate

    def counted(workspace: Workspace, runs: list[str], **options: Any) -> Any:
        scored.extend(runs)
        return real(workspace, runs, **options)

    monkeypatch.setattr(kept_ranks, "evaluate", counted)
    again = compare(workspace, methods, seeds=1, settings=SETTINGS, asked=Asked(intervals=True))
    assert not scored and again.to_json() == found.to_json()
    one, other = (workspace.run(f"compare-vsepp-seed{seed}") for seed in (0, 1))
    (one / "ranks-test.npz").write_bytes(b"torn")
    shutil.copy(workspace.run("compare-" + MPSM.replace(":", "+") + "-seed0") / "ranks-test.npz", other)
    assert (
        compare(workspace, methods, seeds=1, settings=SETTINGS, asked=Asked(intervals=True)).to_json()
        == found.to_json()
    )
    assert sorted(scored) == [one.name, other.name]


def test_an_epoch_without_a_speed_does_not_count(tmp_path: Path) -> None:
    """An older version wrote 0 where a signal had come during the validation."""
    run = Workspace(tmp_path).run("old")
    run.mkdir(parents=True)
    lines = [{"epoch": epoch, "pairs_per_second": speed} for epoch, speed in ((1, 0.0), (2, 50.0), (3, 70.0))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert module._pairs_per_second(Workspace(tmp_path), "old") == 60


def test_a_budget_is_measured_once_a_method(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def found(*_: Any, run: str, **__: Any) -> Estimate:
        """Every second measurement finds half the speed."""
        measured.append(run)
        return Estimate(
            "cpu", "float32", {}, 3, [StageEstimate("", 1, 1.0, 10.0 * len(measured), 0.0, 1.0)], 0.0, 0.0, 0, 0
        )

    monkeypatch.setattr(budget, "estimate", found)
    settings = {name: value for name, value in SETTINGS.items() if name != "epochs"} | {"budget": "2m"}
    result = compare(workspace, ["vsepp", "vsepp:embed=4"], seeds=2, settings=settings)
    assert measured == ["compare-vsepp-seed0", "compare-vsepp+embed=4-seed0"] and result.budget == 2
    assert {row.name: row.epochs for row in result.rows} == {"vsepp": [4, 4], "vsepp:embed=4": [2, 2]}
    again = compare(workspace, ["vsepp", "vsepp:embed=4"], seeds=2, settings=settings)
    assert again.to_json() == result.to_json() and len(measured) == 2
    with pytest.raises(ItmkitError, match="--recipe paper, --budget: give one of them"):
        compare(workspace, ["vsepp"], recipe="paper", settings=settings)


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

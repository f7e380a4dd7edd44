from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from tests.training.tiny import make_workspace

FAST = ["--epochs", "1", "--batch-size", "8", "--minimum-count", "1", "--embed", "8", "--word", "6", "--seeds", "2"]


def test_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(tmp_path)
    command = ["compare", "-w", str(tmp_path), "--methods", "vsepp, vsepp:words=gru", *FAST]
    assert run(cli, command) == 0
    printed = capsys.readouterr().out
    assert "6 images, 12 captions; mean and standard deviation over 2 seeds" in printed and "±" in printed
    assert "vsepp:words=gru" in printed and "chance: rsum" in printed
    assert run(cli, [*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["rows"]) == 2 and "epoch 1/1" not in captured.err
    more = ["--intervals", "--against", "vsepp", "--methods", "vsepp, vsepp:words=gru:seeds=1"]
    assert run(cli, [*command, *more]) == 0
    printed = capsys.readouterr().out
    assert "over 1 to 2 seeds" in printed and "core min" in printed and "95% intervals over images" in printed
    assert "less vsepp, on the same images" in printed and "seed by seed" in printed


def test_each_method_with_each_of_several_caches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    make_workspace(tmp_path, train=6, val=2, test=3, patches="patches-tiny")
    command = ["compare", "-w", str(tmp_path), *FAST, "--seeds", "1", "--methods", "chan:heads=2,vsepp"]
    command += ["--images", "patches-tiny,regions", "--against", "vsepp:images=regions"]
    assert run(cli, command) == 0
    printed = capsys.readouterr().out
    names = {
        f"{method}:images={cache}" for method in ("chan:heads=2", "vsepp") for cache in ("patches-tiny", "regions")
    }
    assert all(name in printed for name in names) and "less vsepp:images=regions, on the same images" in printed
    stored = json.loads((tmp_path / "runs" / "compare-test.json").read_text())
    assert {row["name"] for row in stored["rows"]} == names and len(stored["against"]) == 3
    read = json.loads((tmp_path / "runs" / "compare-vsepp+images=patches-tiny-seed0" / "run.json").read_text())
    assert set(read["caches"]) == {"patches-tiny", "text"}
    assert run(cli, ["plot", "-w", str(tmp_path), "compare", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)[0]["series"]) == names


def test_problems_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(tmp_path)
    assert run(cli, ["compare", "-w", str(tmp_path), "--methods", "scam,vsepp:embed=0"]) == 2
    told = capsys.readouterr().err
    assert "no such method" in told and "'embed'" in told and "2 problems" in told

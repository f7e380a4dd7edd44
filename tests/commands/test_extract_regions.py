from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.regions import choose, extract
from tests.regions.test_extract import Model, make, prepare


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setattr(extract, "load", lambda choice, *, device, download: model)
    monkeypatch.setattr(choose, "_settings_digest", lambda choice, backend: "settings")
    return model


def test_extraction(tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    work = make(tmp_path / "work", kind="scenes")
    (work.root / "images" / "3.jpg").write_bytes(b"no picture")
    prepare(work, kind="scenes")
    command = ["extract-regions", "-w", str(work.root), "--device", "cpu"]
    assert run(cli, [*command, "--strict"]) == 2
    assert "3.jpg: not a picture" in capsys.readouterr().err
    assert run(cli, command) == 0
    shown = capsys.readouterr()
    assert "scenes-detector" in shown.err
    assert "8 pictures, 36 regions x 6" in shown.out and "1 pictures skipped" in shown.out and "p3:" in shown.out
    assert run(cli, command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(cli, [*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"][0]["id"] == "p3"
    assert run(cli, [*command, "--backend", "grid", "--model", "m"]) == 2
    shown = capsys.readouterr()
    assert "backend is 'detector' in the cache, 'grid' now" in shown.err and "Traceback" not in shown.err


def test_options_that_do_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = make(tmp_path / "work")
    for options in (["--backend", "yolo"], ["--regions", "0"], ["--no-such-option"], ["--backend", "grid"]):
        assert run(cli, ["extract-regions", "-w", str(work.root), "--device", "cpu", *options]) == 2
        assert "Traceback" not in capsys.readouterr().err

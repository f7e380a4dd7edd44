from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.import_features.scan import import_scan
from itmkit.workspace import Workspace
from tests.import_features.scan_folder import write_scan


def test_images_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "scan")
    work = Workspace(tmp_path / "work")
    import_scan(work, tmp_path / "scan")
    command = ["build-graphs", "-w", str(work.root)]
    assert run(cli, command) == 2
    shown = capsys.readouterr().err
    assert "caches/text is missing" in shown and "itmkit parse-text" in shown
    assert run(cli, [*command, "--only", "images"]) == 0
    assert "4 pictures: 15 of 16 x 16 blocks" in " ".join(capsys.readouterr().out.split())
    assert run(cli, [*command, "--only", "images", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4
    assert run(cli, [*command, "--only", "images", "--blocks", "8"]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(cli, [*command, "--blocks", "0"]) == 2
    assert run(cli, ["build-graphs", "-w", str(tmp_path / "nothing")]) == 2

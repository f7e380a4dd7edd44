from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.commands.console import run
from itmkit.commands.status import command
from tests.workspaces import make_dataset, make_graphs, make_regions, make_run, make_text


def status(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> str:
    assert run(command, ["-w", str(root), *arguments]) == 0
    return capsys.readouterr().out


def test_table_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"next: itmkit prepare -w {tmp_path}" in status(capsys, tmp_path)
    workspace = make_dataset(tmp_path)
    assert f"next: itmkit extract-regions -w {tmp_path}" in status(capsys, tmp_path)
    make_regions(workspace)
    make_text(workspace)
    make_graphs(workspace)
    assert "next: itmkit train --method mpsm" in status(capsys, tmp_path)
    make_run(workspace)
    told = status(capsys, tmp_path)
    assert "next" not in told and told.count("done") == 6


def test_stale_after_the_captions_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = make_dataset(tmp_path)
    make_regions(workspace)
    make_text(workspace)
    make_dataset(tmp_path, text="three dogs run")
    told = status(capsys, tmp_path)
    assert "stale" in told and f"next: itmkit parse-text --force -w {tmp_path}" in told
    rows = {row["stage"]: row for row in json.loads(status(capsys, tmp_path, "--json"))}
    assert rows["text"]["state"] == "stale" and rows["text"]["detail"] == "captions changed since"
    assert rows["regions"]["state"] == "done" and rows["regions"]["count"] == 4 and rows["regions"]["skipped"] == 1
    assert rows["regions"]["bytes"] > 0 and rows["text"]["command"] == "itmkit parse-text --force"


def test_the_current_folder_and_the_variable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    assert run(command, []) == 0
    assert capsys.readouterr().out.endswith("next: itmkit extract-regions\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITMKIT_WORKSPACE", "work")
    assert run(command, []) == 0
    assert "next: itmkit extract-regions\n" in capsys.readouterr().out

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.commands.status import command
from itmkit.files import write_json
from itmkit.training import train
from tests.workspaces import make_dataset, make_graphs, make_regions, make_run, make_text


def status(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> str:
    assert run(command, ["-w", str(root), *arguments]) == 0
    return capsys.readouterr().out


def test_table_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = status(capsys, tmp_path)
    assert f"next: itmkit quickstart -w {tmp_path}\n" in told and "`itmkit prepare --help`" in told
    workspace = make_dataset(tmp_path)
    assert f"next: itmkit extract-regions -w {tmp_path}" in status(capsys, tmp_path)
    make_regions(workspace)
    make_text(workspace)
    make_graphs(workspace)
    assert "next: itmkit train --method mpsm" in status(capsys, tmp_path)
    make_run(workspace)
    told = status(capsys, tmp_path)
    assert f"next: itmkit evaluate --run first --split test -w {tmp_path}" in told and told.count("done") == 6
    assert "vsepp, recipe small, 2 of 2 epochs" in told
    write_json(workspace.run("first") / "eval-test.json", {})
    told = status(capsys, tmp_path)
    assert "next" not in told and "evaluated on test" in told


def test_what_is_next_runs_as_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow() -> str:
        """Runs what status prints, and returns its name."""
        found = re.search(r"^next: itmkit (.*)$", status(capsys, tmp_path), re.MULTILINE)
        if not found:
            return ""
        assert run(cli, shlex.split(found[1])) == 0, capsys.readouterr().err
        return found[1].partition(" ")[0]

    where = ["-w", str(tmp_path)]
    assert run(cli, ["prepare", "scenes", "--train", "12", "--val", "3", "--test", "3", *where]) == 0
    assert run(cli, ["extract-regions", "--regions", "4", "--shard", "0/2", *where]) == 0
    for stage in ("extract-regions", "merge", "parse-text", "build-graphs"):
        assert follow() == stage
    assert "next: itmkit train --method mpsm --recipe scenes" in status(capsys, tmp_path)
    epoch = train._Run._epoch

    def killed(self: train._Run) -> None:
        if self.state.epoch == 1:
            raise KeyboardInterrupt
        epoch(self)

    small = ["--epochs", "2", "--batch-size", "8", "--embed", "8", "--word", "6", "--seed", "3", "--run", "mine"]
    with monkeypatch.context() as patch:
        patch.setattr(train._Run, "_epoch", killed)
        assert run(cli, ["train", "--method", "vsepp", *small, *where]) == 130
    assert "vsepp, recipe small, 1 of 2 epochs, best val rsum" in status(capsys, tmp_path)
    assert (follow(), follow(), follow()) == ("train", "evaluate", "")
    assert run(cli, ["inspect", str(tmp_path / "runs" / "mine")]) == 0
    told = capsys.readouterr().out
    assert "epochs = 2" in told and "seed = 3" in told and "2 of 2" in told
    assert told.index("best of global") < told.index("eval-test.json: results") < told.index("caches.regions")


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

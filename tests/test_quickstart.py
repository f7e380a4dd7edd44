"""The quickstart with a few scenes and small matchers, run in-process."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from itmkit import quickstart
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.datasets.prepared import prepare_scenes
from itmkit.runs.settings import RunConfig, resolve
from itmkit.workspace import Workspace
from tests.test_readme import README, commands

SMALL = {"epochs": 1, "batch_size": 8, "embed": 8, "word": 6, "warmup_epochs": 0}


def small(method: str, *, recipe: str, settings: dict[str, Any]) -> RunConfig:
    more = {"similarity": 4, "kernels": 2} if method == "mpsm" else {}
    return resolve(method, recipe=recipe, settings=settings | SMALL | more)


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("done again")


def written(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_second_call_shows_the_table_again_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "SCENES", {"train": 12, "val": 3, "test": 3})
    monkeypatch.setattr(quickstart, "resolve", small)
    assert run(cli, ["quickstart", "-w", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    assert "mpsm" in first and "vsepp" in first and "MPSM over VSE++" in first and "1. scene-" in first
    assert "  itmkit index -w " in first and "  itmkit search -w " in first
    (explain,) = [line for line in first.splitlines() if line.startswith("  itmkit explain")]
    assert run(cli, [*shlex.split(explain)[1:-2], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image"].startswith("scene-")
    with monkeypatch.context() as patch:
        for work in ("make_scenes", "evaluate", "retrieve", "open_run"):
            patch.setattr(quickstart, work, never)
        before = written(tmp_path)
        assert run(cli, ["quickstart", "-w", str(tmp_path)]) == 0
        assert written(tmp_path) == before
    seconds = re.compile(r"seconds\n.*", re.DOTALL)
    assert seconds.sub("", capsys.readouterr().out) == seconds.sub("", first)
    if README.is_file():  # what it says that can be tried there
        monkeypatch.chdir(tmp_path)
        for command in commands("tried"):
            assert run(cli, command) == 0, f"{command}: {capsys.readouterr().err}"
        assert len(list(tmp_path.glob("plots/*.svg"))) == 3
        assert (tmp_path / "reports" / "mpsm+vsepp-test.html").is_file()
    (tmp_path / "images" / "scene-000003.jpg").unlink()
    assert run(cli, ["quickstart", "-w", str(tmp_path)]) == 0
    assert (tmp_path / "images" / "scene-000003.jpg").is_file()
    capsys.readouterr()
    facts = (tmp_path / "runs" / "vsepp" / "run.json").read_text()
    (tmp_path / "runs" / "vsepp" / "run.json").write_text(facts.replace('"core_minutes": ', '"core_minutes": 1'))
    monkeypatch.setattr(quickstart, "evaluate", never)
    with pytest.raises(AssertionError, match="done again"):  # other runs than those of the table
        run(cli, ["quickstart", "-w", str(tmp_path)])


def test_another_data_set_is_replaced_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "SCENES", {"train": 2, "val": 1, "test": 1})
    monkeypatch.setattr(quickstart, "extract_regions", never)
    write_dataset(
        tmp_path / "dataset.jsonl", [ImageRecord("a", "train", (Caption("a#0", "A"),))], kind="csv", settings={}
    )
    before = written(tmp_path)
    assert run(cli, ["quickstart", "-w", str(tmp_path)]) == 2
    assert "another data set is there already (csv: train 1)" in capsys.readouterr().err
    assert written(tmp_path) == before
    prepare_scenes(Workspace(tmp_path), train=3, val=1, test=1, seed=0, force=True)
    assert run(cli, ["quickstart", "-w", str(tmp_path)]) == 2  # scenes of other counts
    with pytest.raises(AssertionError, match="done again"):
        run(cli, ["quickstart", "-w", str(tmp_path), "--force"])
    assert len(Workspace(tmp_path).dataset().images) == 4
    with Workspace(tmp_path).preparing():
        assert run(cli, ["quickstart", "-w", str(tmp_path)]) == 2
    assert "another process is preparing this data set" in capsys.readouterr().err

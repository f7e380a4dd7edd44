from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from itmkit.commands import COMMANDS, cli
from itmkit.matchers import METHODS
from tests.workspaces import make_dataset, make_run


def offered(*words: str) -> list[str]:
    """What a shell offers for the last of the words."""
    complete = ShellComplete(cli, {}, "itmkit", "_ITMKIT_COMPLETE")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


def test_commands_options_and_methods() -> None:
    assert offered("") == list(COMMANDS)
    assert offered("pre") == ["prepare"]
    assert set(offered("prepare", "")) >= {"karpathy", "csv"}
    assert "--method" in offered("train", "--me")
    assert offered("train", "--method", "") == sorted(METHODS)
    assert offered("methods", "m") == ["mefn", "mpsm"]
    assert offered("compare", "--methods", "mpsm,sc") == ["mpsm,scan", "mpsm,scl"]


def test_runs_and_splits_of_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_dataset(tmp_path / "work")
    for name in ("first", "second one", "mine"):
        make_run(workspace, name)
    there = ["-w", str(workspace.root)]
    assert offered("evaluate", *there, "--run", "") == ["first", "mine", "second one"]
    assert offered("evaluate", *there, "--run", "first", "--against", "s") == ["second one"]
    assert offered("ablate", *there, "m") == ["mine", "mefn", "mpsm"]
    assert set(offered("evaluate", *there, "--split", "")) == {
        *("train", "val", "test"),
        *("coco5k", "coco1k", "flickr1k", "f8k"),
    }
    monkeypatch.setenv("ITMKIT_WORKSPACE", str(workspace.root))
    assert offered("plot", "cmc", "--run", "f") == ["first"]
    monkeypatch.setenv("ITMKIT_WORKSPACE", str(tmp_path / "nothing"))
    assert offered("plot", "cmc", "--run", "") == []
    monkeypatch.delenv("ITMKIT_WORKSPACE")
    monkeypatch.chdir(workspace.root)
    assert offered("train", "--run", "s") == ["second one"]

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.matchers import METHODS, method
from itmkit.methods.recipe import recipes
from tests.training.tiny import make_workspace


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["methods"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^│ {name} ", printed, re.MULTILINE) for name in METHODS)
    assert run(cli, ["methods", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_one_method(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a workspace: settings, caches and their commands, recipes."""
    assert run(cli, ["methods", name, "-w", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["settings"]] == [field.name for field in fields(method(name).Config)]
    assert all(one["says"] and one["values"] for one in found["settings"])
    assert sorted(found["recipes"]) == recipes(name) and all(found["recipes"].values())
    assert all(one["command"].startswith("itmkit ") and not one["state"] for one in found["caches"])
    assert run(cli, ["methods", name, "-w", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for field in fields(method(name).Config):
        assert f"--{field.name.replace('_', '-')} " in printed


def test_in_a_workspace_it_says_which_caches_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = make_workspace(tmp_path)
    assert run(cli, ["methods", "mpsm", "-w", str(workspace.root), "--json"]) == 0
    states = {one["name"]: one["state"] for one in json.loads(capsys.readouterr().out)["caches"]}
    assert states == {"regions": "done", "text": "done", "graphs/images": "done", "graphs/texts": "done"}


def test_an_unknown_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["methods", "scam"]) == 2
    assert "no such method; there are mpsm" in capsys.readouterr().err


def test_on_what_papers_chose_their_epoch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(cli, ["methods", "chan"]) == 0
    printed = capsys.readouterr().out
    assert "chosen on" in printed and re.search(r"CHAN \(BiGRU\) +│ single +│ dev +│ flickr1k +│ +79.7", printed)

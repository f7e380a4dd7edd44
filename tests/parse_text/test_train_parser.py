"""The training script in small: on scene captions alone, interrupted and continued."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from itmkit.parse_text.parser import Parser

SCRIPT = Path(__file__).parents[2] / "examples" / "train_parser.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_parser", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_parser"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, folder: Path, name: str, work: str) -> None:
    options = ["--scenes", "8", "--epochs", "2", "--out", str(folder / name), "--work", str(folder / work)]
    done = CliRunner().invoke(script.main, options)
    assert done.exit_code == 0, (done.output, done.exception)


def test_interrupted_training_gives_the_same_weights(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, tmp_path, "whole", "work-1")
    save_state = script.save_state

    def save_then_stop(*args: object) -> None:
        save_state(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "save_state", save_then_stop)
    with pytest.raises(AssertionError):
        run(script, tmp_path, "stopped", "work-2")
    assert not (tmp_path / "stopped").exists()
    monkeypatch.setattr(script, "save_state", save_state)
    run(script, tmp_path, "stopped", "work-2")
    for file in ("parser.safetensors", "parser.json"):
        assert (tmp_path / "stopped" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert Parser.load(tmp_path / "whole").training["sentences"] == {"treebank": 0, "scenes": 8}


def test_without_anything_to_learn_from(script: ModuleType, tmp_path: Path) -> None:
    done = CliRunner().invoke(script.main, ["--scenes", "0"])
    assert done.exit_code == 2 and "--treebank" in done.output

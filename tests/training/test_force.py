"""`--force` replaces a run with the first saved state of the new one, and nothing before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.errors import ItmkitError
from itmkit.evaluation import evaluate as evaluation
from itmkit.evaluation.evaluate import evaluate
from itmkit.machine.lock import Locked
from itmkit.machine.precision import precision_of
from itmkit.runs.facts import RunFacts
from itmkit.runs.place import evaluating
from itmkit.runs.settings import read_config, resolve
from itmkit.training import train as module
from itmkit.training.step import Learner
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING

CONFIG = resolve("vsepp", settings={**FAST["vsepp"], **FAST_TRAINING, "epochs": 1, "checkpoint_steps": 1})


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and not path.name.startswith(".lock")}


def lacking(*_: Any, **__: Any) -> Any:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")


def test_what_fails_leaves_the_old_run_whole(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(workspace, CONFIG, tensorboard=False).run
    (run / "eval-test.json").write_text("{}")
    before = contents(run)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(ItmkitError, match="--tensorboard needs the package"):
            train(workspace, CONFIG, force=True, tensorboard=True)
    assert contents(run) == before
    advice = "not enough memory for this training: lower --batch-size, raise --accumulate.*--dry-run.*can't allocate"
    for owner, name in ((module, "build"), (Learner, "step")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lacking)
            with pytest.raises(ItmkitError, match=advice) as error:
                train(workspace, CONFIG, force=True)
            assert len(error.value.problems) == 1
        assert contents(run) == before
    with evaluating(run), pytest.raises(Locked, match="another process evaluates this run"):
        train(workspace, CONFIG, force=True)
    assert contents(run) == before
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "score_to_disk", lacking)
        with pytest.raises(ItmkitError, match="not enough memory for this evaluation: lower --memory"):
            evaluate(workspace, ["vsepp"])


def test_a_run_is_replaced_whatever_its_settings_were(workspace: Workspace) -> None:
    """Also where they cannot be read any more. Its precision is not that of the new run."""
    path = workspace.run("vsepp") / "config.toml"

    def again(*more: str) -> int:
        settings = {**FAST["vsepp"], **FAST_TRAINING, "epochs": 1}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        return run(cli, ["train", "-w", str(workspace.root), "--method", "vsepp", *options, *more])

    usual = precision_of("auto", torch.device("cpu"))
    other = "float32" if usual == "bfloat16" else "bfloat16"
    assert again("--precision", other) == 0 and read_config(path).training.precision == other
    assert again("--force") == 0 and read_config(path).training.precision == usual
    path.write_text("epochs = ")
    assert again() == 2
    assert again("--force") == 0 and read_config(path).training.precision == usual


def test_the_second_training_of_a_run_is_refused_and_nothing_else(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, told = Learner.step, []

    def step(self: Learner, *args: Any, **keywords: Any) -> Any:
        if not told:
            with pytest.raises(Locked, match=r"runs/vsepp: another process trains this run \(process \d+ on .*, since"):
                train(workspace, CONFIG)
            told.append("refused")
            assert RunFacts.exist(workspace.run("vsepp"))
        return real(self, *args, **keywords)

    monkeypatch.setattr(Learner, "step", step)
    assert not train(workspace, CONFIG).did_nothing and told
    assert train(workspace, CONFIG).did_nothing

"""A run that was interrupted ends in the same files as one that was not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run as run_command
from itmkit.errors import ItmkitError
from itmkit.runs.facts import RunFacts
from itmkit.runs.settings import RunConfig, resolve
from itmkit.scoring.metrics import Direction
from itmkit.training import epochs as loop
from itmkit.training.step import Learner
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING
from tests.workspaces import largest_file

STEPS, EPOCHS = 3, 2  # 24 captions in batches of 8

# Dropout: the random numbers of a step must be those of an undisturbed run too.
SETTINGS: dict[str, Any] = {**FAST["scan"], **FAST_TRAINING, "epochs": EPOCHS, "dropout": 0.2, "checkpoint_steps": 2}


def configured(**settings: Any) -> RunConfig:
    return resolve("scan", settings=SETTINGS | settings)


def results(run: Path) -> dict[str, Any]:
    """Everything of a run that must not depend on interruptions."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in run.glob("best-*.safetensors")}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("pairs_per_second")
    facts = json.loads((run / "run.json").read_text())
    facts.pop("core_minutes", None)
    facts["files"].pop("metrics.jsonl")  # its lines say how fast the epochs were
    return found | {"metrics": lines, "run": facts, "config": (run / "config.toml").read_text()}


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, call: int, *, after: bool) -> None:
    """Raises KeyboardInterrupt once, at the given call of a function of training, before or after its work."""
    owner: Any = {"step": Learner, "write": RunFacts, "_epoch": loop.Epochs}.get(name, loop)
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def interrupted(*args: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise KeyboardInterrupt
        result = real(*args, **keywords)
        if calls == call:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)


@pytest.fixture(scope="module")
def undisturbed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("undisturbed") / "work"
    shutil.copytree(template, root)
    result = train(Workspace(root), configured())
    assert result.epochs == EPOCHS and not (result.run / "last" / "state.safetensors").exists()
    return results(result.run)


@pytest.mark.parametrize(
    ("name", "call", "after"),
    [
        ("step", 1, False),  # before anything is saved
        ("step", 3, False),  # after a state within the first epoch
        ("step", STEPS * EPOCHS, True),  # the last step
        ("save_state", 1, False),
        ("save_state", 1, True),
        ("save_state", 2, False),  # epoch 1 has its best weights and its line of metrics, but no state
        ("save_weights", 1, True),  # one member saved, the other not
        ("save_weights", 2, False),
        ("write", 1, True),
        ("write", EPOCHS + 2, False),  # all done but for the last word
        ("validate", 2, False),
    ],
)
def test_an_interrupted_run_ends_like_an_undisturbed_one(
    name: str,
    call: int,
    after: bool,
    workspace: Workspace,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, name, call, after=after)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured())
    result = train(workspace, configured())
    assert not result.did_nothing
    assert results(result.run) == undisturbed


def test_interrupted_again_and_again(
    workspace: Workspace, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every second step: each call gets as far as the next saved state."""
    for _ in range(3):
        with monkeypatch.context() as patch:
            interrupt(patch, "step", 3, after=True)
            with pytest.raises(KeyboardInterrupt):
                train(workspace, configured())
    assert results(train(workspace, configured()).run) == undisturbed


def test_a_torn_line_of_metrics_is_written_again(
    workspace: Workspace, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, "step", 4, after=False)  # in epoch 2
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured())
    with open(workspace.run("scan") / "metrics.jsonl", "a", encoding="utf-8") as out:
        out.write('{"epoch": 2, "neg')
    assert results(train(workspace, configured()).run) == undisturbed


def test_a_disk_that_fills_up_leaves_the_last_state_whole(
    workspace: Workspace,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A limit on the size of files stands in for the full disk: a state is written half."""
    with monkeypatch.context() as patch:
        interrupt(patch, "step", 5, after=True)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured())
    state = workspace.run("scan") / "last" / "state.safetensors"
    before, limit = state.read_bytes(), state.stat().st_size // 2
    options = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    arguments = ["train", "-w", str(workspace.root), "--method", "scan", *options]
    capsys.readouterr()
    with largest_file(limit):
        assert run_command(cli, arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("continuing") and "\nerror: " in printed and "Traceback" not in printed
    assert state.read_bytes() == before and [path.name for path in state.parent.iterdir()] == [state.name]
    assert results(train(workspace, configured()).run) == undisturbed


def test_a_finished_run_is_left_alone(workspace: Workspace, undisturbed: dict[str, Any]) -> None:
    run = train(workspace, configured()).run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    result = train(workspace, configured())
    assert result.did_nothing and result.epochs == EPOCHS and set(result.best) == {"t2i", "i2t"}
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    (run / "eval-test.json").write_text("{}")
    again = train(workspace, configured(), force=True)
    assert not again.did_nothing and results(run) == undisturbed
    assert not (run / "eval-test.json").exists()  # figures of other weights


@pytest.mark.parametrize("second", [200.0, 50.0])
def test_figures_go_with_the_weights_that_they_are_of(
    second: float, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that was evaluated before its last epoch, in which it gets better or does not."""
    sums, real = iter((100.0, second)), loop.validate

    def validate(*arguments: Any, **keywords: Any) -> Any:
        found, _, count = real(*arguments, **keywords)
        side = Direction(next(sums) / 6, 0.0, 0.0, 1.0, 1.0)
        return {name: replace(one, i2t=side, t2i=side) for name, one in found.items()}, None, count

    monkeypatch.setattr(loop, "validate", validate)
    with monkeypatch.context() as patch:
        interrupt(patch, "_epoch", 1, after=True)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured())
    names = ["eval-test+other.json", "eval-test.json", "ranks-test.npz", "scores-test.h5"]
    for name in names:
        (workspace.run("scan") / name).write_text("{}")
    run = train(workspace, configured()).run
    assert [name for name in names if (run / name).exists()] == ([] if second > 100 else names)


def test_leftovers_of_a_removed_run_do_not_count(workspace: Workspace, undisturbed: dict[str, Any]) -> None:
    """As after a --force that was killed: the state and vocabulary of other settings without a run.json."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "step", 4, after=False)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured(seed=7, minimum_count=10))
    run = workspace.run("scan")
    assert (run / "last" / "state.safetensors").exists()
    (run / "run.json").unlink()
    assert results(train(workspace, configured()).run) == undisturbed


def test_a_run_of_other_settings_is_not_continued(workspace: Workspace) -> None:
    train(workspace, configured(epochs=1))
    run = workspace.run("scan")
    before = results(run)
    with pytest.raises(ItmkitError) as error:
        train(workspace, configured(embed=12, learning_rate=0.5, epochs=1))
    told = str(error.value)
    assert "setting embed was 8, is 12 now" in told and "setting learning_rate was 0.01, is 0.5 now" in told
    assert "--run NAME" in told and "--force" in told and len(error.value.problems) == 3
    with pytest.raises(ItmkitError, match="method was scan, is vsepp now"):
        train(workspace, resolve("vsepp", settings={**FAST["vsepp"], **FAST_TRAINING}), run="scan")
    assert results(run) == before

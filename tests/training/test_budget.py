"""A budget of core minutes: how many epochs fit, and that the run is then one of so many epochs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.errors import ItmkitError
from itmkit.machine import cores
from itmkit.runs.settings import RunConfig, read_config, resolve
from itmkit.training import budget
from itmkit.training import epochs as loop
from itmkit.training.again import as_before
from itmkit.training.budget import CoreClock, asked_for, fit, fitted, like, within_budget
from itmkit.training.estimate import Estimate, StageEstimate
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING

TRAINING = {name: value for name, value in FAST_TRAINING.items() if name != "epochs"}


def configured(method: str = "vsepp", **settings: Any) -> RunConfig:
    return resolve(method, settings={**FAST[method], **TRAINING, "budget": "2m"} | settings)


def measured(
    stages: tuple[tuple[str, float], ...] = (("", 1.0),), validation: float = 10.0, steps: int = 10
) -> Estimate:
    each = [StageEstimate(name, 1, 9.0, step, 0.0, 1.0) for name, step in stages]
    return Estimate("cpu", "float32", {}, steps, each, 9.0, validation, 0, 0)


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each measurement finds that an epoch takes 20 seconds of one core. Holds the runs that were measured."""
    runs: list[str] = []

    def found(*_: Any, run: str, **__: Any) -> Estimate:
        runs.append(run)
        return measured()

    monkeypatch.setattr(budget, "estimate", found)
    return runs


# --- settings ---


@pytest.mark.parametrize(
    ("written", "minutes"), [("40m", 40), ("40", 40), ("1.5h", 90), (" .5 h ", 30), ("20min", 20), (7.5, 7.5), (3, 3)]
)
def test_a_budget_as_it_is_written(written: Any, minutes: float) -> None:
    assert resolve("vsepp", settings={"budget": written}).training.budget == minutes


@pytest.mark.parametrize("written", ["forty", "40s", "-3", "1h30m", "nan", "", -1, float("nan"), float("inf")])
def test_what_is_no_budget(written: Any) -> None:
    with pytest.raises(ItmkitError, match="setting 'budget' = ") as error:
        resolve("vsepp", settings={"budget": written})
    if isinstance(written, str):
        assert "written 40 or 40m for core minutes, 1.5h for core hours" in str(error.value)


def test_what_a_budget_does_not_go_with() -> None:
    with pytest.raises(ItmkitError) as error:
        resolve("mpsm", recipe="paper", settings={"budget": "40m", "epochs": "3"})
    epochs, recipe = error.value.problems
    assert "--epochs, --budget: give one of them" in epochs
    assert "--recipe paper, --budget: give one of them; the recipe repeats a published training" in recipe
    assert resolve("mpsm", recipe="paper", settings={"budget": "0", "epochs": 3}).training.epochs == 3


# --- how many epochs ---


def test_what_counts_in_epochs_keeps_its_proportion() -> None:
    config = resolve("scl", settings={"epochs": 5, "decay_epoch": 4, "text_epochs": 10, "image_epochs": 1})
    for epochs, decay, text, image in (
        (1, 1, 2, 1),
        (2, 1, 4, 1),
        (3, 2, 6, 1),
        (5, 4, 10, 1),
        (8, 7, 16, 2),
        (50, 40, 100, 10),
    ):
        found = fitted(config, epochs)
        assert (found.training.epochs, found.training.decay_epoch) == (epochs, decay)
        assert [(stage.name, stage.epochs) for stage in found.stages] == [
            ("text", text), ("image", image), ("shared", epochs),
        ]  # fmt: skip
    never = resolve("mpsm", settings={"epochs": 5, "decay_epoch": 0})
    assert fitted(never, 9).training.decay_epoch == 0


def test_a_run_begun_with_another_fall_of_the_rate_goes_on_with_it_but_not_where_another_is_asked_for() -> None:
    config = resolve("mpsm", settings={"budget": "40m"})
    assert (config.training.epochs, config.training.decay_epoch) == (5, 4)
    measured = {"asked_epochs": 5, "asked_decay_epoch": 4, "core_minutes": 39.0}
    old = replace(config, training=replace(config.training, epochs=3, decay_epoch=3), measured=measured)
    assert like(config, old) == old and fitted(config, 3).training.decay_epoch == 2
    twice = resolve("mpsm", settings={"budget": "40m", "decay_epoch": 2})
    assert like(twice, old).training.decay_epoch == 1


@pytest.mark.parametrize(("of", "decay"), [(30, 15), (5, 4), (8, 6), (30, 10), (40, 10), (8, 8), (5, 9)])
def test_the_rate_falls_as_often_in_any_number_of_epochs(of: int, decay: int) -> None:
    config = resolve("vsepp", settings={"epochs": of, "decay_epoch": decay})
    falls = (of - 1) // decay
    for epochs in range(1, 61):
        found = (epochs - 1) // fitted(config, epochs).training.decay_epoch
        assert found == falls or (found < falls and epochs < 2 * of)
    assert (3 * of - 1) // fitted(config, 3 * of).training.decay_epoch == falls
    if falls == 1:
        assert all((epochs - 1) // fitted(config, epochs).training.decay_epoch == 1 for epochs in range(2, 61))


def test_the_most_epochs_that_fit() -> None:
    for minutes, epochs in (("2m", 6), ("1.99m", 5), ("0.1", 1), ("1h", 180)):
        chosen, takes = fit(configured(budget=minutes), measured())
        assert chosen.training.epochs == epochs and takes.core_seconds == 20 * epochs


def test_a_first_epoch_that_costs_less_does_not_stand_for_all() -> None:
    """On all negatives, before the hardest count."""
    stage = StageEstimate("", 1, 9.0, 4.0, 0.0, 1.0, warmup_epochs=1, warmup_step=3.0, warmup_core=3.0)
    chosen, takes = fit(configured(budget="20m"), Estimate("cpu", "float32", {}, 10, [stage], 0.0, 0.0, 0, 0))
    assert chosen.training.epochs == 30 and takes.core_seconds == 30 + 29 * 40 <= 1200


def test_a_clock_that_saw_no_time_pass() -> None:
    chosen, _ = fit(configured(budget="0.00000011"), measured((("", 0.0),), validation=0.0))
    assert chosen.training.epochs == 6  # of a microsecond each


def test_stages_share_the_epochs() -> None:
    settings = {"words": "learned", "images": "regions", "text_epochs": 1, "image_epochs": 3, "captions_per_image": 2}
    config = configured("scl", **settings, budget="60m")
    assert config.training.epochs == 5
    stages = (("text", 1.0), ("image", 2.0), ("shared", 3.0))
    chosen, takes = fit(config, measured(stages))
    assert (
        takes.core_seconds
        <= 3600
        < measured(stages).for_stages(fitted(config, chosen.training.epochs + 1).stages).core_seconds
    )
    text, image, shared = (stage.epochs for stage in chosen.stages)
    assert (text, image) == (-(-shared // 5), -(-shared * 3 // 5))
    before = asked_for(chosen)
    assert before == config


# --- the run ---


def test_the_run_is_one_of_so_many_epochs(workspace: Workspace, speed: list[str]) -> None:
    result = train(workspace, configured(decay_epoch=4), run="budget")
    assert result.epochs == 6 and speed == ["budget"]
    config = read_config(result.run / "config.toml")
    assert (config.training.epochs, config.training.budget) == (6, 2)
    of = resolve("vsepp").training.epochs
    assert config.training.decay_epoch == -(-4 * 6 // of)
    assert config.measured["core_minutes"] == 2 and config.measured["step_core_seconds"] == [1.0]
    assert config.measured["asked_epochs"] == of and config.measured["asked_decay_epoch"] == 4
    settings = {**FAST["vsepp"], **TRAINING, "epochs": 6, "decay_epoch": config.training.decay_epoch}
    plain = train(workspace, resolve("vsepp", settings=settings), run="plain")
    same, found = (load_file(run / "best-global.safetensors") for run in (result.run, plain.run))  # headers name runs
    assert same.keys() == found.keys() and all(torch.equal(same[key], found[key]) for key in same)


def test_a_killed_run_goes_on_and_is_not_measured_again(
    workspace: Workspace, speed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(workspace, configured(budget="1m"), run="whole")
    real, calls = loop.save_state, []

    def killed(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured(budget="1m"), run="killed")
    spent = json.loads((workspace.run("killed") / "run.json").read_text())["core_minutes"]
    result = train(workspace, configured(budget="1m"), run="killed")
    assert speed == ["whole", "killed"] and not result.did_nothing
    name = "best-global.safetensors"
    assert (result.run / name).read_bytes() == (whole.run / name).read_bytes()
    assert result.core_minutes is not None and result.core_minutes > spent > 0
    assert json.loads((result.run / "run.json").read_text())["core_minutes"] == result.core_minutes
    again = train(workspace, configured(budget="1m"), run="killed")
    assert again.did_nothing and again.core_minutes == result.core_minutes and again.config == result.config
    with pytest.raises(ItmkitError, match=r"setting budget was 1.0, is 1.5 now"):
        train(workspace, configured(budget="1.5m"), run="killed")
    assert speed == ["whole", "killed"]
    assert train(workspace, configured(budget="1.5m"), run="killed", force=True).epochs == 4


def test_a_run_that_has_saved_nothing_does_not_decide_the_epochs(
    workspace: Workspace, speed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was to have no budget, another one, or a model of another speed."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    plain = resolve("vsepp", settings={**FAST["vsepp"], **TRAINING, "epochs": 1})
    for number, before in enumerate((plain, configured(budget="9m"), configured(budget="1m", embed=64))):
        run, known = f"begun{number}", len(speed)
        with monkeypatch.context() as patch:
            patch.setattr(loop.Epochs, "_epoch", killed)
            with pytest.raises(KeyboardInterrupt):
                train(workspace, before, run=run)
        del speed[known:]
        found = within_budget(workspace, configured(budget="1m"), workspace.run(run), torch.device("cpu"))
        assert found.training.epochs == 3 and speed[known:] == [run]


def test_a_run_by_its_name_with_a_budget_or_without(workspace: Workspace) -> None:
    """Each takes the place of the other; what counts in epochs keeps its proportion to those of the run."""
    asked = resolve("vsepp", settings={**FAST["vsepp"], **TRAINING, "epochs": 2, "decay_epoch": 1})
    path = train(workspace, asked, run="named").run / "config.toml"
    for settings, epochs, decay in (
        ({"seed": 1}, 2, 1),
        ({"budget": "0"}, 2, 1),
        ({"budget": "2m"}, 6, 3),
        ({"seed": 2}, 6, 3),  # with the budget that it has now
        ({"budget": "0"}, 2, 1),
        ({"budget": "2m"}, 6, 3),
        ({"epochs": "1"}, 1, 1),
    ):
        chosen = as_before(workspace, "named", settings)
        if chosen.training.budget:
            chosen, _ = fit(chosen, measured())
        assert (chosen.training.epochs, chosen.training.decay_epoch) == (epochs, decay)
        chosen.write(path)
    with pytest.raises(ItmkitError, match="--epochs, --budget: give one of them"):
        as_before(workspace, "named", {"epochs": "1", "budget": "2m"})


def test_measured_in_earnest(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in {**FAST["vsepp"], **TRAINING}.items()]
    command = ["train", "-w", str(workspace.root), "--method", "vsepp", *options]
    assert run(cli, [*command, "--budget", "0.0000001", "--json"]) == 0
    told = capsys.readouterr()
    assert "--budget: 1 epoch, estimated to take" in told.err and "more than the budget" in told.err
    assert json.loads(told.out)["core_minutes"] > 0
    assert run(cli, [*command, "--budget", "0.02m", "--dry-run", "--run", "dry"]) == 0
    assert "of 0.02 core minutes" in capsys.readouterr().out and not workspace.run("dry").exists()
    assert run(cli, [*command, "--budget", "soon", "--run", "other"]) == 2
    assert "a budget is written 40 or 40m" in capsys.readouterr().err


def test_a_method_without_training_needs_no_budget(tmp_path: Path) -> None:
    from tests.training.tiny import make_workspace

    workspace = make_workspace(tmp_path, vectors=True)
    assert train(workspace, resolve("dual", settings={"budget": "1m"})).epochs == 0


def test_the_clock_counts_what_this_process_computed_and_not_what_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 30.0, 90.0, 150.0])
    with monkeypatch.context() as patch:
        patch.setattr(cores.time, "process_time", lambda: next(now))
        clock = CoreClock(torch.device("cpu"), processes=4)
        assert [clock.lap(), clock.lap(), clock.lap(alone=True)] == [2.0, 4.0, 1.0]
    on_cpu, on_gpu = CoreClock(torch.device("cpu")), CoreClock(torch.device("cuda"))
    time.sleep(0.2)
    assert on_cpu.lap() * 60 < 0.1 and on_gpu.lap() * 60 >= 0.2


def test_what_one_process_does_for_all_counts_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def told(name: str, real: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            done.append(name)
            return real(*args, **keywords)

        return call

    for name in ("validate", "save_weights", "save_state"):
        monkeypatch.setattr(loop, name, told(name, getattr(loop, name)))
    monkeypatch.setattr(CoreClock, "lap", lambda _, *, alone=False: done.append("alone" if alone else "all") or 0.0)
    train(workspace, resolve("vsepp", settings={**FAST["vsepp"], **TRAINING, "epochs": 1, "checkpoint_steps": 2}))
    each = [part.split() for part in " ".join(done).split("alone")]
    assert each[:3] == [["all", "save_state"], ["all", "validate", "save_weights"], ["all", "save_state"]]
    assert set(each[3]) == {"all"}

"""What a step of training does beside the gradients: precision, and the moving average of the weights."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from itmkit.inputs import Inputs, Sizes
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.machine import precision
from itmkit.machine.precision import products_in
from itmkit.matchers import build, method
from itmkit.matchers.parts import blocks
from itmkit.runs.checkpoint import load_weights
from itmkit.runs.settings import Training, read_config, resolve
from itmkit.training.batches import pair_batch
from itmkit.training.step import Learner
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.test_resume import interrupt, results
from tests.training.tiny import FAST, FAST_TRAINING, FEATURES, GRAPHS, THINGS

CPU = torch.device("cpu")
VOCABULARY = Vocabulary.build([*THINGS, "a", "left", "of"], minimum=1)


def learner_of(workspace: Workspace, name: str = "mpsm", **settings: Any) -> tuple[Learner, Callable[[int], Any]]:
    config = method(name).Config(**FAST[name])
    members = build(name, config, sizes=Sizes(feature=FEATURES, vocabulary=len(VOCABULARY)), seed=0)
    inputs = Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, GRAPHS)
    learner = Learner(members, Training(**settings), CPU)

    def step(number: int) -> Any:
        batch = pair_batch(inputs, torch.arange(number, number + 8).numpy())
        return learner.step(batch, "", "soft", 0.01, epoch=1, number=number, done=number)

    return learner, step


def floats(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items() if value.is_floating_point()}


def test_the_average_is_that_of_all_steps(workspace: Workspace) -> None:
    learner, step = learner_of(workspace, ema=0.5)
    expected = {name: floats(matcher) for name, matcher in learner.members.items()}
    for number in range(12):
        step(number)
        keep = min(0.5, (1 + number) / (10 + number))
        for name, matcher in learner.members.items():
            for key, value in floats(matcher).items():
                expected[name][key] = keep * expected[name][key] + (1 - keep) * value
    for name, average in learner.kept.items():
        torch.testing.assert_close(floats(average), expected[name])
        counts = {
            key: value for key, value in learner.members[name].state_dict().items() if not value.dtype.is_floating_point
        }
        assert all(torch.equal(average.state_dict()[key], value) for key, value in counts.items())
        assert all(
            not torch.equal(a, b) for a, b in zip(average.parameters(), learner.members[name].parameters(), strict=True)
        )


def test_without_an_average_the_weights_are_kept(workspace: Workspace) -> None:
    learner, _ = learner_of(workspace)
    assert learner.kept is learner.members and list(learner.modules) == ["distance", "direction"]


def test_a_run_with_averages_keeps_them_and_resumes(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**FAST["vsepp"], **FAST_TRAINING, "epochs": 2, "checkpoint_steps": 2}
    config = resolve("vsepp", settings={**settings, "ema": 0.9})
    whole = results(train(workspace, config, run="whole").run)
    plain = resolve("vsepp", settings=settings)
    assert (
        results(train(workspace, plain, run="plain").run)["best-global.safetensors"] != whole["best-global.safetensors"]
    )
    for call in (2, 3, 2):
        with monkeypatch.context() as patch:
            interrupt(patch, "step", call, after=True)
            with pytest.raises(KeyboardInterrupt):
                train(workspace, config, run="killed")
    assert results(train(workspace, config, run="killed").run) == whole


def test_patience_ends_a_run_and_a_resumed_one_alike(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**FAST["vsepp"], **FAST_TRAINING, "epochs": 30, "patience": 2, "learning_rate": 1e-8}
    config = resolve("vsepp", settings=settings)
    result = train(workspace, config)
    best = result.best["global"]["epoch"]
    assert result.epochs == best + 2 < 30
    facts = json.loads((result.run / "run.json").read_text())
    assert facts["finished"] and facts["epochs_done"] == result.epochs
    assert train(workspace, config).did_nothing
    with monkeypatch.context() as patch:  # killed after its last epoch, before that is known
        interrupt(patch, "write", result.epochs + 2, after=False)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, config, run="killed")
    assert results(train(workspace, config, run="killed").run) == results(result.run)


@pytest.mark.parametrize("name", ["mpsm", "vsepp"])
def test_rounded_products_change_gradients_a_little(name: str, workspace: Workspace) -> None:
    gradients = {}
    for kind in ("float32", "bfloat16"):
        learner, step = learner_of(workspace, name, precision=kind, clip=1e9)
        step(0)
        gradients[kind] = torch.cat([p.grad.flatten() for m in learner.members.values() for p in m.parameters()])
    exact, rounded = gradients.values()
    assert 0 < (exact - rounded).norm() / exact.norm() < 0.1


@pytest.mark.parametrize("hardware", [False, True])
def test_what_is_computed_again_for_gradients_is_rounded_again(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever thread computes them; on a GPU it is not the one that did the forward pass."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: hardware)
    x = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))

    def gradient(in_thread: bool) -> Tensor:
        a, weight = x.clone().requires_grad_(), torch.linspace(-1, 1, 12).view(4, 3).requires_grad_()
        with products_in("bfloat16", CPU):
            total = blocks.in_blocks(lambda part: (part @ weight).square().sum(dim=(1, 2)), a, numbers=20).sum()
        if in_thread:
            thread = threading.Thread(target=total.backward)
            thread.start()
            thread.join()
        else:
            total.backward()
        assert a.grad is not None and weight.grad is not None
        return torch.cat([a.grad.flatten(), weight.grad.flatten()])

    kept = gradient(in_thread=False)
    monkeypatch.setattr(blocks, "numbers_kept", lambda device, keep=0: keep)
    monkeypatch.setattr(blocks, "BLOCK", 40)
    for in_thread in (False, True):
        torch.testing.assert_close(gradient(in_thread), kept, rtol=1e-2, atol=1e-2)  # blocks sum in another order


def test_a_run_keeps_the_precision_it_began_with(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("vsepp", settings={**FAST["vsepp"], **FAST_TRAINING, "epochs": 1})
    assert config.training.precision == "auto"
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    run: Path = train(workspace, config).run
    assert read_config(run / "config.toml").training.precision == "float32"
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)  # moved to another machine
    assert train(workspace, config).did_nothing


def test_the_best_weights_are_the_averaged_ones(workspace: Workspace) -> None:
    settings = {**FAST["vsepp"], **FAST_TRAINING, "ema": 0.999, "epochs": 1}
    config = resolve("vsepp", settings=settings)
    run = train(workspace, config).run
    vocabulary = json.loads((run / "vocabulary.json").read_text())["word2idx"]
    sizes = Sizes(feature=FEATURES, vocabulary=len(vocabulary))
    matcher = build("vsepp", config.matcher, sizes=sizes, seed=0)["global"]
    start = deepcopy(matcher)
    load_weights(run / "best-global.safetensors", matcher)
    moved = max(
        float((a - b).detach().abs().max()) for a, b in zip(start.parameters(), matcher.parameters(), strict=True)
    )
    assert 0 < moved < 3 * 0.01 + 1e-6  # three steps of Adam at 0.01

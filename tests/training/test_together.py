"""Training by two processes: they have the gradients of one, and end in the same weights however often they are killed.

All of it is in one file, since what starts the processes loads torch anew in each process of pytest.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed.run import parse_args

from itmkit.cache import Part
from itmkit.commands import cli, console
from itmkit.errors import ItmkitError
from itmkit.files import read_json, sha256_file
from itmkit.inputs import Inputs
from itmkit.machine.stop import Stopped
from itmkit.matchers.parts.losses import triplet_loss
from itmkit.runs.begin import plan_run
from itmkit.runs.settings import resolve
from itmkit.training.batches import pair_batch
from itmkit.training.gradients import add_gradients
from itmkit.training.step import Learner
from itmkit.training.together import processes
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.processes import free_port, run_two
from tests.training.test_gradients import CPU, VOCABULARY, close, double, gradients, matchers
from tests.training.tiny import FAST, FAST_TRAINING, GRAPHS, make_workspace

SETTINGS = {**FAST["scan"], **FAST_TRAINING, "checkpoint_steps": 2, "global_negatives": True}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("together"))


def _train(index: int, root: Path, run: str, dies_at: int, settings: dict[str, Any], asked_at: int = 0) -> None:
    steps = 0
    real = Learner.step

    def step(self: Any, *args: Any, **keywords: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            os._exit(9)
        if steps == asked_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *args, **keywords)

    Learner.step = step  # type: ignore[method-assign]
    try:
        train(Workspace(root), resolve("scan", settings=settings), run=run, device="cpu", part=Part(index, 2))
    finally:
        Learner.step = real  # type: ignore[method-assign]


def weights(run: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(run.glob("best-*.safetensors"))}


def _train_again(index: int, root: Path, ports: dict[str, int]) -> None:
    for run, port in ports.items():  # they connect anew for each run, where nothing is left of the last
        os.environ["MASTER_PORT"] = str(port)
        if not run.startswith("stopped "):
            _train(index, root, run, 0, SETTINGS)
            continue
        with pytest.raises(Stopped) as stopped:  # a signal to one of them ends both at the same step
            _train(index, root, run.removeprefix("stopped "), 0, SETTINGS, asked_at=2 * index)
        assert stopped.value.number == signal.SIGTERM
        assert str(stopped.value).partition(" is saved at ")[2].startswith("" if index else "epoch 1, step 2. ")


def test_killed_and_run_again_they_end_in_the_same_weights(workspace: Workspace) -> None:
    """Few processes, as each loads torch: killed in epoch 2, then two runs in one pair of processes."""
    assert run_two(_train, workspace.root, "killed", 4, SETTINGS) == [9, 9]
    killed, whole = workspace.run("killed"), workspace.run("from-the-start")
    assert list((killed / "last").glob("*"))
    shutil.copytree(killed, whole)  # as if killed before anything was saved
    for path in [*(whole / "last").glob("*"), *whole.glob("best-*"), whole / "metrics.jsonl"]:
        path.unlink()
    again = [killed.name, f"stopped {whole.name}", whole.name]
    assert run_two(_train_again, workspace.root, {run: free_port() for run in again}) == [0, 0]
    for run in (killed, whole):
        facts = read_json(run / "run.json")
        assert facts["finished"] and facts["epochs_done"] == 3
        assert not list((run / "last").glob("*"))
        assert (run / "metrics.jsonl").read_text().count("\n") == 3
    assert weights(killed) == weights(whole) and len(weights(whole)) == 2


def test_a_batch_too_small_for_two_is_refused(workspace: Workspace) -> None:
    config = resolve("scan", settings={**SETTINGS, "batch_size": 7})
    with pytest.raises(ItmkitError, match="--batch-size 7: 2 processes need at least 8"):
        plan_run(workspace, workspace.dataset(), config, workspace.run("small"), torch.device("cpu"), Part(0, 2))


def test_every_image_of_a_batch_is_one_process_s(workspace: Workspace) -> None:
    inputs = Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, GRAPHS)
    captions = np.array([3, 0, 9, 8, 1, 20, 13])
    whole = pair_batch(inputs, captions)
    for count in (2, 3):
        parts = [pair_batch(inputs, captions, part=Part(index, count), global_negatives=True) for index in range(count)]
        assert sum(len(part.images.mask) for part in parts) == len(whole.images.mask)
        assert sorted(np.concatenate([part.captions for part in parts[:1]])) == sorted(captions)
        assert sum(len(part.texts.mask) for part in parts) == len(captions)
        assert all(part.pairs == whole.pairs and part.image_of.tolist() == parts[0].image_of.tolist() for part in parts)
        assert (np.diff(parts[0].image_of.numpy()) >= 0).all()


def _command(index: int, root: Path, words: list[str]) -> None:
    with (root / f"said-{index}.txt").open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
    sys.exit(console.run(cli, words))


def test_the_command_as_the_page_says(workspace: Workspace) -> None:
    """Each with its own negatives, and within a budget: one of them measures, before they meet."""
    settings = {**FAST["vsepp"], **FAST_TRAINING, "budget": "0.000001m", "validation_images": 4}
    del settings["epochs"]
    options = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = ["train", "-w", str(workspace.root), "--method", "vsepp", "--run", "launched", *options]
    launcher = parse_args(["--nproc-per-node", "2", "-m", "--", "itmkit", *command])  # that of torchrun
    assert launcher.module and [launcher.training_script, *launcher.training_script_args] == ["itmkit", *command]
    assert run_two(_command, workspace.root, command) == [0, 0]
    said = "".join((workspace.root / f"said-{index}.txt").read_text() for index in range(2))
    assert said.count("best weights by validation") == 1  # of all ranks, said once
    facts = read_json(workspace.run("launched") / "run.json")
    assert facts["finished"] and facts["epochs_done"] == 1 and facts["core_minutes"] > 0


PUBLISHED = {"pooling": "published"}
Ways = dict[str, tuple[str, dict[str, Any]]]  # what to compute, under a name: a method, and arguments of `gradients`


def _one_of_two(index: int, root: Path, ways: Ways) -> None:
    with processes(Part(index, 2), CPU):
        found = {key: gradients(name, Workspace(root), part=Part(index, 2), **own) for key, (name, own) in ways.items()}
        torch.save(found, root / f"{index}.pt")


@pytest.fixture(scope="module")
def by_two(workspace: Workspace) -> dict[str, dict[str, Tensor]]:
    """What two processes compute together, all in one pair of them: starting them takes longest."""
    ways: Ways = {name: (name, {}) for name in ("mpsm", "sgraf", "scan", "mefn", "scl")}
    ways["sgraf with published pooling"] = ("sgraf", PUBLISHED)
    ways |= {"mpsm in parts": ("mpsm", {"parts": 3}), "own negatives": ("vsepp", {"global_negatives": False})}
    # More parts than either process has images, of which one has more than the other.
    ways["statistics of parts"] = ("vsepp", {"parts": 9, "region_encoder": "linear+mlp"})
    assert run_two(_one_of_two, workspace.root, ways) == [0, 0]
    first, second = (torch.load(workspace.root / f"{index}.pt", weights_only=True) for index in range(2))
    for key, found in first.items():
        assert all(torch.equal(value, second[key][name]) for name, value in found.items())  # both take the same step
    return first  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["mpsm", "sgraf", "scan", "mefn", "scl", "mpsm in parts"])
def test_two_processes_with_all_negatives_have_the_gradients_of_one(
    way: str, workspace: Workspace, by_two: dict[str, dict[str, Tensor]]
) -> None:
    close(by_two[way], gradients(way.split()[0], workspace))


def test_published_pooling_has_one_set_of_statistics_for_two_processes(
    workspace: Workspace, by_two: dict[str, dict[str, Tensor]]
) -> None:
    found = by_two["sgraf with published pooling"]
    close(found, gradients("sgraf", workspace, **PUBLISHED))
    assert any("image_pooling.query_norm.running_mean" in key for key in found)


def test_processes_share_the_statistics_of_as_many_parts(
    workspace: Workspace, by_two: dict[str, dict[str, Tensor]]
) -> None:
    """One of them had more parts than the other, and each waited for another sum."""
    inputs = Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, GRAPHS)
    captions = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:14].numpy()
    images = [len(pair_batch(inputs, captions, part=Part(index, 2)).images.mask) for index in range(2)]
    assert images[0] != images[1] and max(images) < 9
    assert any("norm.running_mean" in key for key in by_two["statistics of parts"])


def test_without_them_each_process_compares_its_own(workspace: Workspace, by_two: dict[str, dict[str, Tensor]]) -> None:
    """The sum of the losses of the two halves, each a batch of its own."""
    inputs = Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, replace(GRAPHS, images="regions"))
    captions = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:14].numpy()
    halves = [pair_batch(inputs, captions, part=Part(index, 2)) for index in range(2)]
    assert sum(len(half.texts.mask) for half in halves) == 14 and halves[0].pairs == halves[1].pairs
    (matcher,) = matchers("vsepp").values()
    matcher.double().train()
    expected = torch.zeros((), dtype=torch.float64)
    for half in halves:
        triplet = partial(triplet_loss, image_of=half.image_of, margin=0.2, negatives="soft")
        sides = double(half.images), double(half.texts), half.image_of
        expected += add_gradients(matcher, *sides, triplet, "", seed=3).total
    found = by_two["own negatives"]
    torch.testing.assert_close(found["global: loss"], expected)
    for key, parameter in matcher.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[f"global: {key}"], parameter.grad, rtol=1e-9, atol=1e-9)

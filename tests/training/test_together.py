"""Training by two processes: they end in the same weights however often they are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itmkit.cache import Part
from itmkit.errors import ItmkitError
from itmkit.files import read_json, sha256_file
from itmkit.inputs import Inputs
from itmkit.machine.stop import Stopped
from itmkit.runs.begin import plan_run
from itmkit.runs.settings import resolve
from itmkit.training.batches import pair_batch
from itmkit.training.step import Learner
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.processes import free_port, run_two
from tests.training.test_gradients import VOCABULARY
from tests.training.tiny import FAST, FAST_TRAINING, GRAPHS, make_workspace

SETTINGS = {**FAST["mpsm"], **FAST_TRAINING, "checkpoint_steps": 2, "global_negatives": True}


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
        train(Workspace(root), resolve("mpsm", settings=settings), run=run, device="cpu", part=Part(index, 2))
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
    config = resolve("mpsm", settings={**SETTINGS, "batch_size": 7})
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


def test_under_torchrun_as_the_page_says(workspace: Workspace) -> None:
    """Each with its own negatives, and within a budget: one of them measures, before they meet."""
    settings = {**FAST["vsepp"], **FAST_TRAINING, "budget": "0.000001m", "validation_images": 4}
    del settings["epochs"]
    options = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "--", "itmkit"]
    command = ["train", "-w", str(workspace.root), "--method", "vsepp", "--run", "launched", *options]
    done = subprocess.run(
        [sys.executable, *launch, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best weights by validation") == 1  # of all ranks, said once
    facts = read_json(workspace.run("launched") / "run.json")
    assert facts["finished"] and facts["epochs_done"] == 1 and facts["core_minutes"] > 0

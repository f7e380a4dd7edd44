from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from itmkit.errors import ItmkitError
from itmkit.runs.settings import RunConfig, resolve
from itmkit.training import board
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.test_resume import interrupt
from tests.training.tiny import FAST, FAST_TRAINING

STEPS = 3  # of an epoch


def configured() -> RunConfig:
    return resolve("mpsm", settings={**FAST["mpsm"], **FAST_TRAINING, "checkpoint_steps": 1})


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_curves_of_a_run_that_was_killed_are_those_of_the_metrics(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "EVERY", 1)
    with monkeypatch.context() as patch:
        interrupt(patch, "save_state", 5, after=False)  # a point is written whose state is not
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured(), tensorboard=True)
    run = train(workspace, configured(), tensorboard=True).run
    found = curves(run / "tensorboard")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for name in ("distance", "direction", "ensemble"):
        expected = [(line["epoch"] * STEPS, pytest.approx(line[name]["rsum"])) for line in lines]
        assert found[f"rsum/{name}"] == expected
        assert [value for _, value in found[f"t2i R@1/{name}"]] == [pytest.approx(x[name]["t2i"]["R@1"]) for x in lines]
    assert [step for step, _ in found["loss/distance"]] == list(range(3 * STEPS))
    assert [value for _, value in found["learning rate"]] == [pytest.approx(0.01)] * 3 * STEPS


def test_without_the_package_the_way_out_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ItmkitError, match=r"pip install 'itmkit\[tensorboard\]'"):
        train(workspace, configured(), tensorboard=True)

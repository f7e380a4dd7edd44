"""Training by a budget of core minutes: how many epochs fit into it, and what a run has spent.

A core minute is a minute of processor time: what all threads of all training processes computed, so that a run beside
other work is charged for its own alone. Where the model runs on a GPU, the GPU of each process counts as one core, by
the clock. Only training itself counts, from the first step to the last validation: taking steps, validating, saving
states, and reading batches where no `workers` do it. Waiting counts on a GPU only. Opening the caches and measuring the
speed do not count, and neither do processes that read ahead (`workers`).

The speed is measured once, before the first step. The number of epochs that follows from it is written into the run's
config.toml. From then on the run has a fixed number of epochs, and is resumed and repeated without measuring again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from itmkit.dataset import Dataset
from itmkit.machine.cores import core_seconds
from itmkit.progress import SILENT, Progress
from itmkit.runs.begin import has_learnt, with_precision
from itmkit.runs.settings import RunConfig, Training, read_config
from itmkit.training.estimate import Estimate, estimate
from itmkit.workspace import Workspace

STEPS = 12  # measured steps of each stage; the first of them does not count
TICK = 1e-6  # seconds, the least that an epoch is taken to need
ASKED = "asked_"  # prefix of the settings as they were before the budget changed them


class CoreClock:
    """Counts core minutes, lap by lap.

    Args:
        processes: how many train together; each is taken to spend as much as this one in the steps that all take.
    """

    def __init__(self, device: torch.device, processes: int = 1) -> None:
        self._device, self._processes, self._since = device, processes, core_seconds(device)

    def lap(self, *, alone: bool = False) -> float:
        """Core minutes since the last call, or since the clock was made.

        Args:
            alone: what this process did while the others waited for it, which costs nothing on the processor.
        """
        now = core_seconds(self._device)
        computing = 1 if alone and self._device.type == "cpu" else self._processes
        spent, self._since = (now - self._since) * computing / 60, now
        return spent


def fitted(config: RunConfig, epochs: int) -> RunConfig:
    """The same run with another number of epochs. Earlier stages and `decay_epoch` change in proportion.

    Stages are rounded up, so that none is lost. The learning rate falls as often as it would have, where there are
    epochs enough, and never more often: a run that ends before its fall is judged by a rate too high to settle.

    Args:
        epochs: the number of epochs of the last stage.
    """
    training, of = config.training, config.training.epochs

    def share(value: int) -> int:
        return -(-value * epochs // of)

    # A stage before the last has a setting of the method with its name: text_epochs of the stage "text".
    earlier = {f"{stage.name}_epochs": share(stage.epochs) for stage in config.stages[:-1]}
    return replace(
        config,
        matcher=replace(config.matcher, **earlier),
        training=replace(
            training, epochs=epochs, decay_epoch=_decay_epoch(share(training.decay_epoch), epochs, training)
        ),
    )


def _decay_epoch(share: int, epochs: int, of: Training) -> int:
    """The last epoch, up to a share of all, with which the rate falls as often as in `of`; without one, the share."""
    if not of.decay_epoch:
        return 0
    falls = (of.epochs - 1) // of.decay_epoch
    return next((last for last in range(share, 0, -1) if (epochs - 1) // last == falls), share)


def fit(config: RunConfig, found: Estimate) -> tuple[RunConfig, Estimate]:
    """The most epochs (at least one) that fit into the budget, and an estimate of what they take."""

    def minutes(epochs: int) -> float:
        # Where the clock ticks slowly, steps on little data may have taken no time at all.
        return max(found.for_stages(fitted(config, epochs).stages).core_seconds, epochs * TICK) / 60

    epochs = max(1, int(config.training.budget / minutes(1)))
    while minutes(epochs + 1) <= config.training.budget:  # shares of earlier stages, rounded up, count less and less
        epochs += 1
    while epochs > 1 and minutes(epochs) > config.training.budget:  # a first epoch on all negatives costs less
        epochs -= 1
    chosen = fitted(config, epochs)
    asked = {"epochs": config.training.epochs, "decay_epoch": config.training.decay_epoch}
    asked |= {f"{stage.name}_epochs": stage.epochs for stage in config.stages[:-1]}
    measured: dict[str, Any] = {
        "steps_an_epoch": found.steps,
        "step_core_seconds": [round(stage.core, 6) for stage in found.stages],
        "validation_core_seconds": round(found.validation_core, 6),
        "core_minutes": round(minutes(epochs), 6),
    }
    measured |= {f"{ASKED}{name}": value for name, value in asked.items()}
    return replace(chosen, measured=measured), found.for_stages(chosen.stages)


def asked_for(config: RunConfig) -> RunConfig:
    """The settings as they were before the budget changed them. Without a budget they are returned as they are."""
    before = {name.removeprefix(ASKED): value for name, value in config.measured.items() if name.startswith(ASKED)}
    training = {name: before.pop(name) for name in ("epochs", "decay_epoch") if name in before}
    return replace(
        config,
        matcher=replace(config.matcher, **before),
        training=replace(config.training, **training),
        measured={},
    )


def like(config: RunConfig, other: RunConfig) -> RunConfig:
    """The settings with the epochs of another run that has the same budget, so that a further seed is not measured.

    The other run may have been begun by an itmkit that let the rate fall after another epoch: that is kept too.
    """
    if not other.measured or config.training.budget != other.training.budget:
        return config
    found = replace(fitted(config, other.training.epochs), measured=other.measured)
    if config.training.decay_epoch != asked_for(other).training.decay_epoch:
        return found
    return replace(found, training=replace(found.training, decay_epoch=other.training.decay_epoch))


def within_budget(
    workspace: Workspace,
    config: RunConfig,
    folder: Path,
    device: torch.device,
    *,
    force: bool = False,
    dataset: Dataset | None = None,
    progress: Progress = SILENT,
) -> RunConfig:
    """The settings with the number of epochs that fits the budget: that of the run in `folder`, or a new measurement.

    A run that has saved nothing does not count: it may have had other settings, and steps of another speed. Without a
    budget, or where the number is settled already, the settings are returned as they are.
    """
    budget = config.training.budget
    if not budget or config.measured or not config.stages:
        return config
    if not force and has_learnt(folder):
        return like(config, read_config(folder / "config.toml"))
    config = with_precision(config, folder, device, force=force)
    found = estimate(workspace, config, run=folder.name, device=str(device), dataset=dataset, progress=progress)
    # One process was measured; all of them together share its work.
    chosen, takes = fit(config, found)
    epochs = sum(stage.epochs for stage in takes.stages)
    minutes = chosen.measured["core_minutes"]
    least = "one epoch" if epochs == 1 else "one epoch of the last stage"
    beyond = f": more than the budget, but less than {least} is no training" if minutes > budget else ""
    progress.note(
        f"--budget: {epochs} epoch{'s' * (epochs > 1)}, estimated to take {minutes:.3g} of {budget:g} core minutes"
        f"{beyond}"
    )
    return chosen

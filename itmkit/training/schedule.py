"""What changes from epoch to epoch: the stage, the learning rate, which negatives count."""

from __future__ import annotations

import math
from collections.abc import Sequence

from itmkit.matchers import Stage
from itmkit.matchers.parts.losses import Negatives
from itmkit.runs.settings import Training


def stage_of(stages: Sequence[Stage], epoch: int) -> tuple[Stage, int]:
    """The stage that an epoch (1..) belongs to, and its number within the stage (1..)."""
    for stage in stages:
        if epoch <= stage.epochs:
            return stage, epoch
        epoch -= stage.epochs
    raise ValueError("past the last epoch")


def negatives_of(settings: Training, epoch: int) -> Negatives:
    """Which negatives count in an epoch (1..): all of them while "hardest" warms up."""
    warming = settings.negatives == "hardest" and epoch <= settings.warmup_epochs
    return "all" if warming else settings.negatives


def learning_rate(settings: Training, epoch: int, step: int, *, epochs: int, steps: int) -> float:
    """The learning rate of a step (0..) of an epoch (1..) of a stage of `epochs` epochs of `steps` steps.

    Each stage begins with the full rate.
    """
    rate = settings.learning_rate
    done = (epoch - 1) * steps + step
    if settings.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * done / (epochs * steps))) / 2
    elif settings.schedule == "linear":
        rate *= 1 - done / (epochs * steps)
    elif settings.decay_epoch:
        rate *= settings.decay ** ((epoch - 1) // settings.decay_epoch)
    if settings.warmup_steps:
        rate *= min(1.0, (done + 1) / settings.warmup_steps)
    return rate

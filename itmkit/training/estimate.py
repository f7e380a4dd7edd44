"""`itmkit train --dry-run`: what a training will take, from a few of its steps."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs
from itmkit.machine.cores import core_seconds
from itmkit.machine.device import memory_for, usable_device
from itmkit.machine.memory import keep_freed_memory
from itmkit.matchers import Parameters, Stage, begin, build, count_parameters, method
from itmkit.matchers.parts.losses import Negatives
from itmkit.progress import SILENT, Progress
from itmkit.runs.begin import settled, training_vocabulary, with_precision
from itmkit.runs.settings import RunConfig
from itmkit.training.batches import batches_of
from itmkit.training.feeding import Feed
from itmkit.training.few_pairs import few_are_enough
from itmkit.training.rates import left_still
from itmkit.training.schedule import learning_rate, negatives_of
from itmkit.training.step import Learner, NotFinite
from itmkit.training.thinning import Thinning
from itmkit.training.validation import validate
from itmkit.workspace import Workspace

STEPS = 6  # measured steps of each stage; the first does not count
FLOAT32 = 4  # bytes
VALIDATED = 200  # how many images of val are scored, if there are that many


@dataclass(frozen=True)
class StageEstimate:
    name: str
    epochs: int
    step: float  # seconds, the median
    core: float  # core seconds of a step, the median: processor time, or that of a GPU
    waiting: float  # share of the time spent waiting for a batch
    pairs_per_second: float  # of a member
    # The first epochs may be on all negatives, whose steps take longer where the hardest let pairs out (`few_pairs`).
    warmup_epochs: int = 0
    warmup_step: float = 0.0  # seconds
    warmup_core: float = 0.0  # core seconds

    def step_of_each_epoch(self) -> tuple[float, float]:
        """Seconds and core seconds of one step of every epoch, added up."""
        warm = min(self.epochs, self.warmup_epochs)
        rest = self.epochs - warm
        return warm * self.warmup_step + rest * self.step, warm * self.warmup_core + rest * self.core


@dataclass(frozen=True)
class Estimate:
    device: str
    precision: str
    parameters: dict[str, Parameters]  # of each member
    steps: int  # of an epoch
    stages: list[StageEstimate]
    validation: float  # seconds, after each epoch of the last stage
    validation_core: float  # core seconds
    memory: int  # bytes: of the device, or of this process if it runs on the processor
    disk: int  # bytes of the run's folder while it trains: weights, best weights, moments

    @property
    def epoch(self) -> float:
        """Seconds of an epoch of the last stage, with its validation."""
        return self.steps * self.stages[-1].step + self.validation

    @property
    def seconds(self) -> float:
        """Seconds of the whole training."""
        learning = self.steps * sum(stage.step_of_each_epoch()[0] for stage in self.stages)
        return learning + self.stages[-1].epochs * self.validation

    @property
    def core_seconds(self) -> float:
        """Core seconds of the whole training."""
        learning = self.steps * sum(stage.step_of_each_epoch()[1] for stage in self.stages)
        return learning + self.stages[-1].epochs * self.validation_core

    def for_stages(self, stages: Sequence[Stage]) -> Estimate:
        """The same estimate for other numbers of epochs."""
        each = [replace(mine, epochs=stage.epochs) for mine, stage in zip(self.stages, stages, strict=True)]
        return replace(self, stages=each)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"epoch": self.epoch, "seconds": self.seconds}


@memory_for(
    "a step of this training", "lower --batch-size, raise --accumulate, or choose smaller settings of the method"
)
def estimate(
    workspace: Workspace,
    config: RunConfig,
    *,
    run: str | None = None,
    device: str | None = None,
    steps: int = STEPS,
    dataset: Dataset | None = None,
    progress: Progress = SILENT,
) -> Estimate:
    """Trains for a few steps of every stage, and scores some images of `val`. Writes nothing.

    The batch with the longest captions is among the steps, since it needs the most memory.

    Args:
        dataset: the workspace's data set, if it has been read already.

    Raises:
        ItmkitError: as `itmkit.training.train.train` does, and for a method that is not trained.
    """
    chosen = torch.device(usable_device(device))
    folder = workspace.run(run or config.method)
    dataset = dataset or workspace.dataset()
    config = with_precision(settled(workspace, config, folder, dataset), folder, chosen)
    if not config.stages:
        raise ItmkitError(f"--dry-run: {config.method} has nothing to train")
    needs, settings = method(config.method).needs(config.matcher), config.training
    vocabulary = training_vocabulary(workspace, dataset, config)
    training = Inputs(workspace, dataset.split("train"), vocabulary, needs)
    validation = Inputs(workspace, dataset.split("val"), vocabulary, needs)
    if chosen.type == "cpu":
        keep_freed_memory()
    members = build(config.method, config.matcher, sizes=training.sizes, seed=settings.seed)
    learner = Learner(members, settings, chosen)
    order = batches_of(training, settings, epoch=1)
    longest = max(range(len(order)), key=lambda number: int(training.lengths[order[number]].max()))
    some = [order[longest], *[order[number % len(order)] for number in range(steps - 1)]]
    stages = []
    with progress.task("trying", steps * len(config.stages) * (1 + _warms_up(learner)), unit="steps") as advance:
        for stage in config.stages:
            feed = Feed(
                training,
                workers=settings.workers,
                device=chosen,
                part=learner.part,
                global_negatives=False,
                thinning=Thinning.of(settings),
            )
            with closing(feed):
                stages.append(_try_stage(learner, stage, feed, some, len(order), advance))
    validating = _validation_seconds(learner, method(config.method).members(config.matcher), validation, settings)
    still = left_still(members, settings)
    counts = {name: count_parameters(matcher, config.stages, still) for name, matcher in members.items()}
    held = sum(value.nbytes for matcher in learner.modules.values() for value in matcher.state_dict().values())
    best = sum(value.nbytes for matcher in learner.kept.values() for value in matcher.state_dict().values())
    # Two of Adam for what has a gradient, also where its rate is 0.
    moments = 2 * FLOAT32 * sum(count_parameters(matcher, config.stages).trained for matcher in members.values())
    return Estimate(
        str(chosen), settings.precision, counts, len(order), stages, *validating, _peak(chosen), held + best + moments
    )


def _warms_up(learner: Learner) -> bool:
    """Whether the steps of a warm-up on all negatives take another time than those on the hardest."""
    warms_up = negatives_of(learner.settings, 1) != learner.settings.negatives
    return warms_up and any(few_are_enough(matcher, learner.device) for matcher in learner.members.values())


def _try_stage(
    learner: Learner, stage: Stage, feed: Feed, some: list[np.ndarray], steps: int, advance: Any
) -> StageEstimate:
    usual = _try(learner, stage, learner.settings.negatives, feed, some, steps, advance)
    if not _warms_up(learner):
        return usual
    first = _try(learner, stage, negatives_of(learner.settings, 1), feed, some, steps, advance)
    epochs = learner.settings.warmup_epochs
    return replace(usual, warmup_epochs=epochs, warmup_step=first.step, warmup_core=first.core)


def _try(
    learner: Learner,
    stage: Stage,
    negatives: Negatives,
    feed: Feed,
    some: list[np.ndarray],
    steps: int,
    advance: Any,
) -> StageEstimate:
    for matcher in learner.members.values():
        begin(matcher, stage.name)
    rate = learning_rate(learner.settings, 1, 0, epochs=stage.epochs, steps=steps)
    took, spent, waited, pairs = [], [], [], []
    coming, began, before = feed.batches(some), time.perf_counter(), core_seconds(learner.device)
    for number, batch in enumerate(coming):
        waited.append(time.perf_counter() - began)
        try:
            learner.step(batch, stage.name, negatives, rate, epoch=1, number=number, done=number)
        except NotFinite as error:
            raise ItmkitError(f"--dry-run: {error} at step {number}; lower --learning-rate") from None
        if learner.device.type == "cuda":
            torch.cuda.synchronize(learner.device)
        took.append(time.perf_counter() - began)
        spent.append(core_seconds(learner.device) - before)
        pairs.append(batch.pairs)
        advance(1)
        began, before = time.perf_counter(), core_seconds(learner.device)
    # The first step waits for the first batch, and everything is done for the first time.
    step = float(np.median(took[1:]))
    share = sum(waited[1:]) / sum(took[1:])
    core = float(np.median(spent[1:]))
    return StageEstimate(stage.name, stage.epochs, step, core, share, float(np.median(pairs[1:])) / step)


def _validation_seconds(
    learner: Learner, weights: dict[str, float], inputs: Inputs, settings: Any
) -> tuple[float, float]:
    """Seconds and core seconds to validate all images. Encoding grows with their number, comparing with its square."""
    count = min(settings.validation_images or len(inputs.images), len(inputs.images))
    some = min(count, VALIDATED)
    took, spent = [], []
    for images in (some, max(1, some // 2)):
        began, before = time.perf_counter(), core_seconds(learner.device)
        validate(learner.kept, weights, inputs, limit=images, device=learner.device)
        took.append(time.perf_counter() - began)
        spent.append(core_seconds(learner.device) - before)
    return _of_all(took[0], took[1], count / some), _of_all(spent[0], spent[1], count / some)


def _of_all(whole: float, half: float, times: float) -> float:
    """What `times` as many images take as those that took `whole`, half of which took `half`."""
    squared = min(max(2 * whole - 4 * half, 0.0), whole)  # what t = a n + b n^2 has of n^2
    return (whole - squared) * times + squared * times**2


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)

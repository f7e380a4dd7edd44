"""`itmkit train`: trains all members of a method on the same batches, with exact resume.

A run that is killed at any moment continues from its last saved state. It ends with the same weights, bit for bit, as
a run that was not killed: (seed, epoch) decides the order of the batches, (seed, step) the dropout of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from itmkit.cache import WHOLE, Part
from itmkit.dataset import Dataset
from itmkit.inputs import Inputs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.machine.device import usable_device
from itmkit.machine.stop import stopping
from itmkit.matchers import build, method
from itmkit.progress import SILENT, Progress
from itmkit.runs.begin import Plan, begin_run, plan_run, run_vocabulary
from itmkit.runs.facts import RunFacts
from itmkit.runs.place import Place, is_replacing, place_of
from itmkit.runs.settings import RunConfig
from itmkit.training.board import Board
from itmkit.training.budget import within_budget
from itmkit.training.loop import Loop
from itmkit.training.step import Learner
from itmkit.training.together import broadcast, processes
from itmkit.workspace import Workspace


@dataclass
class TrainResult:
    run: Path
    config: RunConfig
    epochs: int
    best: Mapping[str, Mapping[str, Any]]  # member -> {"epoch", "rsum"}
    did_nothing: bool = False
    core_minutes: float | None = None  # spent, see `itmkit.training.budget`; None of runs older than this figure


def train(
    workspace: Workspace,
    config: RunConfig,
    *,
    run: str | None = None,
    device: str | None = None,
    part: Part = WHOLE,
    force: bool = False,
    tensorboard: bool = False,
    dataset: Dataset | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Trains every member of a method; each keeps the weights of its own best epoch by validation rsum.

    Args:
        run: name of the folder under `runs/`; the method's name by default. A finished run is left as it is, an
            unfinished one continued.
        part: which of several processes this is (`itmkit.machine.processes.rank`). The first one writes and validates.
        force: begin anew.
        tensorboard: write curves for TensorBoard too, to `tensorboard` in the run's folder.
        dataset: the workspace's data set, if it has been read already.

    Raises:
        ItmkitError: missing or stale caches, a run with other settings or data, a collapse, a loss that is not finite.
        Stopped: by SIGINT or SIGTERM, with the state saved after the step under way.
    """
    chosen = torch.device(usable_device(device))
    folder = workspace.run(run or config.method)
    dataset = dataset or workspace.dataset()
    for split in ("train", "val"):
        dataset.split(split)
    with ExitStack() as held:
        place, begun = Place(folder), None
        if part.index == 0:  # before the processes meet: it takes steps of its own
            if is_replacing(folder):
                with place_of(folder, force=force):
                    pass
            ways: dict[str, Any] = {"processes": part.of, "force": force, "dataset": dataset, "progress": progress}
            config = within_budget(workspace, config, folder, chosen, **ways)
            plan = plan_run(workspace, dataset, config, folder, chosen, part, force=force)
            if not (plan.found and plan.found.finished):
                place, left = held.enter_context(place_of(folder, force=force))
                # Another process may have gone on with the run before it gave the lock back.
                plan = plan_run(workspace, dataset, config, folder, chosen, part, force=force)
                if left and plan.found:
                    progress.note(f"{folder}: {left} was killed; its work is continued")
            begun = plan, run_vocabulary(workspace, dataset, plan, folder)
        held.enter_context(processes(part, chosen))
        plan, vocabulary = broadcast(begun)
        config, found = plan.config, plan.found
        if found and found.finished:
            return TrainResult(folder, config, found.epochs_done, found.best, True, found.core_minutes)
        needs = method(config.method).needs(config.matcher)
        training = Inputs(workspace, dataset.split("train"), vocabulary, needs)
        validation = Inputs(workspace, dataset.split("val"), vocabulary, needs)
        members = build(config.method, config.matcher, sizes=training.sizes, seed=config.training.seed)
        facts = replace(plan.facts, sizes=asdict(training.sizes))
        learner = Learner(members, config.training, chosen, part)
        board = Board() if tensorboard and part.index == 0 else None
        # All is checked. What follows writes.
        if part.index == 0:
            _begin(place, plan, facts, vocabulary)
        if board:
            board.move(place.now / "tensorboard")
        loop = Loop(config, place, facts, learner, training, validation, board, progress)
        with stopping() as stop:
            state = loop.train(stop, continues=found is not None)
        return TrainResult(folder, config, state.epoch, state.best, core_minutes=round(state.core_minutes, 4))


def _begin(place: Place, plan: Plan, facts: RunFacts, vocabulary: Vocabulary | None) -> None:
    """Writes what a run has before its first step, where it does not continue one."""
    if plan.found:
        return
    if RunFacts.exist(place.folder):
        place.beside()
        begin_run(place.now, plan.config, vocabulary)
    else:
        begin_run(place.now, plan.config, vocabulary)
        facts.write(place.now)

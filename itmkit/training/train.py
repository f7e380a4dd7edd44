"""`itmkit train`: trains all members of a method on the same batches, with exact resume.

A run that is killed at any moment continues from its last saved state. It ends with the same weights, bit for bit, as
a run that was not killed: (seed, epoch) decides the order of the batches, (seed, step) the dropout of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from itmkit.cache import WHOLE, Part
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.files import digest
from itmkit.inputs import Inputs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.machine.device import memory_for, usable_device
from itmkit.machine.stop import stopping
from itmkit.matchers import build, method
from itmkit.progress import SILENT, Progress
from itmkit.runs.begin import Plan, begin_run, plan_run, training_words
from itmkit.runs.facts import VOCABULARY, RunFacts
from itmkit.runs.place import Place, is_replacing, place_of
from itmkit.runs.records import records
from itmkit.runs.settings import RunConfig
from itmkit.training.batches import batches_of
from itmkit.training.board import Board
from itmkit.training.budget import within_budget
from itmkit.training.epochs import Epochs
from itmkit.training.prospects import about_steps, about_words
from itmkit.training.step import Learner
from itmkit.training.together import broadcast, processes
from itmkit.training.word_vectors import FILE as VECTORS
from itmkit.training.word_vectors import WordVectors, read_word_vectors
from itmkit.workspace import Workspace


@dataclass
class TrainResult:
    run: Path
    config: RunConfig
    epochs: int
    best: Mapping[str, Mapping[str, Any]]  # member -> {"epoch", "rsum"}
    did_nothing: bool = False
    core_minutes: float | None = None  # spent, see `itmkit.training.budget`; None of runs older than this figure
    chance_rsum: float | None = None  # of random scores on the validation images; None of runs older than this figure


@memory_for(
    "this training",
    "lower --batch-size, raise --accumulate, or choose smaller settings of the method; --dry-run says what they take."
    " What was saved is kept",
)
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
        place = Place(folder)
        begun: tuple[Plan, Vocabulary | None] | None = None
        if part.index == 0:  # before the processes meet: it takes steps of its own
            if is_replacing(folder):
                with place_of(folder, force=force):
                    pass
            config = within_budget(workspace, config, folder, chosen, force=force, dataset=dataset, progress=progress)
            plan = plan_run(workspace, dataset, config, folder, chosen, part, force=force)
            if plan.found and plan.found.finished:
                begun = plan, None
            else:
                place, left = held.enter_context(place_of(folder, force=force))
                # Another process may have gone on with the run before it gave the lock back.
                plan = plan_run(workspace, dataset, config, folder, chosen, part, force=force)
                if left and plan.found:
                    progress.note(f"{folder}: {left} was killed; its work is continued")
                begun = plan, _vocabulary(workspace, dataset, plan, folder, progress)
        held.enter_context(processes(part, chosen))
        plan, vocabulary = broadcast(begun)
        if plan.found and plan.found.finished:
            return _finished(folder, plan.config, plan.found)
        needs = method(plan.config.method).needs(plan.config.matcher)
        inputs = {split: Inputs(workspace, dataset.split(split), vocabulary, needs) for split in ("train", "val")}
        board = Board() if tensorboard and part.index == 0 else None
        return _trained(workspace, plan, place, inputs, vocabulary, board, chosen, part, progress)


def _finished(folder: Path, config: RunConfig, found: RunFacts) -> TrainResult:
    chance: float | None = None
    with suppress(ItmkitError, IndexError):  # of a run without epochs, or damaged: it is only told less
        last = records(folder)[-1][1].get("chance_rsum")  # runs of older versions lack it
        chance = last if isinstance(last, float) else None
    return TrainResult(folder, config, found.epochs_done, found.best, True, found.core_minutes, chance)


def _trained(
    workspace: Workspace,
    plan: Plan,
    place: Place,
    inputs: Mapping[str, Inputs],
    vocabulary: Vocabulary | None,
    board: Board | None,
    device: torch.device,
    part: Part,
    progress: Progress,
) -> TrainResult:
    """Builds the model, begins the run where it does not continue one, and trains it to the end."""
    config, training = plan.config, inputs["train"]
    members = build(config.method, config.matcher, sizes=training.sizes, seed=config.training.seed)
    facts = replace(plan.facts, sizes=asdict(training.sizes))
    if plan.found:
        facts = replace(facts, id=plan.found.id, files=plan.found.files)
    state = place.folder / "last" / "state.safetensors"
    vectors = _word_vectors(plan, members, vocabulary, state, progress)
    learner = Learner(members, config.training, device, part)
    if part.index == 0 and not plan.found:  # all is checked: what follows writes
        steps = len(batches_of(training, config.training, 1))
        if note := about_steps(facts.epochs, steps):
            progress.note(note)
        facts = _begin(workspace, place, config, facts, vocabulary, vectors)
    if board:
        board.move(place.now / "tensorboard")
    under_way = Epochs(config, place, facts, learner, training, inputs["val"], board, progress)
    with closing(under_way.feed), stopping() as stop:
        end = under_way.train(stop, continues=plan.found is not None)
    spent = round(end.core_minutes, 4)
    return TrainResult(place.folder, config, end.epoch, end.best, False, spent, under_way.chance)


def _begin(
    workspace: Workspace,
    place: Place,
    config: RunConfig,
    facts: RunFacts,
    vocabulary: Vocabulary | None,
    vectors: WordVectors | None,
) -> RunFacts:
    """Writes what a run has before its first step: beside the run that is there, if there is one.

    Returns:
        The facts, with the digests of what was written.
    """
    replaces = RunFacts.exist(place.folder)
    if replaces:
        place.beside()
    facts = begin_run(workspace, place.now, facts, config, vocabulary)
    if vectors is not None:
        files = {**facts.files, VECTORS: vectors.digest}
        facts = replace(facts, files=files, id=digest({"run": facts.id, VECTORS: vectors.digest}))
    if not replaces:
        facts.write(place.now)
    return facts


def _word_vectors(
    plan: Plan, members: Mapping[str, nn.Module], vocabulary: Vocabulary | None, state: Path, progress: Progress
) -> WordVectors | None:
    """Gives the members the word vectors that they begin with, if a file of them is named.

    Args:
        state: the saved state of the run, which has all weights where it goes on.

    Returns:
        What was read; None where nothing had to be.
    """
    config = plan.config
    if not config.training.word_vectors or vocabulary is None or (plan.found and state.exists()):
        return None
    path = Path(config.training.word_vectors)
    vectors = read_word_vectors(path, vocabulary, config.matcher.word)
    if plan.found and plan.found.files.get(VECTORS, vectors.digest) != vectors.digest:
        raise ItmkitError(f"{path}: has changed since the run began; restore it, or train anew with --force")
    progress.note(vectors.note(path, vocabulary))
    vectors.give(members)
    return vectors


def _vocabulary(
    workspace: Workspace, dataset: Dataset, plan: Plan, folder: Path, progress: Progress
) -> Vocabulary | None:
    """The vocabulary of the run that is continued, or of the one that begins. None if the method uses none."""
    path = folder / VOCABULARY
    if plan.found and path.exists():
        return Vocabulary.read(path)
    counts, minimum = training_words(workspace, dataset, plan.config), plan.config.training.minimum_count
    if counts is None:
        return None
    vocabulary = Vocabulary.build(counts, minimum=minimum)
    if note := about_words(counts, vocabulary, minimum):
        progress.note(note)
    if plan.found:  # somebody removed it
        vocabulary.write(path)
        plan.found.check_files(folder, VOCABULARY)
    return vocabulary

"""`itmkit import-checkpoint`: published weights into a run that `evaluate`, `search` and `open_matcher` take."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from itmkit.cache.manifest import read_manifest
from itmkit.cache.name import PIECES_TEXT
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file, write_json
from itmkit.import_checkpoint.published import Form, Place
from itmkit.import_checkpoint.read import Checkpoint, read_checkpoint
from itmkit.import_checkpoint.recognise import understood
from itmkit.import_checkpoint.words import read_words
from itmkit.inputs import Inputs, Sizes
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import build, method
from itmkit.parse_text.wordpiece_backend import pieces_sha256
from itmkit.runs.begin import begin_run, facts_before, settled, with_precision
from itmkit.runs.checkpoint import save_weights
from itmkit.runs.facts import RunFacts
from itmkit.runs.place import IMPORTED, place_of
from itmkit.runs.settings import RunConfig, resolve
from itmkit.workspace import Workspace


@dataclass(frozen=True)
class ImportResult:
    """What was written.

    best_rsum: as the checkpoint says it, on the images and captions that it was validated on; 0 if it does not.
    pieces: its words are word pieces.
    """

    run: Path
    source: str
    method: str
    member: str
    words: int
    pieces: bool
    epoch: int
    best_rsum: float


def import_checkpoint(
    workspace: Workspace,
    file: Path,
    *,
    vocabulary: Path,
    wanted: str | None = None,
    run: str | None = None,
    force: bool = False,
) -> ImportResult:
    """Writes a finished run with the weights of a checkpoint.

    Args:
        vocabulary: the JSON file with the words, as the published code reads it; of a model with BERT its vocab.txt,
            or the folder with it.
        wanted: the method that the checkpoint has to be; None takes what it is.
        run: name of the run; the file's name by default.
        force: replace a run of this name.

    Raises:
        ItmkitError: the checkpoint or the vocabulary cannot be used (see `read_checkpoint`, `understood`,
            `read_words`); caches are missing, or hold features of another size; there is a run of this name.
    """
    checkpoint = read_checkpoint(file)
    form = understood(checkpoint, wanted)
    if form.bert and vocabulary.is_dir():
        vocabulary = vocabulary / "vocab.txt"
    words = read_words(vocabulary, form, checkpoint)
    folder = workspace.run(run or _usual_name(form))
    if RunFacts.exist(folder) and not force:
        raise ItmkitError(f"{folder}: there is a run of this name; choose another --run NAME, or --force to replace it")
    config, dataset = _config(form, checkpoint), workspace.dataset()
    config = with_precision(settled(workspace, config, folder, dataset), folder, torch.device("cpu"), force=force)
    inputs = Inputs(workspace, dataset.images, words, method(config.method).needs(config.matcher))
    _check_features(inputs, checkpoint, form)
    if form.bert:
        _check_pieces(workspace, words, vocabulary)
    sizes = replace(inputs.sizes, **form.bert)
    network = build(config.method, config.matcher, sizes=sizes, seed=0)[form.member]
    _fill(network, form, checkpoint)
    _write(workspace, folder, config, form, checkpoint, words, network, sizes, vocabulary)
    return ImportResult(
        folder,
        form.source,
        form.method,
        form.member,
        words=len(words),
        pieces=bool(form.bert),
        epoch=checkpoint.epoch,
        best_rsum=checkpoint.best_rsum,
    )


def _usual_name(form: Form) -> str:
    several = form.method in ("scan", "sgraf", "rcar")  # whose members are published one by one
    return f"published-{form.method}-{form.member}" if several else f"published-{form.method}"


def _config(form: Form, checkpoint: Checkpoint) -> RunConfig:
    """The settings of the run. Raises ItmkitError where a published one is out of range here."""
    try:
        return resolve(form.method, recipe="paper", settings=form.settings)
    except ItmkitError as error:
        raise ItmkitError([f"{checkpoint.path}: {problem}" for problem in error.problems]) from None


def _check_features(inputs: Inputs, checkpoint: Checkpoint, form: Form) -> None:
    project = next(key for key, place in form.places.items() if place == Place("regions.project.weight"))
    path, size = checkpoint.path, checkpoint.parts[project[0]][project[1]].shape[1]
    sizes, counts = inputs.sizes, inputs.region_counts
    problems = []
    if sizes.feature != size:
        problems.append(f"{path}: reads regions of {size} numbers, those of caches/regions have {sizes.feature}")
    if form.regions and (sizes.regions != form.regions or (counts is not None and (counts != form.regions).any())):
        problems.append(
            f"{path}: {form.source} normalises each of {form.regions} places by itself, so every image needs"
            f" {form.regions} regions in the published order; not all of caches/regions have them"
        )
    if problems:
        raise ItmkitError(problems)


def _check_pieces(workspace: Workspace, words: Vocabulary, vocabulary: Path) -> None:
    """Raises ItmkitError unless the captions were cut into pieces of this very vocabulary."""
    manifest = read_manifest(workspace.cache(PIECES_TEXT))
    if manifest is None or (manifest.made_by.model or {}).get("sha256") != pieces_sha256(words.words):
        raise ItmkitError(
            f"{workspace.cache(PIECES_TEXT)}: was cut with another vocabulary than {vocabulary}; run `itmkit parse-text"
            f" --parser wordpiece --model {shlex.quote(str(vocabulary))} --force`"
        )


@torch.no_grad()
def _fill(network: nn.Module, form: Form, checkpoint: Checkpoint) -> None:
    """Puts every published number in its place. Raises ItmkitError naming tensors of a wrong shape."""
    state = {key: value.clone() for key, value in network.state_dict().items()}
    problems, given = [], set()
    for (part, name), place in sorted(form.places.items(), key=lambda each: each[1] is not None and each[1].sign != 0):
        if place is None:
            continue
        value, target = checkpoint.parts[part][name], state[place.target]
        if value.shape != target.shape and not value.numel() == target.numel() == 1:
            shapes = f"{tuple(value.shape)}, {tuple(target.shape)} is needed"
            problems.append(f"{checkpoint.path}: {checkpoint.named(part, name)} has the shape {shapes}")
            continue
        value = value.reshape(target.shape).to(target.dtype)
        state[place.target] = value if place.sign == 0 else target + place.sign * value
        given.add(place.target)
    if problems:
        raise ItmkitError(problems[:10])
    assert given == state.keys(), sorted(state.keys() - given)  # else a number would stay as it began
    network.load_state_dict(state)


def _write(
    workspace: Workspace,
    folder: Path,
    config: RunConfig,
    form: Form,
    checkpoint: Checkpoint,
    words: Vocabulary,
    network: nn.Module,
    sizes: Sizes,
    vocabulary: Path,
) -> None:
    epoch, rsum = checkpoint.epoch, checkpoint.best_rsum
    with place_of(folder, force=True) as (place, _):
        facts = facts_before(workspace, workspace.dataset(), config)
        if RunFacts.exist(folder):
            place.beside()
        facts = begin_run(workspace, place.now, facts, config, words)
        origin = {
            "source": form.source,
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": sha256_file(checkpoint.path),
            "vocabulary": vocabulary.name,
            "vocabulary_sha256": sha256_file(vocabulary),
            "epoch": epoch,
            "best_rsum": rsum,
        }
        write_json(place.now / IMPORTED, origin)
        said = {"run": facts.id, "member": form.member, "epoch": epoch, "rsum": rsum}
        save_weights(place.now / f"best-{form.member}.safetensors", network, said)
        best: Any = {form.member: {"epoch": epoch, "rsum": rsum}}
        replace(
            facts, sizes=asdict(sizes), epochs=max(epoch, 1), epochs_done=max(epoch, 1), best=best, finished=True
        ).write(place.now)
        place.settle()

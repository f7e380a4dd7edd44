"""Opens a trained run for scoring: one of this workspace, or one of another workspace to try on this data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from itmkit.cache.manifest import read_manifest
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError, first_line
from itmkit.files import atomic_path, sha256_file
from itmkit.inputs import Needs, Sizes
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import build, method
from itmkit.runs.checkpoint import load_weights
from itmkit.runs.facts import CONFIG, FILE, VOCABULARY, RunFacts, find_run, no_such_run, run_names
from itmkit.runs.made import made_in_training, made_otherwise
from itmkit.runs.place import IMPORTED
from itmkit.runs.settings import RunConfig, read_config
from itmkit.stages import require
from itmkit.workspace import Workspace

# Sizes that inputs may have otherwise than a run, or do not have at all.
NOT_OF_CACHES = ("regions", "bert_layers", "bert_width", "bert_hidden")
FROM = "from.txt"  # beside the results of a run from elsewhere: its place


@dataclass(frozen=True)
class Run:
    """A trained run, opened: its best weights per member, and what it reads."""

    name: str
    folder: Path  # where results go
    members: dict[str, torch.nn.Module]
    weights: dict[str, float]  # of the members, in the mean of their scores
    vocabulary: Vocabulary | None
    needs: Needs
    sizes: Sizes
    method: str
    made_from: dict[str, str]  # digests of weights and caches
    imported: bool  # published weights, which score as published
    notes: tuple[str, ...] = ()
    origin: Path | None = None  # of a run from elsewhere: its own folder

    def take_place(self) -> None:
        """Marks the place of results as that of this run, so that another one of its name gets another place."""
        if self.origin is not None:
            with atomic_path(self.folder / FROM) as partial:
                partial.write_bytes(os.fsencode(self.origin))

    def check_sizes(self, found: Sizes) -> None:
        """Raises ItmkitError if inputs have other sizes than in training. Only the number of regions may differ."""
        mine, yours = asdict(self.sizes), asdict(found)
        problems = [
            f"--run {self.name}: {name.replace('_', ' ')} was {mine[name]} in training, is {yours[name]} here"
            for name in mine
            if name not in NOT_OF_CACHES and mine[name] != yours[name]
        ]
        if problems:
            raise ItmkitError([*problems, "features and word vectors must come from the same models as in training"])


def open_run(
    workspace: Workspace,
    name: str,
    *,
    device: torch.device,
    dataset: Dataset | None = None,
    taken: Collection[Path] = (),
) -> Run:
    """Loads the best weights of every member of a run.

    Args:
        name: a run of this workspace, or the path of a run's folder in another one or of an export. A run from
            elsewhere reads the caches of this workspace, and its results go to `transfer/` here.
        dataset: the workspace's data set, if it has been read already.
        taken: where the results of other runs go, and those of this one therefore must not.

    Raises:
        ItmkitError: there is no such run, it has no weights yet, or the caches are not those it was trained on.
    """
    folder = find_run(workspace, name)
    if folder is None:
        workspace.run(name)  # a name that no run can have is told as that
        raise no_such_run(workspace, name)
    foreign = Path(name).name != name or folder != workspace.run(name)
    facts = RunFacts.read(folder)
    facts.check_files(folder, CONFIG, VOCABULARY)
    config = read_config(folder / CONFIG)
    module = method(config.method)
    needs = module.needs(config.matcher).of_scores
    require(workspace, *needs.caches, dataset=dataset)
    notes: tuple[str, ...] = ()
    if foreign:
        name, out = _transferred(workspace, folder, taken)
        mine = {cache: value for cache, value in facts.caches.items() if cache in needs.caches}
        notes = tuple(_differences(workspace, folder, mine))
    else:
        out = folder
        changed = [cache for cache, value in facts.caches.items() if workspace.fingerprint(cache) != value]
        if changed:
            raise ItmkitError(
                f"--run {name}: trained on other caches ({', '.join(changed)} changed since); train it anew with"
                " --force"
            )
    vocabulary = Vocabulary.read(folder / VOCABULARY) if needs.words else None
    sizes, members = read_members(folder, config, facts, device)
    read = [cache for cache in facts.caches if cache in needs.caches]
    made_from = {cache: workspace.fingerprint(cache) for cache in read}
    made_from |= {f"weights of {member}": sha256_file(folder / f"best-{member}.safetensors") for member in members}
    weights: dict[str, float] = module.members(config.matcher)
    imported, origin = (folder / IMPORTED).is_file(), folder if foreign else None
    return Run(name, out, members, weights, vocabulary, needs, sizes, config.method, made_from, imported, notes, origin)


def _transferred(workspace: Workspace, folder: Path, taken: Collection[Path]) -> tuple[str, Path]:
    """What a run from elsewhere is called here, and where its results go.

    Both have a digest of its place too, if a run of this workspace or another run from elsewhere has the name already.
    """
    # WORKSPACE/runs/NAME, or an export, which lies anywhere
    parts = (folder.parent.parent.name, folder.name) if folder.parent.name == "runs" else (folder.name,)
    name, out = "/".join(parts), workspace.root / "transfer" / "-".join(parts)
    of_another = (out / FROM).is_file() and (out / FROM).read_bytes() != os.fsencode(folder)
    if of_another or out in taken or name in run_names(workspace):
        mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
        return f"{name}-{mark}", out.with_name(f"{out.name}-{mark}")
    return name, out


def read_members(
    folder: Path, config: RunConfig, facts: RunFacts, device: torch.device
) -> tuple[Sizes, dict[str, torch.nn.Module]]:
    """The sizes of the inputs of a run, and its members with the weights that they have kept.

    Raises:
        ItmkitError: weights that are missing, damaged or of another run, or sizes of which no model can be built.
    """
    unknown = facts.sizes.keys() - {one.name for one in fields(Sizes)}
    if unknown:
        raise ItmkitError(f"{folder / FILE}: sizes: {', '.join(sorted(unknown))[:60]}: no such size")
    sizes = Sizes(**facts.sizes)
    members = _built(folder, config, sizes)
    for member, matcher in members.items():
        path = folder / f"best-{member}.safetensors"
        _check_weights(path, load_weights(path, matcher), member, facts)
        matcher.to(device)
    return sizes, members


def _built(folder: Path, config: RunConfig, sizes: Sizes) -> dict[str, torch.nn.Module]:
    try:
        return build(config.method, config.matcher, sizes=sizes, seed=config.training.seed)
    except (RuntimeError, MemoryError, OverflowError, TypeError, IndexError, ValueError) as error:
        raise ItmkitError(f"{folder}: a model of these sizes cannot be built ({first_line(error)})") from None


def _check_weights(path: Path, found: Mapping[str, Any], member: str, facts: RunFacts) -> None:
    """Raises ItmkitError unless these are the weights that run.json speaks of, or those of a later epoch.

    Weights are written before run.json, so a kill may leave those of an epoch that run.json does not know yet.
    """
    best = facts.best.get(member)
    why = ""
    if found.get("run", facts.id) != facts.id:
        why = "are those of another run"
    elif found.get("member", member) != member:
        why = f"are those of the member {found['member']!r}"
    elif best is not None and isinstance(found.get("epoch"), int):
        same = found["epoch"] == best["epoch"]
        if found["epoch"] < best["epoch"] or (same and found.get("rsum", best["rsum"]) != best["rsum"]):
            why = f"are of epoch {found['epoch']} with rsum {found.get('rsum')}, run.json says {dict(best)}"
    if why:
        raise ItmkitError(f"{path}: these weights {why}; restore them, or train the run anew with --force")


def _differences(workspace: Workspace, run: Path, caches: Mapping[str, str]) -> list[str]:
    """How the caches of a workspace differ from those that the run was trained on in the way they were made."""
    notes = []
    for cache, fingerprint in caches.items():
        here = read_manifest(workspace.cache(cache))
        try:
            training = made_in_training(run, cache, fingerprint)
        except ItmkitError:
            notes.append(f"{cache}: not known how that of training was made; {run} no longer says")
            continue
        other = made_otherwise(training, here) if here is not None else []
        notes += [f"{cache}: made otherwise than in training: {line}" for line in other]
    return notes

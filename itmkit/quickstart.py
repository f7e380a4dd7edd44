"""`itmkit quickstart`: every stage once, on drawn scenes, ending in one table and a few retrieved captions.

It is the pipeline as a program: read `quickstart` from top to bottom to see which function does what.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from itmkit.cache import CacheReader
from itmkit.cache.begin import begun_manifest
from itmkit.datasets.prepared import prepare_scenes
from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.evaluation.protocols import protocol
from itmkit.evaluation.results import Evaluation, EvaluationRow
from itmkit.graphs import build_graphs
from itmkit.inputs import Inputs
from itmkit.job import Job
from itmkit.parse_text.parse import parse_text
from itmkit.progress import SILENT, Progress
from itmkit.regions.extract import extract_regions
from itmkit.runs.facts import RunFacts
from itmkit.runs.open import open_run
from itmkit.runs.settings import resolve
from itmkit.scenes import make_scenes
from itmkit.scoring.matrix import ensemble_of, score_matrix
from itmkit.scoring.metrics import Direction, Retrieval
from itmkit.training.train import train
from itmkit.typed import sealed, write_sealed
from itmkit.workspace import Workspace

# Sizes that two cores finish in a few minutes. Scenes have 3 to 7 objects, so 12 boxes hold nearly all of them.
SCENES = {"train": 1000, "val": 100, "test": 300}
REGIONS = 12
METHODS = {"mpsm": "scenes", "vsepp": "scenes"}  # method -> recipe
RESULT = "quickstart.json"  # in the workspace: what the last call found, and the runs it found it with


@dataclass(frozen=True)
class Example:
    """One query and what was found for it, best first; `right` says which of them belong to the query."""

    direction: str  # "i2t" or "t2i"
    query: str
    found: list[str]
    right: list[bool]


@dataclass
class Quickstart:
    evaluation: Evaluation
    gain: float  # rsum of MPSM (both members) over VSE++
    examples: list[Example]
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        examples = [asdict(example) for example in self.examples]
        return self.evaluation.to_json() | {"gain": self.gain, "seconds": self.seconds, "examples": examples}


def quickstart(workspace: Workspace, *, seed: int = 0, force: bool = False, progress: Progress = SILENT) -> Quickstart:
    """Makes scenes, detects objects, parses captions, builds graphs, trains MPSM and VSE++ and compares them.

    Each stage continues what an earlier, killed call left. What is done already is not done again.

    Args:
        seed: of the scenes, the initial weights and the order of training.
        force: do every stage anew.

    Raises:
        ItmkitError: another data set is there, or scenes of other counts or another seed, and there is no `force`.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(stage: str) -> Any:
        began = time.perf_counter()
        yield
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began

    with timed("prepare"):
        _prepare(workspace, seed, force, progress)
    job = Job(force=force, progress=progress)
    with timed("extract-regions"):
        # Of a finished cache nothing is asked, so that the detector is not loaded to look at its weights.
        begun = begun_manifest(workspace.cache("regions"))
        known = begun is not None and begun.made_by.settings.get("regions") == REGIONS and not force
        extract_regions(workspace, regions=None if known else REGIONS, job=job)
    with timed("parse-text"):
        parse_text(workspace, job=job)
    with timed("build-graphs"):
        build_graphs(workspace, force=force, progress=progress)
    for method, recipe in METHODS.items():
        with timed(f"train {method}"):
            config = resolve(method, recipe=recipe, settings={"seed": seed})
            train(workspace, config, force=force, progress=progress)
    with timed("evaluate"):
        found = None if force else _found_before(workspace)
        if found is None:
            result = evaluate(workspace, list(METHODS), split="test", progress=progress)
            by_name = {row.name: row.result.rsum for row in result.rows}
            found = Quickstart(result, by_name["mpsm"] - by_name["vsepp"], retrieve(workspace, "mpsm"))
            write_sealed(workspace.root / RESULT, {"runs": _runs(workspace), **found.to_json()})
    found.seconds = seconds
    return found


def _prepare(workspace: Workspace, seed: int, force: bool, progress: Progress) -> None:
    """Makes the scenes of this seed; of those that are there, pictures that are missing or cut short are drawn anew."""
    with workspace.preparing():
        prepared = prepare_scenes(workspace, **SCENES, seed=seed, force=force, progress=progress)
        if prepared.unchanged and not _has_pictures(workspace):
            make_scenes(workspace, **SCENES, seed=seed, progress=progress)


def _has_pictures(workspace: Workspace) -> bool:
    """Whether every picture of the data set is there with its size in bytes."""
    files = {workspace.image_path(str(image.file)): image.bytes for image in workspace.dataset().images}
    return all(file.is_file() and file.stat().st_size == size for file, size in files.items())


def _runs(workspace: Workspace) -> dict[str, Any]:
    return {method: RunFacts.read(workspace.run(method)).to_json() for method in METHODS}


def _found_before(workspace: Workspace) -> Quickstart | None:
    """What an earlier call found with the very runs that are there now; None if there is no such call."""
    path = workspace.root / RESULT
    if not path.exists():
        return None
    try:
        known = sealed(path, "it is made anew")
    except ItmkitError:
        return None
    if not isinstance(known, dict) or known.get("runs") != _runs(workspace):
        return None
    rows = [EvaluationRow(row["name"], row["kind"], _retrieval(row)) for row in known["results"]]
    numbers = (known["images"], known["captions"], known["left_out"], known["chance_rsum"], known["precision"])
    evaluation = Evaluation(protocol(known["split"]), rows, *numbers)
    return Quickstart(evaluation, known["gain"], [Example(**example) for example in known["examples"]])


def _retrieval(row: dict[str, Any]) -> Retrieval:
    names = ("R@1", "R@5", "R@10", "medr", "meanr")
    i2t, t2i = (Direction(*(row[side][name] for name in names)) for side in ("i2t", "t2i"))
    return Retrieval(i2t, t2i, row["images"], row["captions"])


def retrieve(workspace: Workspace, run: str, *, queries: int = 2, top: int = 3) -> list[Example]:
    """The best answers of a run for the first test pictures and captions, in words."""
    opened = open_run(workspace, run, device=torch.device("cpu"))
    inputs = Inputs(workspace, workspace.dataset().split("test"), opened.vocabulary, opened.needs)
    scores = ensemble_of(score_matrix(opened.members, inputs), opened.weights)
    described = [_in_words(inputs, workspace, image) for image in range(len(inputs.images))]
    examples = []
    for image in range(queries):
        best = np.argsort(-scores[image], kind="stable")[:top]
        texts = [inputs.caption_texts[t] for t in best]
        examples.append(Example("i2t", described[image], texts, [int(inputs.image_of[t]) == image for t in best]))
    for text in range(len(inputs.caption_texts) - 1, len(inputs.caption_texts) - 1 - queries, -1):
        best = np.argsort(-scores[:, text], kind="stable")[:top]
        names = [described[i] for i in best]
        right = [int(inputs.image_of[text]) == int(i) for i in best]
        examples.append(Example("t2i", inputs.caption_texts[text], names, right))
    return examples


def _in_words(inputs: Inputs, workspace: Workspace, image: int) -> str:
    """A picture by its id and the three objects its detector was surest of, such as `scene-200000 (red car, ...)`."""
    regions = CacheReader.open(workspace.cache("regions"))
    row = regions.rows([inputs.images[image].id])
    tags, colours = regions.tables["tags"], regions.tables["attributes"]
    names: list[str] = []
    for tag, colour in zip(regions.read("tags", row)[0], regions.read("attributes", row)[0], strict=True):
        name = f"{colours[colour]} {tags[tag]}" if colour >= 0 else tags[tag]
        if tag >= 0 and name not in names:
            names.append(name)
    return f"{inputs.images[image].id} ({', '.join(names[:4])}, ...)"

"""`itmkit evaluate`: the figures of one run, or of several averaged, on a split or protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itmkit.errors import ItmkitError
from itmkit.evaluation.metrics import Retrieval, chance, mean_over, retrieval
from itmkit.evaluation.protocols import Protocol, folds_of, images_of, protocol
from itmkit.files import read_json, write_json
from itmkit.inputs import Inputs, Needs, Sizes
from itmkit.matchers import build, method
from itmkit.progress import SILENT, Progress
from itmkit.scoring.blocks import ensemble_of, score_matrix
from itmkit.text.vocabulary import Vocabulary
from itmkit.training.checkpoint import load_weights
from itmkit.training.settings import read_config
from itmkit.workspace import Workspace


@dataclass(frozen=True)
class Row:
    """One line of the table: a member of a run, or the mean of several score matrices."""

    name: str
    kind: str  # "single", or "ensemble of N"
    result: Retrieval


@dataclass(frozen=True)
class Evaluation:
    protocol: Protocol
    rows: list[Row]
    images: int
    captions: int
    left_out: int  # images of the split without features
    chance_rsum: float

    def to_json(self) -> dict[str, Any]:
        facts = {"split": self.protocol.name, "folds": self.protocol.folds, "left_out": self.left_out}
        facts |= {"images": self.images, "captions": self.captions, "chance_rsum": self.chance_rsum}
        return {**facts, "results": [{"name": r.name, "kind": r.kind, **r.result.to_json()} for r in self.rows]}


@dataclass(frozen=True)
class Run:
    """A trained run, opened: its best weights per member, and what it reads."""

    name: str
    members: dict[str, torch.nn.Module]
    weights: dict[str, float]  # of the members, in the mean of their scores
    vocabulary: Vocabulary | None
    needs: Needs
    method: str


def open_run(workspace: Workspace, name: str, *, device: torch.device) -> Run:
    """Loads the best weights of every member of a run.

    Raises:
        ItmkitError: no such run, no weights yet, or the caches are not those it was trained on.
    """
    folder = workspace.run(name)
    if not (folder / "run.json").exists():
        have = sorted(path.parent.name for path in (workspace.root / "runs").glob("*/run.json"))
        raise ItmkitError(f"--run {name}: no such run; there are {', '.join(have) or 'none: run `itmkit train` first'}")
    config, facts = read_config(folder / "config.toml"), read_json(folder / "run.json")
    module = method(config.method)
    needs = module.needs(config.matcher)
    workspace.require(*needs.caches)
    changed = [cache for cache, value in facts["caches"].items() if workspace.fingerprint(cache) != value]
    if changed:
        raise ItmkitError(
            f"--run {name}: trained on other caches ({', '.join(changed)} changed since); train it anew with --force"
        )
    vocabulary = Vocabulary.read(folder / "vocabulary.json") if needs.words else None
    members = build(config.method, config.matcher, sizes=Sizes(**facts["sizes"]), seed=config.training.seed)
    for member, matcher in members.items():
        load_weights(folder / f"best-{member}.safetensors", matcher)
        matcher.to(device)
    return Run(name, members, module.members(config.matcher), vocabulary, needs, config.method)


def evaluate(
    workspace: Workspace,
    runs: Sequence[str],
    *,
    split: str = "test",
    device: str | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Scores a split with every member of every run.

    The table has a row per member ("single"), one per run of several members ("ensemble"), and, given several
    runs, one for the mean of all runs' score matrices. A run's result is also written to `eval-<split>.json`.
    """
    if not runs:
        raise ItmkitError("no run named; --run NAME says which to evaluate")
    twice = sorted({name for name in runs if list(runs).count(name) > 1})
    if twice:
        raise ItmkitError(f"--run {', '.join(twice)}: named twice; an ensemble needs different runs")
    chosen = protocol(split)
    records = images_of(chosen, workspace.dataset())
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    opened = [open_run(workspace, name, device=where) for name in runs]

    per_row: dict[str, tuple[str, list[Retrieval]]] = {}
    first: Inputs | None = None
    all_inputs = [Inputs(workspace, records, run.vocabulary, run.needs) for run in opened]
    first = all_inputs[0]
    for fold in folds_of(chosen, len(first.images)):
        texts = np.flatnonzero(np.isin(first.image_of, fold))
        image_of = np.searchsorted(fold, first.image_of[texts])
        totals = []
        for run, inputs in zip(opened, all_inputs, strict=True):
            scores = score_matrix(run.members, inputs, images=fold, texts=texts, device=where, progress=progress)
            for member, matrix in scores.items():
                name = f"{run.name}/{member}" if len(scores) > 1 else run.name
                per_row.setdefault(name, ("single", []))[1].append(retrieval(matrix, image_of))
            mean = ensemble_of(scores, run.weights)
            if len(scores) > 1:
                kind = f"ensemble of {len(scores)}"
                per_row.setdefault(run.name, (kind, []))[1].append(retrieval(mean, image_of))
            totals.append(mean)
        if len(totals) > 1:
            kind = f"ensemble of {sum(len(run.members) for run in opened)}"
            mean = np.mean(totals, axis=0)
            per_row.setdefault(" + ".join(runs), (kind, []))[1].append(retrieval(mean, image_of))
    rows = [Row(name, kind, mean_over(folds)) for name, (kind, folds) in per_row.items()]
    images, captions = len(first.images), len(first.caption_texts)
    expected = chance(images // chosen.folds, captions / images)
    result = Evaluation(chosen, rows, images, captions, first.left_out, expected)
    for run in opened:
        mine = [row for row in rows if row.name == run.name or row.name.startswith(f"{run.name}/")]
        alone = Evaluation(chosen, mine, images, captions, first.left_out, expected)
        write_json(result_path(workspace, run.name, split), alone.to_json())
    if len(opened) > 1:
        write_json(result_path(workspace, opened[0].name, split, together=runs), result.to_json())
    return result


def result_path(workspace: Workspace, run: str, split: str, together: Sequence[str] = ()) -> Path:
    suffix = "".join(f"+{name}" for name in together[1:])
    return workspace.run(run) / f"eval-{split}{suffix}.json"

"""`itmkit evaluate`: the figures of one run, or of several averaged, on a split or protocol."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itmkit.cache import WHOLE, Part
from itmkit.errors import ItmkitError
from itmkit.evaluation.metrics import Retrieval, chance, mean_over, retrieval
from itmkit.evaluation.protocols import Protocol, folds_of, images_of, protocol
from itmkit.files import digest, read_json, sha256_file, write_json
from itmkit.inputs import Inputs, Needs, Sizes
from itmkit.matchers import build, method
from itmkit.precision import Precision, precision_of
from itmkit.progress import SILENT, Progress
from itmkit.ranks import merge_when_done
from itmkit.scoring.engine import MEMORY, score_to_disk
from itmkit.scoring.stored import Chosen, Kept, Mean, ScoreFile, Scores, save_scores
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
    precision: str  # of the products that the scores come from; "" where they come from files

    def to_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"split": self.protocol.name, "folds": self.protocol.folds, "left_out": self.left_out}
        if self.precision:
            facts["precision"] = self.precision
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
    made_from: dict[str, str]  # digests of weights and caches


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
    made_from = dict(facts["caches"]) | {"captions": facts["captions"]}
    made_from |= {f"weights of {member}": sha256_file(folder / f"best-{member}.safetensors") for member in members}
    return Run(name, members, module.members(config.matcher), vocabulary, needs, config.method, made_from)


def evaluate(
    workspace: Workspace,
    runs: Sequence[str],
    *,
    split: str = "test",
    device: str | None = None,
    memory: int = MEMORY,
    precision: Precision = "auto",
    save: Path | None = None,
    part: Part = WHOLE,
    progress: Progress = SILENT,
) -> Evaluation:
    """Scores a split with every member of every run.

    The table has a row per member ("single"), one per run of several members ("ensemble"), and, given several
    runs, one for the mean of all runs' score matrices. A run's result is also written to `eval-<split>.json`.

    Finished rows of the score matrices lie in `runs/<name>/scores-<split>` until the result is written, so that a
    killed evaluation continues.

    Args:
        memory: bytes the process should stay under.
        precision: of products of matrices; "auto" is bfloat16 where the hardware has it, else float32.
        save: a file for the score matrix, the mean of all members and runs; see `itmkit.scoring.stored`.
        part: which rows to score, where several ranks share the work. The first one waits for the others and has
            the result; that of the others has no rows.
    """
    if not runs:
        raise ItmkitError("no run named; --run NAME says which to evaluate")
    twice = sorted({name for name in runs if list(runs).count(name) > 1})
    if twice:
        raise ItmkitError(f"--run {', '.join(twice)}: named twice; an ensemble needs different runs")
    chosen = protocol(split)
    _check_save(save, chosen)
    records = images_of(chosen, workspace.dataset())
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    in_precision = precision_of(precision, where)
    opened = [open_run(workspace, name, device=where) for name in runs]
    all_inputs = [Inputs(workspace, records, run.vocabulary, run.needs) for run in opened]
    first = all_inputs[0]
    if any([i.id for i in inputs.images] != [i.id for i in first.images] for inputs in all_inputs):
        raise ItmkitError("the runs read caches with different pictures left out; their scores do not fit together")
    table = _Table()
    for number, fold in enumerate(folds_of(chosen, len(first.images))):
        texts = np.flatnonzero(np.isin(first.image_of, fold))
        image_of = np.searchsorted(fold, first.image_of[texts])
        totals: list[Scores] = []
        for run, inputs in zip(opened, all_inputs, strict=True):
            folder = _scores_folder(workspace, run.name, split) / str(number)
            score_to_disk(
                run.members,
                inputs,
                folder,
                made_from=run.made_from | {"order": _order_digest(inputs, fold, texts)},
                images=fold,
                texts=texts,
                device=where,
                memory=memory,
                part=part,
                precision=in_precision,
                progress=progress,
            )
            if part.index:
                continue
            if part != WHOLE:
                for member in run.members:
                    merge_when_done(folder / member)
            kept = {member: Kept(folder / member) for member in run.members}
            if len(kept) > 1:
                for member, scores in kept.items():
                    table.add(f"{run.name}/{member}", "single", retrieval(scores, image_of))
            mean = Mean(list(kept.values()), [run.weights[member] for member in kept])
            kind = f"ensemble of {len(kept)}" if len(kept) > 1 else "single"
            table.add(run.name, kind, retrieval(mean, image_of))
            totals.append(mean)
        if part.index:
            continue
        together = Mean(totals, [1.0] * len(totals))
        if len(totals) > 1:
            kind = f"ensemble of {sum(len(run.members) for run in opened)}"
            table.add(" + ".join(runs), kind, retrieval(together, image_of))
        if save is not None:
            _save(save, together, first, " + ".join(runs))
    result = table.summary(chosen, len(first.images), len(first.caption_texts), first.left_out, in_precision)
    if part.index:
        return result
    for run in opened:
        mine = [row for row in result.rows if row.name == run.name or row.name.startswith(f"{run.name}/")]
        write_json(result_path(workspace, run.name, split), replace(result, rows=mine).to_json())
    if len(opened) > 1:
        write_json(result_path(workspace, opened[0].name, split, together=runs), result.to_json())
    for run in opened:
        shutil.rmtree(_scores_folder(workspace, run.name, split), ignore_errors=True)
    return result


def evaluate_files(
    workspace: Workspace, files: Sequence[Path], *, split: str = "test", save: Path | None = None
) -> Evaluation:
    """The same of score matrices on disk (`--save-scores`), and of their mean where there are several.

    Raises:
        ItmkitError: a file that holds no scores, or not those of every image and caption of the split.
    """
    chosen = protocol(split)
    _check_save(save, chosen)
    records = images_of(chosen, workspace.dataset())
    stored = [ScoreFile(path) for path in files]
    has = set.intersection(*(set(one.images) for one in stored))
    images = [image for image in records if image.id in has]
    if not images:
        raise ItmkitError(f"{files[0]}: has scores of none of the {len(records)} images of split {chosen.split!r}")
    captions = [caption.id for image in images for caption in image.captions]
    image_of = np.repeat(np.arange(len(images)), [len(image.captions) for image in images])
    whole = [one.places([image.id for image in images], captions) for one in stored]
    table = _Table()
    for fold in folds_of(chosen, len(images)):
        texts = np.flatnonzero(np.isin(image_of, fold))
        owners = np.searchsorted(fold, image_of[texts])
        parts = [Chosen(one.whole, one.rows[fold], one.columns[texts]) for one in whole]
        for path, scores in zip(files, parts, strict=True):
            table.add(str(path), "scores of a file", retrieval(scores, owners))
        together = Mean(parts, [1.0] * len(parts))
        if len(parts) > 1:
            table.add(" + ".join(map(str, files)), f"mean of {len(parts)} files", retrieval(together, owners))
        if save is not None:
            save_scores(save, together, [i.id for i in images], captions, " + ".join(map(str, files)))
    return table.summary(chosen, len(images), len(captions), len(records) - len(images))


class _Table:
    """Rows of an evaluation, fold by fold."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, list[Retrieval]]] = {}

    def add(self, name: str, kind: str, result: Retrieval) -> None:
        self._rows.setdefault(name, (kind, []))[1].append(result)

    def summary(self, chosen: Protocol, images: int, captions: int, left_out: int, precision: str = "") -> Evaluation:
        rows = [Row(name, kind, mean_over(folds)) for name, (kind, folds) in self._rows.items()]
        expected = chance(images // chosen.folds, captions / images)
        return Evaluation(chosen, rows, images, captions, left_out, expected, precision)


def _check_save(save: Path | None, chosen: Protocol) -> None:
    if save is not None and chosen.folds > 1:
        raise ItmkitError(
            f"--save-scores: {chosen.name} compares within {chosen.folds} folds only; save the scores of"
            f" --split {chosen.split}, and evaluate the file with --scores FILE --split {chosen.name}"
        )


def _save(path: Path, scores: Scores, inputs: Inputs, made_by: str) -> None:
    captions = [caption.id for image in inputs.images for caption in image.captions]
    save_scores(path, scores, [image.id for image in inputs.images], captions, made_by)


def _order_digest(inputs: Inputs, images: np.ndarray, texts: np.ndarray) -> str:
    """Identifies the rows and columns of a matrix."""
    return digest({"images": [inputs.images[i].id for i in images], "texts": [inputs.caption_texts[t] for t in texts]})


def _scores_folder(workspace: Workspace, run: str, split: str) -> Path:
    return workspace.run(run) / f"scores-{split}"


def result_path(workspace: Workspace, run: str, split: str, together: Sequence[str] = ()) -> Path:
    suffix = "".join(f"+{name}" for name in together[1:])
    return workspace.run(run) / f"eval-{split}{suffix}.json"

"""`itmkit evaluate`: the figures of one run, or of several averaged, on a split or protocol."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from itmkit.cache import WHOLE, Part
from itmkit.cache.parts import merge_when_done
from itmkit.dataset import image_of_captions
from itmkit.errors import ItmkitError
from itmkit.evaluation.measures import Measures, Wanted
from itmkit.evaluation.protocols import Protocol, folds_of, images_of, protocol
from itmkit.evaluation.results import Evaluation, Table
from itmkit.files import digest, write_json
from itmkit.inputs import Inputs
from itmkit.machine.device import usable_device
from itmkit.machine.precision import WantedProducts, precision_of
from itmkit.progress import SILENT, Progress
from itmkit.runs.open import Run, open_run
from itmkit.scoring.engine import MEMORY, score_to_disk
from itmkit.scoring.stored import Chosen, Kept, Mean, ScoreFile, Scores, save_scores
from itmkit.workspace import Workspace, result_path


def evaluate(
    workspace: Workspace,
    runs: Sequence[str],
    *,
    split: str = "test",
    wanted: Wanted | None = None,
    against: str | None = None,
    device: str | None = None,
    memory: int = MEMORY,
    precision: WantedProducts = "auto",
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
        runs: names, or folders of runs of other workspaces; see `itmkit.runs.open`.
        wanted: what is asked for beside recalls.
        against: another run, whose figures are compared with those of the last row of `runs`.
        memory: bytes the process should stay under.
        precision: of products of matrices; "auto" is bfloat16 where the hardware has it, else float32.
        save: a file for the score matrix, the mean of all members and runs; see `itmkit.scoring.stored`.
        part: which rows to score, where several ranks share the work. The first one waits for the others and has
            the result; that of the others has no rows.
    """
    if not runs:
        raise ItmkitError("no run named; --run NAME says which to evaluate")
    named = [*runs, *([against] if against is not None else [])]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ItmkitError(f"--run {', '.join(twice)}: named twice; an ensemble, or a comparison, needs different runs")
    chosen = protocol(split)
    _check_save(save, chosen)
    dataset = workspace.dataset()
    records = images_of(chosen, dataset)
    where = torch.device(usable_device(device))
    in_precision = precision_of(precision, where)
    opened = [open_run(workspace, name, device=where, dataset=dataset) for name in named]
    all_inputs = [Inputs(workspace, records, run.vocabulary, run.needs) for run in opened]
    for run, inputs in zip(opened, all_inputs, strict=True):
        run.check_sizes(inputs.sizes)
    first = all_inputs[0]
    if any([i.id for i in inputs.images] != [i.id for i in first.images] for inputs in all_inputs):
        raise ItmkitError("the runs read caches with different pictures left out; their scores do not fit together")
    measures = Measures(wanted or Wanted(), first.images, chosen, regions=first.region_counts)
    measures.notes += [note for run in opened for note in run.notes]
    table = Table(measures)
    ours = " + ".join(run.name for run in opened[: len(runs)])
    for number, fold in enumerate(folds_of(chosen, len(first.images))):
        texts = np.flatnonzero(np.isin(first.image_of, fold))
        image_of = np.searchsorted(fold, first.image_of[texts])
        totals: list[Scores] = []
        for run, inputs in zip(opened, all_inputs, strict=True):
            folder = _scores_folder(run, split) / str(number)
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
                    table.add(f"{run.name}/{member}", "single", scores, image_of, method=run.method)
            mean = Mean(list(kept.values()), [run.weights[member] for member in kept])
            kind = f"ensemble of {len(kept)}" if len(kept) > 1 else "single"
            table.add(run.name, kind, mean, image_of, method=run.method)
            totals.append(mean)
        if part.index:
            continue
        together = Mean(totals[: len(runs)], [1.0] * len(runs))
        if len(runs) > 1:
            kind = f"ensemble of {sum(len(run.members) for run in opened[: len(runs)])}"
            methods = {run.method for run in opened[: len(runs)]}
            table.add(ours, kind, together, image_of, method=methods.pop() if len(methods) == 1 else "")
        if save is not None:
            _save(save, together, first, ours)
    difference = table.difference(ours, opened[-1].name) if against is not None and not part.index else None
    counts = len(first.images), len(first.caption_texts), first.left_out
    alike = [run.name for run in opened[: len(runs)] if run.method == opened[0].method]
    result = table.summary(chosen, *counts, in_precision, difference, runs=alike if len(alike) == len(runs) else ())
    if part.index:
        return result
    for run in opened:
        mine = [row for row in result.rows if row.name == run.name or row.name.startswith(f"{run.name}/")]
        write_json(result_path(run.folder, split), replace(result, rows=mine, against=None, over_runs=None).to_json())
    if len(opened) > 1:
        write_json(result_path(opened[0].folder, split, together=named), result.to_json())
    for run in opened:
        shutil.rmtree(_scores_folder(run, split), ignore_errors=True)
    return result


def evaluate_files(
    workspace: Workspace,
    files: Sequence[Path],
    *,
    split: str = "test",
    wanted: Wanted | None = None,
    against: Path | None = None,
    save: Path | None = None,
) -> Evaluation:
    """The same of score matrices on disk (`--save-scores`), and of their mean where there are several.

    Args:
        against: another such file, whose figures are compared with those of the last row of `files`.

    Raises:
        ItmkitError: a file that holds no scores, or not those of every image and caption of the split.
    """
    chosen = protocol(split)
    _check_save(save, chosen)
    records = images_of(chosen, workspace.dataset())
    named = [*files, *([against] if against is not None else [])]
    stored = [ScoreFile(path) for path in named]
    has = set.intersection(*(set(one.images) for one in stored))
    images = [image for image in records if image.id in has]
    if not images:
        raise ItmkitError(f"{files[0]}: has scores of none of the {len(records)} images of split {chosen.split!r}")
    captions = [caption.id for image in images for caption in image.captions]
    image_of = image_of_captions(images)
    whole = [one.places([image.id for image in images], captions) for one in stored]
    table, ours = Table(Measures(wanted or Wanted(), images, chosen)), " + ".join(map(str, files))
    for fold in folds_of(chosen, len(images)):
        texts = np.flatnonzero(np.isin(image_of, fold))
        owners = np.searchsorted(fold, image_of[texts])
        parts = [Chosen(one.whole, one.rows[fold], one.columns[texts]) for one in whole]
        for path, scores in zip(named, parts, strict=True):
            table.add(str(path), "scores of a file", scores, owners)
        together = Mean(parts[: len(files)], [1.0] * len(files))
        if len(files) > 1:
            table.add(ours, f"mean of {len(files)} files", together, owners)
        if save is not None:
            save_scores(save, together, [i.id for i in images], captions, ours)
    difference = table.difference(ours, str(against)) if against is not None else None
    return table.summary(chosen, len(images), len(captions), len(records) - len(images), against=difference)


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


def _scores_folder(run: Run, split: str) -> Path:
    return run.folder / f"scores-{split}"

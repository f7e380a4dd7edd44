"""`itmkit evaluate`: the figures of one run, or of several averaged, on a split or protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from itmkit.cache import WHOLE
from itmkit.cache.parts import merge_when_done
from itmkit.errors import ItmkitError
from itmkit.evaluation.kept import write_results
from itmkit.evaluation.measures import RECALLS, Measures, Wanted
from itmkit.evaluation.protocols import Fold, Protocol, folds_of, images_of, protocol
from itmkit.evaluation.results import Evaluation, Table, check_different
from itmkit.evaluation.saving import check_saving, saving
from itmkit.evaluation.two_stages import two_stages
from itmkit.files import digest, remove_folder
from itmkit.inputs import Inputs
from itmkit.machine.device import memory_for
from itmkit.machine.lock import lock
from itmkit.machine.precision import Products
from itmkit.progress import SILENT, Progress
from itmkit.runs.facts import RunFacts, find_run
from itmkit.runs.open import Run, open_run
from itmkit.runs.place import evaluating
from itmkit.scoring.engine import USUAL, Scoring, score_to_disk
from itmkit.scoring.stored import Kept, Mean, Scores
from itmkit.scoring.tiles import products_of
from itmkit.workspace import Workspace


@memory_for("this evaluation", "lower --memory, or choose --device cpu; rows that are done are kept")
def evaluate(
    workspace: Workspace,
    runs: Sequence[str],
    *,
    split: str = "test",
    wanted: Wanted = RECALLS,
    against: str | None = None,
    save: Path | None = None,
    force: bool = False,
    scoring: Scoring = USUAL,
    progress: Progress = SILENT,
) -> Evaluation:
    """Scores a split with every member of every run.

    The table has a row per member ("single"), one per run of several members ("ensemble"), and, given several
    runs, one for the mean of all runs' score matrices. A run's result is also written to `eval-<split>.json`.

    Finished rows of the score matrices lie in `runs/<name>/scores-<split>` until the result is written, so that a
    killed evaluation continues.

    Args:
        runs: names, or folders of runs of other workspaces; see `itmkit.runs.open`.
        wanted: what is asked for besides recalls.
        against: another run, whose figures are compared with those of the last row of `runs`.
        save: a file for the score matrix, the mean of all members and runs; see `itmkit.scoring.stored`.
        force: `save` and the files of `wanted.trec` may replace files of other kinds.
        scoring: the device, memory and precision; "auto" is float32 if a run has imported weights. If several ranks
            share the rows, it names the part of this one. The first rank waits for the others and has the result. The
            result of the others has no rows.

    Raises:
        Locked: another process evaluates one of the runs on this split.
    """
    named = _checked_names(workspace, runs, against)
    chosen = protocol(split)
    check_saving(save, chosen, force=force)
    leads = not scoring.part.index
    with _none_replaced(workspace, named), ExitStack() as held:
        opened = _opened(workspace, named, chosen, wanted, scoring)
        if scoring.precision == "auto" and any(run.imported for run, _ in opened):
            scoring = replace(scoring, precision="float32")  # and so is what they are compared with
        if leads:  # for all ranks
            for run, _ in opened:
                held.enter_context(_alone(run, split))
        mine, first = [run for run, _ in opened[: len(runs)]], opened[0][1]
        measures = Measures(wanted, first.images, chosen, regions=first.region_counts)
        measures.check_trec(force=force)
        measures.notes += [note for run, _ in opened for note in run.notes]
        table, ours = Table(measures), " + ".join(run.name for run in mine)
        with saving(save, wanted.trec, ours) as keep:
            for fold in folds_of(chosen, images_of(chosen, workspace.dataset()), first.images):
                totals = _add_fold(table, opened, fold, split, wanted, scoring, progress)
                if leads:
                    together = Mean(totals[: len(runs)], [1.0] * len(runs))
                    if len(runs) > 1:
                        _add_ensemble(table, mine, ours, together, fold)
                    keep(together, measures.answers(fold.image_of), *fold.ids(first.images))
        difference = table.difference(ours, opened[-1][0].name) if against is not None and leads else None
        counts = len(first.images), len(first.caption_texts), first.left_out
        seeds = [run.name for run in mine] if len({run.method for run in mine}) == 1 else ()
        products = {run.name: _products(run, inputs, scoring) for run, inputs in opened} if leads else {}
        rounded = next((one for one in products.values() if one != "float32"), "float32")
        result = table.summary(chosen, *counts, rounded, difference, runs=seeds)
        if leads:
            notes = write_results(result, [run for run, _ in opened], products, split, _data_digest(first))
            for run, _ in opened:
                remove_folder(_scores_folder(run, split))
            result = replace(result, notes=(*result.notes, *notes))
    return result


@contextmanager
def _none_replaced(workspace: Workspace, named: Sequence[str]) -> Iterator[None]:
    """Within it, no training replaces a run that is scored: its figures would be those of other weights."""
    own = [workspace.root / "runs" / name for name in named if Path(name).name == name]
    with ExitStack() as held:
        for folder in own:
            if RunFacts.exist(folder):
                held.enter_context(evaluating(folder))
        yield


def _alone(run: Run, split: str) -> AbstractContextManager[object]:
    """Within it, no other process evaluates the run on this split: the first to end removes the scores of both."""
    return lock(run.folder / f".lock-{split}", f"{run.folder}: another process evaluates this run on {split}")


def _checked_names(workspace: Workspace, runs: Sequence[str], against: str | None) -> list[str]:
    """All runs that are scored, `against` last."""
    if not runs:
        raise ItmkitError("no run named; --run NAME says which to evaluate")
    named = [*runs, *([against] if against is not None else [])]
    check_different([(name, find_run(workspace, name)) for name in named], "--run ", "runs")
    return named


def _opened(
    workspace: Workspace, named: Sequence[str], chosen: Protocol, wanted: Wanted, scoring: Scoring
) -> list[tuple[Run, Inputs]]:
    """Every run with the caches it reads. They fit the run, what is wanted, and each other."""
    dataset = workspace.dataset()
    records = images_of(chosen, dataset)
    device = scoring.where
    runs = list[Run]()
    for name in named:
        runs.append(open_run(workspace, name, device=device, dataset=dataset, taken=[run.folder for run in runs]))
    opened = [(run, Inputs(workspace, records, run.vocabulary, run.needs)) for run in runs]
    for run, inputs in opened:
        run.check_sizes(inputs.sizes)
        if wanted.alphas and len(run.members) != 2:
            raise ItmkitError(
                f"--alpha: weighs one of two members against the other, and run {run.name} has {len(run.members)}"
            )
    ids = [[image.id for image in inputs.images] for _, inputs in opened]
    if any(other != ids[0] for other in ids):
        raise ItmkitError("the runs read caches with different pictures left out; their scores do not fit together")
    return opened


def _scored(run: Run, inputs: Inputs, fold: Fold, split: str, scoring: Scoring, progress: Progress) -> dict[str, Kept]:
    """The scores of every member. The first of several ranks waits for the others, which return {}."""
    # Shards that another number of ranks has begun cannot be continued, so each number has a folder of its own.
    ranks = f"-of-{scoring.part.of}" if scoring.part != WHOLE else ""
    folder = _scores_folder(run, split) / f"{fold.number}{ranks}"
    score_to_disk(
        run.members,
        inputs,
        folder,
        made_from=run.made_from | {"order": _order_digest(inputs, fold.images, fold.texts)},
        images=fold.images,
        texts=fold.texts,
        scoring=scoring,
        progress=progress,
    )
    if scoring.part.index:
        return {}
    if scoring.part != WHOLE:
        for member in run.members:
            merge_when_done(folder / member)
    return {member: Kept(folder / member) for member in run.members}


def _products(run: Run, inputs: Inputs, scoring: Scoring) -> Products:
    """The precision of the products behind the scores of a run."""
    each = {products_of(one, inputs, scoring.products, scoring.where) for one in run.members.values()}
    return each.pop() if len(each) == 1 else scoring.products


def _add_fold(
    table: Table,
    opened: Sequence[tuple[Run, Inputs]],
    fold: Fold,
    split: str,
    wanted: Wanted,
    scoring: Scoring,
    progress: Progress,
) -> list[Scores]:
    """Scores a fold with every run and adds their rows. Returns the scores of each run, to the first rank only."""
    totals = []
    for run, inputs in opened:
        kept = _scored(run, inputs, fold, split, scoring, progress)
        if scoring.part.index:
            continue
        totals.append(_add_run(table, run, kept, fold))
        if wanted.alphas:
            _add_weighted(table, run, kept, fold.image_of, wanted.alphas)
        if wanted.rerank:  # refused with folds, so these are the scores of all inputs
            found = two_stages(run, inputs, totals[-1], wanted.rerank, scoring.where, progress)
            table.add_more(run.name, "rerank", found)
    return totals


def _add_run(table: Table, run: Run, kept: Mapping[str, Kept], fold: Fold) -> Scores:
    """Adds the rows of a run and of its members, and returns its scores."""
    if len(kept) > 1:
        for member, scores in kept.items():
            name = f"{run.name}/{member}"
            table.add(name, "single", scores, fold.image_of, fold=fold.number, method=run.method)
    mean = Mean(list(kept.values()), [run.weights[member] for member in kept])
    kind = f"ensemble of {len(kept)}" if len(kept) > 1 else "single"
    table.add(run.name, kind, mean, fold.image_of, fold=fold.number, method=run.method)
    return mean


def _add_weighted(
    table: Table, run: Run, kept: Mapping[str, Kept], image_of: np.ndarray, alphas: Sequence[float]
) -> None:
    """The run's row once more for each weight of its second member; the first has the rest."""
    for alpha in alphas:
        table.add_weighted(run.name, list(kept)[1], alpha, Mean(list(kept.values()), [1 - alpha, alpha]), image_of)


def _add_ensemble(table: Table, runs: Sequence[Run], name: str, together: Scores, fold: Fold) -> None:
    """Adds the row of all runs together. It names a method if all runs have the same one."""
    kind = f"ensemble of {sum(len(run.members) for run in runs)}"
    methods = {run.method for run in runs}
    method = methods.pop() if len(methods) == 1 else ""
    table.add(name, kind, together, fold.image_of, fold=fold.number, method=method)


def _data_digest(inputs: Inputs) -> str:
    """Identifies the images and captions of a split, and the labels of the images."""
    order = _order_digest(inputs, np.arange(len(inputs.images)), np.arange(len(inputs.caption_texts)))
    return digest({"order": order, "labels": [list(image.labels) for image in inputs.images]})


def _order_digest(inputs: Inputs, images: np.ndarray, texts: np.ndarray) -> str:
    """Identifies the rows and columns of a matrix."""
    return digest({"images": [inputs.images[i].id for i in images], "texts": [inputs.caption_texts[t] for t in texts]})


def _scores_folder(run: Run, split: str) -> Path:
    return run.folder / f"scores-{split}"

"""The ranks of every query of an evaluated run, kept beside its figures. Intervals and tests are computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from itmkit.evaluation.evaluate import evaluate
from itmkit.evaluation.results import EvaluationRow
from itmkit.evaluation.stored import stored_evaluation
from itmkit.files import atomic_path
from itmkit.progress import SILENT, Progress
from itmkit.runs.facts import RunFacts
from itmkit.scoring.engine import Scoring
from itmkit.scoring.metrics import QueryRanks
from itmkit.workspace import Workspace, result_path

Folds = Sequence[QueryRanks]  # of one score matrix, fold by fold


@dataclass(frozen=True)
class Evaluated:
    """A run on a split: what `eval-SPLIT.json` says, and the ranks of each of its rows by name."""

    facts: dict[str, Any]
    ranks: dict[str, Folds]


def evaluated(
    workspace: Workspace,
    run: str,
    split: str,
    *,
    with_ranks: bool = True,
    device: str | None = None,
    progress: Progress = SILENT,
) -> Evaluated:
    """Reads an existing evaluation, or makes one. Ranks are kept in `ranks-SPLIT.npz` in the run's folder.

    Args:
        with_ranks: repeat an evaluation whose ranks were not kept, such as one by `itmkit evaluate`.

    Raises:
        ItmkitError: the existing evaluation is damaged, or of another run.
    """
    path = result_path(workspace.run(run), split)
    kept = path.with_name(f"ranks-{split}.npz")
    advice = f"run `itmkit evaluate --run {run} --split {split}` again"
    if path.exists():  # a training that replaces the weights removes it
        facts = stored_evaluation(path, advice, rows=_rows_of(workspace, run))
        ranks = _read(kept, {row["name"]: row["rsum"] for row in facts["results"]}) if with_ranks else {}
        if ranks is not None:
            return Evaluated(facts, ranks)
    found = evaluate(workspace, [run], split=split, scoring=Scoring(device), progress=progress)
    with atomic_path(kept) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **_arrays(found.rows))
    return Evaluated(stored_evaluation(path, advice), {row.name: row.ranks for row in found.rows})


def _rows_of(workspace: Workspace, run: str) -> list[str]:
    """The names of the rows that an evaluation of this run alone has."""
    members = RunFacts.read(workspace.run(run)).members
    return [*(f"{run}/{member}" for member in members if len(members) > 1), run]


def _arrays(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    """names (k,), folds (), k.f.images and k.f.texts for row k and fold f, and f.image_of, which all rows share."""
    arrays: dict[str, Any] = {"names": np.array([row.name for row in rows]), "folds": np.array(len(rows[0].ranks))}
    arrays |= {f"{fold}.image_of": ranks.image_of for fold, ranks in enumerate(rows[0].ranks)}
    for number, row in enumerate(rows):
        for fold, ranks in enumerate(row.ranks):
            arrays |= {f"{number}.{fold}.images": ranks.of_images, f"{number}.{fold}.texts": ranks.of_texts}
    return arrays


def _read(path: Any, sums: dict[str, float]) -> dict[str, Folds] | None:
    """The ranks of each row; None if there are none, or if they do not belong to these figures.

    Args:
        sums: rsum of each row. Ranks from an older evaluation of the run would give other sums.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            folds = range(int(stored["folds"]))
            found: dict[str, Sequence[QueryRanks]] = {
                str(name): [
                    QueryRanks(stored[f"{row}.{f}.images"], stored[f"{row}.{f}.texts"], stored[f"{f}.image_of"])
                    for f in folds
                ]
                for row, name in enumerate(stored["names"])
            }
        own = {name: float(np.mean([fold.retrieval().rsum for fold in ranks])) for name, ranks in found.items()}
    except Exception:  # zipfile, zlib and numpy raise dozens of kinds on damaged files; the ranks are computed anew
        return None
    same = own.keys() == sums.keys() and all(abs(own[name] - sums[name]) < 1e-6 for name in own)
    return found if same else None

"""The runs of a workspace that a figure of all runs does not show, and why."""

from __future__ import annotations

from collections.abc import Sequence

from itmkit.errors import ItmkitError
from itmkit.report.evaluated import ASKED, CURVES, has
from itmkit.report.of_scores import OF_SCORES, keeps, scores_path
from itmkit.runs.facts import run_names
from itmkit.typed import sealed
from itmkit.workspace import Workspace, result_path

# Figure: what it draws of a result.
_OF_RESULTS = {
    "cmc": "curves",
    "precision": "curves",
    "slices": "slices",
    "labels": "by_label",
    "alpha": "alpha",
    "categories": "slices by super-category",
}


def left_out(
    workspace: Workspace, what: Sequence[str], split: str, *, by: str = "own", files: bool = False
) -> list[str]:
    """A note for each figure in `what` and each run that it lacks, with the command that puts it in.

    Args:
        by: what is right for a query, see `itmkit.report.choice.Choice`.
        files: scores are drawn of files that were named, so that no run is left out.
    """
    notes = []
    for figure in dict.fromkeys(what):
        for run in run_names(workspace):
            if figure == "epochs" and not (workspace.run(run) / "metrics.jsonl").exists():
                notes.append(f"epochs: without {run}, which has finished no epoch")
            if figure in _OF_RESULTS:
                key = _OF_RESULTS[figure] + (" by labels" if by == "labels" and figure in CURVES else "")
                if not _has(workspace, run, split, key):
                    command = f"itmkit evaluate --run {run} --split {split} {ASKED[key]}"
                    notes.append(f"{figure}: without {run}, which has no {key} of split {split}; run `{command}`")
            if figure in OF_SCORES and not files and not scores_path(workspace, run, split).exists():
                notes.append(
                    f"{figure}: without {run}, whose scores are not kept; run `{keeps(workspace, run, split)}`"
                )
    return notes


def _has(workspace: Workspace, run: str, split: str, key: str) -> bool:
    try:
        found = sealed(result_path(workspace.run(run), split), "evaluate the run again")
        return any(has(row, key) for row in found["results"] if row["name"] == run)
    except (ItmkitError, OSError, KeyError, TypeError, AttributeError):
        return False

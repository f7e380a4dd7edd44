"""The runs of a workspace that a figure of all runs does not show, and why."""

from __future__ import annotations

from collections.abc import Sequence

from itmkit.errors import ItmkitError
from itmkit.runs.facts import run_names
from itmkit.typed import sealed
from itmkit.workspace import Workspace, result_path

# Figure: key of a result, and the option of `itmkit evaluate` that measures it.
_OF_RESULTS = {
    "cmc": ("curves", "--curves"),
    "precision": ("curves", "--curves"),
    "slices": ("slices", "--slices"),
    "labels": ("by_label", "--labels"),
    "alpha": ("alpha", "--alpha 0,0.2,0.5,0.8,1"),
}


def left_out(workspace: Workspace, what: Sequence[str], split: str) -> list[str]:
    """A note for each figure in `what` and each run that it lacks, with the command that puts it in."""
    notes = []
    for figure in dict.fromkeys(what):
        for run in run_names(workspace):
            if figure == "epochs" and not (workspace.run(run) / "metrics.jsonl").exists():
                notes.append(f"epochs: without {run}, which has finished no epoch")
            if figure in _OF_RESULTS:
                key, option = _OF_RESULTS[figure]
                if not _has(workspace, run, split, key):
                    command = f"itmkit evaluate --run {run} --split {split} {option}"
                    notes.append(f"{figure}: without {run}, which has no {key} of split {split}; run `{command}`")
    return notes


def _has(workspace: Workspace, run: str, split: str, key: str) -> bool:
    try:
        found = sealed(result_path(workspace.run(run), split), "evaluate the run again")
        return any(row.get(key) for row in found["results"] if row["name"] == run)
    except (ItmkitError, OSError, KeyError, TypeError, AttributeError):
        return False

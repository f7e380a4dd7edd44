"""The results of runs as files. What an earlier evaluation has found stays in its file, as long as it is of the same
scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.evaluation.results import Evaluation
from itmkit.files import digest
from itmkit.runs.open import Run
from itmkit.typed import sealed, write_sealed
from itmkit.workspace import result_path

# What is measured only if it is asked for: key of a row, option.
ASKED = {
    "intervals": "--intervals",
    "own": "--map",
    "alpha": "--alpha",
    "curves": "--curves",
    "slices": "--slices",
    "labels": "--labels",
    "by_label": "--labels",
    "judgements": "--judgements",
    "ratings": "--ratings",
    "rerank": "--rerank",
}


def write_results(
    result: Evaluation,
    runs: Sequence[Run],
    products: Mapping[str, str],
    split: str,
    data: str,
) -> list[str]:
    """Writes the result of each run, and of all together.

    Args:
        products: {run: precision of the products behind its scores}.
        data: digest of the images and captions.

    Returns:
        Notes on what earlier evaluations have left in these files.
    """
    notes = []
    made_from = {run.name: digest(run.made_from | {"data": data, "precision": products[run.name]}) for run in runs}
    for run in runs:
        run.take_place()
        names = {run.name, *(f"{run.name}/{member}" for member in run.members)}
        mine = [row for row in result.rows if row.name in names]
        alone = replace(result, rows=mine, precision=products[run.name], against=None, over_runs=None).to_json()
        notes.append(_write_one(alone, result_path(run.folder, split), made_from[run.name]))
    if len(runs) > 1:
        place = result_path(runs[0].folder, split, together=[run.folder.name for run in runs])
        notes.append(_write_one(result.to_json(), place, digest(made_from)))
    return [note for note in notes if note]


def _write_one(result: dict[str, Any], path: Path, scores_of: str) -> str:
    written, note = with_earlier(result | {"scores_of": scores_of}, path)
    write_sealed(path, written)
    return note


def with_earlier(result: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """A result as it is written to `path`: with what the file there has and this evaluation was not asked for.

    Args:
        result: `Evaluation.to_json`, with the digest of the scores under "scores_of".

    Returns:
        The result, and a note that says what was kept or dropped; "" if there was nothing of the kind.
    """
    before, damage = _before(path)
    earlier, scores_of = before.get("results", {}), before.get("scores_of")
    kept, dropped, rows = set[str](), set[str](), []
    agree = scores_of == result["scores_of"]
    for row in result["results"]:
        old = earlier.pop(row["name"], {})
        same = scores_of in (None, result["scores_of"]) and all(old.get(k) == row[k] for k in ("i2t", "t2i"))
        agree = agree and (same or not old)
        more = {key: old[key] for key in ASKED if key in old and key not in row}
        (kept if same else dropped).update(ASKED[key] for key in more)
        if same and "ratings" in row:
            row = row | {"ratings": old.get("ratings", {}) | row["ratings"]}
        rows.append(row | more if same else row)
    # Of several runs together: what `--against` and an ensemble of the same runs find stands in one file.
    together = {key: before[key] for key in ("over_runs", "against") if key in before and key not in result}
    if agree:
        rows += earlier.values()
        result = result | together
    if "against" in together:
        (kept if agree else dropped).add("--against")
    return result | {"results": rows}, damage or _note(path, sorted(kept), sorted(dropped - kept))


def _note(path: Path, kept: list[str], dropped: list[str]) -> str:
    notes = []
    if kept:
        notes.append(f"keeps what was measured before with {', '.join(kept)}, of the same weights and data")
    if dropped:
        notes.append(f"has lost what was measured before with {', '.join(dropped)}: weights, data or precision changed")
    return f"{path}: {'; '.join(notes)}" if notes else ""


def _before(path: Path) -> tuple[dict[str, Any], str]:
    """What the file holds, with its rows by name, and what is wrong with it, or ""."""
    if not path.exists():
        return {}, ""
    anew = "it is written anew, without what was measured before"
    try:
        found = sealed(path, anew)
        return found | {"results": {row["name"]: row for row in found["results"]}}, ""
    except ItmkitError as error:
        return {}, error.problems[0]
    except (KeyError, TypeError, AttributeError):
        return {}, f"{path}: is no result of an evaluation; {anew}"

"""What an earlier evaluation of a run has found stays in its file, as long as it is of the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.typed import sealed

# What is measured only if it is asked for: key of a row, option.
ASKED = {
    "intervals": "--intervals",
    "curves": "--curves",
    "slices": "--slices",
    "labels": "--labels",
    "by_label": "--labels",
    "judgements": "--judgements",
    "ratings": "--ratings",
    "rerank": "--rerank",
}


def with_earlier(result: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """A result as it is written to `path`: with what the file there has and this evaluation was not asked for.

    Args:
        result: `Evaluation.to_json`, with the digest of the scores under "scores_of".

    Returns:
        The result, and a note that says what was kept or dropped; "" if there was nothing of the kind.
    """
    before, damage = _before(path)
    kept, dropped, rows = set[str](), set[str](), []
    for row in result["results"]:
        old = before.get(row["name"], {})
        same = old.get("scores_of") in (None, result["scores_of"]) and all(old.get(k) == row[k] for k in ("i2t", "t2i"))
        more = {key: old[key] for key in ASKED if key in old and key not in row}
        (kept if same else dropped).update(ASKED[key] for key in more)
        if same and "ratings" in row:
            row = row | {"ratings": old.get("ratings", {}) | row["ratings"]}
        rows.append(row | more if same else row)
    return result | {"results": rows}, damage or _note(path, sorted(kept), sorted(dropped - kept))


def _note(path: Path, kept: list[str], dropped: list[str]) -> str:
    notes = []
    if kept:
        notes.append(f"keeps what was measured before with {', '.join(kept)}, of the same weights and data")
    if dropped:
        notes.append(f"has lost what was measured before with {', '.join(dropped)}: weights, data or precision changed")
    return f"{path}: {'; '.join(notes)}" if notes else ""


def _before(path: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """The rows of the file by name, each with the digest of its scores; and what is wrong with the file, or ""."""
    if not path.exists():
        return {}, ""
    anew = "it is written anew, without what was measured before"
    try:
        found = sealed(path, anew)
        return {row["name"]: row | {"scores_of": found.get("scores_of")} for row in found["results"]}, ""
    except ItmkitError as error:
        return {}, error.problems[0]
    except (KeyError, TypeError, AttributeError):
        return {}, f"{path}: is no result of an evaluation; {anew}"

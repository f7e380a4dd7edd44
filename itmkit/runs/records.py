"""metrics.jsonl: the figures of each epoch, one line per epoch.

The digest of the lines is kept in the saved state and in run.json, so that a line that was lost or changed is noticed.
A kill may leave a line of an epoch whose state was not saved, and it may cut the last line: both are no damage.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.files import atomic_path, read_text, sha256_file
from itmkit.runs.facts import RunFacts
from itmkit.typed import MOST_BYTES, parse_json

FILE = "metrics.jsonl"
ADVICE = "restore the file, or train the run anew with --force"


def append(path: Path, record: Mapping[str, Any]) -> str:
    """Adds one line, which is on the disk when this returns. Returns the digest of the file."""
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps(record) + "\n")
        out.flush()
        os.fsync(out.fileno())  # the state that is saved next refers to it
    return sha256_file(path)


def trim(path: Path, epoch: int, digest: str = "") -> None:
    """Drops the lines of epochs after `epoch`: a killed run wrote them but did not save their state.

    Args:
        digest: of the lines that remain; empty if it is not known.

    Raises:
        ItmkitError: the lines that remain are not those that were written.
    """
    lines = _lines(path) if path.exists() else []
    kept = "".join(line + "\n" for _, line, raw in lines if 0 < _epoch(raw) <= epoch)  # 0: a method without training
    _check(path, kept, digest)
    with atomic_path(path) as partial:
        partial.write_text(kept, encoding="utf-8")


def records(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """(number of the line, what it says) of every line of a run.

    Raises:
        ItmkitError: lines that are no JSON objects, or not what was written.
    """
    path = folder / FILE
    lines = _lines(path)
    facts = RunFacts.read(folder) if RunFacts.exist(folder) else None
    if facts is not None:
        done = "".join(line + "\n" for _, line, raw in lines if _epoch(raw) <= facts.epochs_done)
        _check(path, done, facts.files.get(FILE, ""))
    return [(number, raw) for number, _, raw in lines]


def _lines(path: Path) -> list[tuple[int, str, dict[str, Any]]]:
    """(number, text, JSON) of every line, without a last one that a kill has cut."""
    text = read_text(path, most=MOST_BYTES)
    written, found, problems = text.splitlines(), [], []
    for number, line in enumerate(written, 1):
        try:
            raw = parse_json(line, f"{path}: line {number}")
            if not isinstance(raw, dict):
                raise ItmkitError(f"{path}: line {number}: no JSON object")
            found.append((number, line, raw))
        except ItmkitError as error:
            if number < len(written) or text.endswith("\n"):
                problems += [f"{problem}; {ADVICE}" for problem in error.problems]
    if problems:
        raise ItmkitError(problems)
    return found


def _epoch(raw: Mapping[str, Any]) -> int:
    """The epoch of a line; a line without one counts as the first, so that it cannot be dropped unnoticed."""
    epoch = raw.get("epoch")
    return epoch if isinstance(epoch, int) else 1


def _check(path: Path, lines: str, digest: str) -> None:
    if digest and hashlib.sha256(lines.encode()).hexdigest() != digest:
        raise ItmkitError(f"{path}: its lines are not what training wrote; {ADVICE}")

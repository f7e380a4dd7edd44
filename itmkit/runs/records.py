"""metrics.jsonl: what an epoch came to, a line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itmkit.files import atomic_path


def append(path: Path, record: Mapping[str, Any]) -> None:
    """One more line."""
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps(record) + "\n")


def trim(path: Path, epoch: int) -> None:
    """Drops lines of epochs after `epoch`, which a killed run wrote but whose state it did not save."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = []
    for line in lines:
        try:
            if 0 < json.loads(line)["epoch"] <= epoch:  # 0: of a method without training, made anew
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    with atomic_path(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")

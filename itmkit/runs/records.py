"""metrics.jsonl: the figures of each epoch, one line per epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itmkit.files import atomic_path


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Adds one line."""
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps(record) + "\n")


def trim(path: Path, epoch: int) -> None:
    """Drops the lines of epochs after `epoch`: a killed run wrote them but did not save their state."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = []
    for line in lines:
        try:
            if 0 < json.loads(line)["epoch"] <= epoch:  # epoch 0: a method without training
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    with atomic_path(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")

"""How far a run under way has come, as it is saved with its weights and moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from itmkit.errors import ItmkitError
from itmkit.runs.checkpoint import load_state
from itmkit.typed import checked


@dataclass
class State:
    """What a resume needs besides weights and moments. It is written as JSON into the header of the state file."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the epoch under way
    loss_sum: dict[str, float] = field(default_factory=dict)
    best: dict[str, dict[str, Any]] = field(default_factory=dict)
    watch: dict[str, int] = field(default_factory=dict)
    pairs: int = 0  # of the epoch under way
    seconds: float = 0.0  # that its steps took
    collapsed: list[str] = field(default_factory=list)  # members that had collapsed by the last finished epoch
    rsum: float | None = None  # of the method by the last validation
    metrics: str = ""  # digest of metrics.jsonl up to the last finished epoch
    core_minutes: float = 0.0  # spent; work that a kill undid and that is repeated counts once


_FORM = TypeAdapter(State)


def saved_state(
    path: Path, members: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer, run: str
) -> State:
    """Restores the weights and moments of a saved state, and returns the rest of it.

    Args:
        run: the id of the run that goes on.

    Raises:
        ItmkitError: the file is damaged, or of another run.
    """
    advice = "restore it, or train anew with --force"
    facts = load_state(path, members, optimizer)
    if facts.pop("run", run) != run:
        raise ItmkitError(f"{path}: is the state of another run; {advice}")
    return checked(_FORM, facts, path, advice)

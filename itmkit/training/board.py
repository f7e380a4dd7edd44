"""Curves for TensorBoard, for those who watch many runs at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.training.step import Learned

EVERY = 10  # steps between two points of a curve of steps


class Board:
    """Writes event files into a folder. Steps count from the start of training, over all epochs."""

    def __init__(self) -> None:
        """Raises ItmkitError where the package tensorboard is missing. `move` says where to write."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ItmkitError(
                "--tensorboard needs the package tensorboard: pip install 'itmkit[tensorboard]'"
            ) from None
        self._folder, self._new = "", SummaryWriter
        self._writer: Any = None

    def move(self, folder: Path) -> None:
        """Writes into this folder from now on. What was written before has been moved there, or stays."""
        self.close()
        self._folder = str(folder)

    def close(self) -> None:
        """Writes what is waiting."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _at(self, step: int) -> Any:
        if self._writer is None:
            # A killed run may have written points beyond its saved state. They are hidden, so that none shows twice.
            self._writer = self._new(self._folder, purge_step=step)
        return self._writer

    def step(self, step: int, learned: Mapping[str, Learned], captions: int, rate: float) -> None:
        """Writes each member's loss per caption, and the learning rate."""
        writer = self._at(step)
        if step % EVERY:
            return
        for member, found in learned.items():
            writer.add_scalar(f"loss/{member}", found.loss / captions, step)
        writer.add_scalar("learning rate", rate, step)

    def epoch(self, step: int, record: Mapping[str, Any]) -> None:
        """Writes every figure of a line of metrics.jsonl, after `step` steps."""
        writer = self._at(step)
        writer.add_scalar("pairs per second", record["pairs_per_second"], step)
        for name, figures in record.items():
            if not isinstance(figures, dict):
                continue
            for key, value in figures.items():
                if key == "rsum":
                    writer.add_scalar(f"rsum/{name}", value, step)
                elif isinstance(value, dict):  # i2t, t2i
                    for figure, number in value.items():
                        writer.add_scalar(f"{key} {figure}/{name}", number, step)
        writer.flush()

"""Reads the next batches while the model learns from the current one, in a thread or in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from itmkit.cache import Part
from itmkit.errors import ItmkitError, first_line
from itmkit.inputs import Inputs
from itmkit.machine.ahead import threads_beside, work_ahead
from itmkit.machine.stop import leave_signals_to_the_parent
from itmkit.training.batches import PairBatch, pair_batch

AHEAD = 2  # batches that wait, of each process or of the thread


class Feed:
    """Delivers the batches of any order of captions, in that order, whoever reads them."""

    def __init__(
        self, inputs: Inputs, *, workers: int, device: torch.device, part: Part, global_negatives: bool
    ) -> None:
        """
        Args:
            workers: processes that read; 0 = a thread of this one. They live as long as this object.
            device: where the batches will be needed.
        """
        self._read = partial(_read, inputs, part, global_negatives)
        self._pinned = device.type == "cuda"
        self._order: list[np.ndarray] = []
        self._loader: DataLoader[PairBatch | ItmkitError] | None = None
        if workers:
            self._loader = DataLoader(
                _Reading(self._read),
                batch_size=None,
                sampler=self._order,
                num_workers=workers,
                prefetch_factor=AHEAD,
                persistent_workers=True,
                pin_memory=self._pinned,
                worker_init_fn=_begin,
            )

    def batches(self, order: Sequence[np.ndarray]) -> Iterator[PairBatch]:
        """order: positions of the captions of each batch. Raises ItmkitError where something cannot be read."""
        if self._loader is None:
            yield from self._by_thread(order)
            return
        self._order[:] = order  # what the loader's processes are sent, from its next start on
        coming = iter(self._loader)
        for _ in order:
            try:
                batch = next(coming)
            except RuntimeError as error:
                raise ItmkitError(
                    f"a process that reads batches was stopped ({first_line(error)}). They need memory, and"
                    " shared memory (/dev/shm); --workers 0 reads without them"
                ) from None
            if isinstance(batch, ItmkitError):
                raise batch
            yield batch

    def _by_thread(self, order: Sequence[np.ndarray]) -> Iterator[PairBatch]:
        # One thread: the inputs open their files as they go.
        with threads_beside(1) as pool, closing(work_ahead(pool, self._read, order, ahead=AHEAD)) as coming:
            for batch in coming:
                if isinstance(batch, ItmkitError):
                    raise batch
                yield batch.pin_memory() if self._pinned else batch


def _begin(_: int) -> None:
    leave_signals_to_the_parent()


def _read(inputs: Inputs, part: Part, global_negatives: bool, captions: np.ndarray) -> PairBatch | ItmkitError:
    """A batch, or what is wrong with it. An error raised in another process would lose its form on the way here."""
    try:
        return pair_batch(inputs, captions, part=part, global_negatives=global_negatives)
    except ItmkitError as error:
        return error


class _Reading(Dataset[PairBatch | ItmkitError]):
    """Batches, each addressed by the captions it is made of."""

    def __init__(self, read: partial[PairBatch | ItmkitError]) -> None:
        self._read = read

    def __getitem__(self, captions: np.ndarray) -> PairBatch | ItmkitError:
        return self._read(captions)

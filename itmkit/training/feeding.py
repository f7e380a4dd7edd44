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
from itmkit.training.thinning import Thinning

Wanted = tuple[np.ndarray, Thinning | None]  # the captions of a batch, and what is left out of it
AHEAD = 2  # batches that wait, of each process or of the thread


class Feed:
    """Delivers the batches of any order of captions, in that order, whoever reads them.

    Its processes end with `close`. Where only the garbage collector finds what holds them, they are not told to end,
    and each is waited for in vain.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        workers: int,
        device: torch.device,
        part: Part,
        global_negatives: bool,
        thinning: Thinning | None = None,
    ) -> None:
        """
        Args:
            workers: processes that read; 0 = a thread of this one. They live as long as this object.
            device: where the batches will be needed.
            thinning: of regions and words, by epoch and step.
        """
        self._read = partial(_read, inputs, part, global_negatives)
        self._pinned = device.type == "cuda"
        self._thinning = thinning
        self._order: list[Wanted] = []
        self._loader: DataLoader[PairBatch | ItmkitError] | None = None
        self._coming: Iterator[PairBatch | ItmkitError] = iter(())  # no local variable: tracebacks keep those
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

    def batches(self, order: Sequence[np.ndarray], *, epoch: int = 1, first: int = 0) -> Iterator[PairBatch]:
        """Reads batches.

        Args:
            order: positions of the captions of each batch.
            epoch: they are of; first: the number of the first one in it.

        Raises:
            ItmkitError: something cannot be read.
        """
        thinning = self._thinning
        wanted = [
            (captions, thinning.at(epoch, step) if thinning is not None else None)
            for step, captions in enumerate(order, first)
        ]
        if self._loader is None:
            yield from self._by_thread(wanted)
            return
        self._order[:] = wanted  # what the loader's processes are sent, from its next start on
        self._coming = iter(self._loader)
        for _ in wanted:
            batch = self._next()
            if isinstance(batch, ItmkitError):
                raise batch
            yield batch

    def close(self) -> None:
        """Ends the processes that read."""
        self._loader, self._coming = None, iter(())

    def _next(self) -> PairBatch | ItmkitError:
        try:
            return next(self._coming)
        except RuntimeError as error:
            stopped = first_line(error)
        # Made out here: an error keeps the one that was being handled, and that one would keep the processes.
        return ItmkitError(
            f"a process that reads batches was stopped ({stopped}). They need memory, and shared memory (/dev/shm);"
            " --workers 0 reads without them"
        )

    def _by_thread(self, wanted: Sequence[Wanted]) -> Iterator[PairBatch]:
        # One thread: the inputs open their files as they go.
        with threads_beside(1) as pool, closing(work_ahead(pool, self._read, wanted, ahead=AHEAD)) as coming:
            for batch in coming:
                if isinstance(batch, ItmkitError):
                    raise batch
                yield batch.pin_memory() if self._pinned else batch


def _begin(_: int) -> None:
    leave_signals_to_the_parent()


def _read(inputs: Inputs, part: Part, global_negatives: bool, wanted: Wanted) -> PairBatch | ItmkitError:
    """A batch, or what is wrong with it. An error raised in another process would lose its form on the way here."""
    try:
        captions, thinning = wanted
        return pair_batch(inputs, captions, part=part, global_negatives=global_negatives, thinning=thinning)
    except ItmkitError as error:
        return error


class _Reading(Dataset[PairBatch | ItmkitError]):
    """Batches, each addressed by the captions it is made of, and by what is left out of it."""

    def __init__(self, read: partial[PairBatch | ItmkitError]) -> None:
        self._read = read

    def __getitem__(self, wanted: Wanted) -> PairBatch | ItmkitError:
        return self._read(wanted)

"""What several processes that train one model tell each other.

All of them have the same weights and go through the same batches in the same order. Each has a share of every batch:
some of the images with their captions. The gradients of all shares are added up, so that all take the same step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from itmkit.cache import Part
from itmkit.matchers import Encoded

PATIENCE = timedelta(days=1)  # while one of them validates, the others wait


@contextmanager
def processes(part: Part, device: torch.device) -> Iterator[None]:
    """Connects the processes of torchrun with each other. Does nothing where there is only one."""
    if part.of == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def broadcast(value: Any) -> Any:
    """The value of the first process, on all of them."""
    if not distributed.is_initialized():
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def wait_for_all() -> None:
    """A barrier: no process goes on before all have come here."""
    if distributed.is_initialized():
        distributed.barrier()


def greatest(value: int, device: torch.device) -> int:
    """The greatest of the values of all processes."""
    if not distributed.is_initialized():
        return value
    box = torch.tensor(value, device=device)
    distributed.all_reduce(box, distributed.ReduceOp.MAX)
    return int(box)


def least(value: int, device: torch.device) -> int:
    """The least of the values of all processes."""
    return -greatest(-value, device)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replaces each tensor by its sum over the processes, in one exchange."""
    every = list(tensors)
    if not distributed.is_initialized() or not every:
        return
    flat = torch.cat([tensor.flatten() for tensor in every])
    distributed.all_reduce(flat)
    for tensor, summed in zip(every, torch.split(flat, [tensor.numel() for tensor in every]), strict=True):
        tensor.copy_(summed.view_as(tensor))


class Together:
    """A shared batch. Every process has some of its images and captions, and compares its images with all captions."""

    def __init__(self, part: Part, images: Sequence[int], texts: Sequence[int]) -> None:
        """images, texts: how many each process has."""
        self._part, self._images, self._texts = part, images, texts

    def join(self, encoded: Encoded) -> Encoded:
        """The encoded captions of all processes, those of process 0 first."""
        return {name: torch.cat(self._exchange(value, self._texts)) for name, value in encoded.items()}

    def rows(self, mine: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(Bi, Bt), put together from the rows of each process. Gradients reach only this process's rows."""
        return tuple(torch.cat(self._exchange(rows, self._images)) for rows in mine)

    def mine(self, gradients: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
        """The gradients of this process's captions, from the pairs of all processes."""
        add_up(gradient for gradient in gradients.values() if gradient is not None)
        first = sum(self._texts[: self._part.index])
        rows = slice(first, first + self._texts[self._part.index])
        return {name: None if gradient is None else gradient[rows] for name, gradient in gradients.items()}

    def _exchange(self, value: Tensor, counts: Sequence[int]) -> list[Tensor]:
        found = []
        for index, count in enumerate(counts):
            own = index == self._part.index
            # Booleans travel as bytes.
            plain = value.detach().to(torch.uint8 if value.dtype == torch.bool else value.dtype).contiguous()
            box = plain.clone() if own else plain.new_empty((count, *plain.shape[1:]))
            distributed.broadcast(box, src=index)
            found.append(value if own else box.to(value.dtype))
        return found

"""A few images at a time, so that what is computed of every pair stays inside the processor's caches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from itmkit.machine.memory import total
from itmkit.machine.precision import products_as_here

BLOCK = 1 << 21  # numbers of the pair tensors of a block: 8 MB in float32, near the size of a core's caches
GPU_BLOCK = 1 << 25  # 128 MB: enough work for each kernel
KEPT = 12  # bytes that training keeps of each of the numbers: about three tensors of them
SHARE = 8  # of a device's memory, what may be kept is one part in so many


def numbers_of_a_block(device: torch.device) -> int:
    return BLOCK if device.type == "cpu" else GPU_BLOCK


@cache
def numbers_kept(device: torch.device) -> int:
    """How many numbers of all blocks training keeps for their gradients; of more it computes them again."""
    return total(device) // SHARE // KEPT


def each_block(compute: Callable[..., Any], *per_image: Tensor, numbers: int) -> list[Any]:
    """`compute(*per_image)` a few images at a time: a list of the results, the first images first.

    The vectors of an image beside every word are what costs memory. Blocks keep them inside the processor's caches; a
    training batch that is large beside the memory of its device computes its blocks again in the backward pass instead
    of keeping them, with the same result to the last bit.

    Args:
        per_image: each with leading dimension Bi.
        numbers: how many `compute` holds of an image at once.
    """
    again = torch.is_grad_enabled() and len(per_image[0]) * numbers > numbers_kept(per_image[0].device)
    size = max(1, numbers_of_a_block(per_image[0].device) // max(1, numbers))  # none where nothing meets the images
    # Split, not sliced: the gradients of all parts are then joined once, instead of one after the other being added to
    # zeros of the size of the whole.
    blocks = list(zip(*(torch.split(tensor, size) for tensor in per_image), strict=True))
    return [computed_again(compute, *block) if again else compute(*block) for block in blocks]


def in_blocks(compute: Callable[..., Tensor], *per_image: Tensor, numbers: int) -> Tensor:
    """The results of `each_block`, joined along the images."""
    return torch.cat(each_block(compute, *per_image, numbers=numbers))


def computed_again(compute: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """`compute(*arguments)`, of which nothing is kept for gradients: it is done again for them."""
    same = products_as_here()

    def contexts() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
        return nullcontext(), same

    result: Tensor = checkpoint(compute, *arguments, use_reentrant=False, context_fn=contexts)
    return result


def blocks_by_length(encoded: dict[str, Tensor], size: int, *, square: str) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """The order by number of nodes, and blocks of `size` images or texts in it, each padded to its own longest.

    Args:
        encoded: of images or texts, (B, N, ...) each, "mask" (B, N) among them.
        square: the name of what is (B, N, N), if it is there.
    """
    mask = encoded["mask"]
    lengths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(dim=1)  # up to the last real node
    order = lengths.argsort(stable=True)
    sorted_lengths = lengths[order].tolist()
    found = []
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        longest = max(1, sorted_lengths[start + len(rows) - 1])
        block = {name: value[rows, :longest] for name, value in encoded.items()}
        if square in block:
            block[square] = block[square][..., :longest]
        found.append(block)
    return order, found

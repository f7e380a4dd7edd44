"""A few images at a time, so that what is computed of every pair stays inside the processor's caches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from itmkit.precision import products_as_here

BLOCK = 1 << 21  # numbers of the pair tensors of a block: 8 MB in float32, near the size of a core's caches
GPU_BLOCK = 1 << 25  # 128 MB: enough work for each kernel
KEEP = 1 << 25  # numbers of all blocks beyond which training computes them again instead of keeping them


def numbers_of_a_block(device: torch.device) -> int:
    return BLOCK if device.type == "cpu" else GPU_BLOCK


def in_blocks(compute: Callable[..., Tensor], *per_image: Tensor, numbers: int) -> Tensor:
    """`compute(*per_image)` a few images at a time, the results joined along the images.

    The vectors of an image beside every word are what costs memory. Blocks keep them inside the processor's caches; a
    large training batch computes its blocks again in the backward pass instead of keeping them.

    Args:
        per_image: each with leading dimension Bi.
        numbers: how many `compute` holds of an image at once.
    """
    again = torch.is_grad_enabled() and len(per_image[0]) * numbers > KEEP
    size = max(1, numbers_of_a_block(per_image[0].device) // numbers)
    # Split, not sliced: the gradients of all parts are then joined once, instead of one after the other being added to
    # zeros of the size of the whole.
    blocks = list(zip(*(tensor.split(size) for tensor in per_image), strict=True))
    if not again:
        return torch.cat([compute(*block) for block in blocks])
    same = products_as_here()

    def contexts() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
        return nullcontext(), same

    return torch.cat([checkpoint(compute, *block, use_reentrant=False, context_fn=contexts) for block in blocks])

"""Norms that leave padding out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


def l2norm(x: Tensor, dim: int = -1) -> Tensor:
    """`x / |x|` along `dim`. A zero vector stays zero, with a gradient of zero."""
    return x * to_unit(x.square().sum(dim=dim, keepdim=True))


def to_unit(squared: Tensor) -> Tensor:
    """What a vector of this squared length is multiplied by for unit length.

    A zero vector by 0: by the 1e8 of a nearly zero one, gradients of first weights would be of that size.
    """
    return torch.rsqrt(squared.masked_fill(squared == 0, torch.inf) + 1e-16)


def masked_softmax(logits: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """Softmax over the entries where `mask` (broadcast to `logits`) is True; 0 elsewhere, also where none is True."""
    return (logits + barrier(mask, logits.dtype)).softmax(dim=dim) * mask


def barrier(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to logits to keep what `mask` leaves out from a softmax: 0, or half the least number there is.

    Adding a small tensor to a large one is several times as fast as filling in places of the large one.
    """
    return (~mask).to(dtype) * (torch.finfo(dtype).min / 2)


class _SumOverProcesses(torch.autograd.Function):
    """What each process has of a sum reaches the losses of all of them, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def over_processes(x: Tensor) -> Tensor:
    """The sum of x over the processes that train one model together; x itself where there is one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return x
    return _SumOverProcesses.apply(x)  # type: ignore[no-any-return,no-untyped-call]


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over real entries only (MPSM eq. 16, `BN`).

    Like `BatchNorm1d`, but padding takes no part in the statistics, so a caption's score in training does not depend
    on how long its neighbours in the batch are. Processes that train together share one set of statistics. Evaluation
    uses running statistics, to which a batch adds where gradients are wanted of it.
    """

    def __init__(self, size: int | None = None, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        """size: of the last dimension, each number of which has its own statistics; None: all numbers share one."""
        super().__init__()
        self.momentum, self.eps = momentum, eps
        shape = () if size is None else (size,)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: any shape; mask: bool, broadcastable to it. Returns the shape of x; padded entries are meaningless."""
        if self.training:
            weights = mask.to(x.dtype).expand_as(x)
            count, total = over_processes(torch.stack([self._sum(weights), self._sum(x * weights)]))
            there, count = count > 0, count.clamp_min(1)  # a batch may have no region at all, or none of a place
            mean = total / count
            var = over_processes(self._sum((x - mean).square() * weights)) / count
            if torch.is_grad_enabled():  # a batch that is encoded twice, once without gradients, counts once
                self._remember(there, mean.detach(), (var * count / (count - 1).clamp_min(1)).detach())
        else:
            mean, var = self.running_mean, self.running_var
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias

    @torch.no_grad()
    def _remember(self, there: Tensor, mean: Tensor, unbiased: Tensor) -> None:
        """Statistics of what had no entry stay as they are: they would become those of zeros."""
        for running, found in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.lerp_(torch.where(there, found.to(running.dtype), running), self.momentum)

    def _sum(self, x: Tensor) -> Tensor:
        """Over all that shares statistics, so of the shape of `weight`."""
        return x.flatten(0, -2).sum(dim=0) if self.weight.ndim else x.sum()

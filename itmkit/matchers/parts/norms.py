"""Norms that leave padding out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


def l2norm(x: Tensor, dim: int = -1, eps: float = 1e-8) -> Tensor:
    """`x / |x|` along `dim`. A zero vector stays zero, with a finite gradient."""
    return x * torch.rsqrt(x.square().sum(dim=dim, keepdim=True) + eps * eps)


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
    """Batch normalisation of scalars, over real entries only (MPSM eq. 16, `BN`).

    Like `BatchNorm1d(1)`, but padding takes no part in the statistics, so a caption's score in training does not
    depend on how long its neighbours in the batch are. Processes that train together share one set of statistics.
    Evaluation uses running statistics.
    """

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("running_mean", torch.zeros(()))
        self.register_buffer("running_var", torch.ones(()))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: any shape; mask: bool, broadcastable to it. Returns the shape of x; padded entries are meaningless."""
        if self.training:
            weights = mask.to(x.dtype).expand_as(x)
            count, total = over_processes(torch.stack([weights.sum(), (x * weights).sum()]))
            mean = total / count
            var = over_processes(((x - mean).square() * weights).sum()) / count
            with torch.no_grad():
                unbiased = var * count / (count - 1).clamp_min(1)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias

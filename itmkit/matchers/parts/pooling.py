"""Many vectors into one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmkit.matchers.parts.norms import masked_softmax


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, N, D), mask (B, N) bool -> (B, D), the mean over real entries."""
    weights = mask.to(x.dtype).unsqueeze(-1)
    return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)


class MeanQueryPooling(nn.Module):
    """Self-attention with the mean as the query (MPSM section 3.2).

    `a = softmax(W1((W2 x) * (W3 mean(x))))`, pooled = sum of `a_i x_i`. The print divides the sum by N as well; the
    weights sum to one already, and a factor that differs between 36 regions and 12 words would push the two global
    vectors apart, so it is left out.
    """

    def __init__(self, embed: int) -> None:
        super().__init__()
        self.key = nn.Linear(embed, embed, bias=False)
        self.query = nn.Linear(embed, embed, bias=False)
        self.weigh = nn.Linear(embed, 1, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, D), mask (B, N) bool -> (B, D)."""
        return torch.einsum("bn,bnd->bd", self.weights(x, mask), x)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        """-> (B, N), summing to one; all zero where the mask is."""
        mean = masked_mean(x, mask)
        # W1((W2 x) * q) = x . W2^T(W1 * q): one product with W2 a set, not one a vector of it.
        asked = (self.query(mean) * self.weigh.weight) @ self.key.weight  # (B, D)
        logits = (x @ asked.unsqueeze(-1)).squeeze(-1)  # (B, N)
        return masked_softmax(logits, mask)

"""Many vectors into one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from itmkit.matchers.parts.norms import MaskedBatchNorm, masked_softmax

Pooling = Literal["print", "published"]


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, N, D), mask (B, N) bool -> (B, D), the mean over real entries."""
    weights = mask.to(x.dtype).unsqueeze(-1)
    return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)


class MeanQueryPooling(nn.Module):
    """Self-attention with the mean as the query (MPSM section 3.2): pooled = sum of `a_i x_i`.

    Form "print": `a = softmax(W1((W2 x) * (W3 mean(x))))`. MPSM's print divides the sum by N as well; the weights sum
    to one already, and a factor that differs between 36 regions and 12 words would push the two global vectors apart,
    so it is left out.

    Form "published": what SGRAF's published network computes, `a = softmax(W1(f(x) * g(mean(x))))` with f and g a
    linear map, batch normalisation on the side of the image only, tanh and dropout. The print is a product of three
    small factors, so it begins with nearly equal weights and hardly leaves them.

    The published network normalises f(x) region by region: region number 5 of an image by the mean and the deviation
    of all numbers of all regions number 5. That takes 36 regions in a fixed order, while here images may have any
    number of regions and their order must not change a score. So all numbers of all regions share one mean and one
    deviation: its form with the numbers of a region that differ by their place made the same. The normalisation of
    g(mean(x)), number by number over the images, is as published. In training the batch's statistics take part, with
    `accumulate` those of a part of it.
    """

    def __init__(
        self,
        embed: int,
        *,
        form: Pooling = "print",
        side: Literal["image", "text"] = "image",
        dropout: float = 0.4,
    ) -> None:
        """side, dropout: of the form "published" only."""
        super().__init__()
        published = form == "published"
        self.published, self.normed = published, published and side == "image"
        self.key = nn.Linear(embed, embed, bias=published)
        self.query = nn.Linear(embed, embed, bias=published and not self.normed)  # the norm would take it out again
        self.weigh = nn.Linear(embed, 1, bias=False)  # a bias would fall out of the softmax
        if published:
            self.dropout = nn.Dropout(dropout)
            for linear in (self.key, self.query, self.weigh):
                nn.init.xavier_uniform_(linear.weight)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
        if self.normed:
            self.key_norm, self.query_norm = MaskedBatchNorm(), MaskedBatchNorm(embed)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, D), mask (B, N) bool -> (B, D), not of unit length."""
        return torch.einsum("bn,bnd->bd", self.weights(x, mask), x)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        """-> (B, N), summing to one; all zero where the mask is."""
        mean = masked_mean(x, mask)
        if self.published:
            return masked_softmax(self._published(x, mean, mask), mask)
        # W1((W2 x) * q) = x . W2^T(W1 * q): one product with W2 a set, not one a vector of it.
        asked = (self.query(mean) * self.weigh.weight) @ self.key.weight  # (B, D)
        logits = (x @ asked.unsqueeze(-1)).squeeze(-1)  # (B, N)
        return masked_softmax(logits, mask)

    def _published(self, x: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        """-> (B, N) logits."""
        keys, queries = self.key(x), self.query(mean)  # (B, N, D), (B, D)
        if self.normed:
            keys = self.key_norm(keys, mask.unsqueeze(-1))
            queries = self.query_norm(queries, mask.any(dim=1, keepdim=True))
        keys, queries = self.dropout(torch.tanh(keys)), self.dropout(torch.tanh(queries))
        asked = queries * self.weigh.weight  # (B, D)
        return (keys @ asked.unsqueeze(-1)).squeeze(-1)

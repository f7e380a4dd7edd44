"""Many vectors into one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from itmkit.errors import ItmkitError
from itmkit.matchers.parts.norms import MaskedBatchNorm, masked_softmax
from itmkit.matchers.parts.recurrent import both_directions

Pooling = Literal["print", "published"]


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, N, D), mask (B, N) bool -> (B, D), the mean over real entries."""
    weights = mask.to(x.dtype).unsqueeze(-1)
    return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)


def descending(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, N, D), mask (B, N) bool -> (B, N, D): each of the D numbers sorted by itself; zeros at the end."""
    ordered = x.masked_fill(~mask.unsqueeze(-1), -torch.inf).sort(dim=1, descending=True).values
    real = torch.arange(x.shape[1], device=x.device) < mask.sum(dim=1, keepdim=True)
    return ordered.masked_fill(~real.unsqueeze(-1), 0)


class GeneralizedPooling(nn.Module):
    """GPO, the generalized pooling operator of VSE-infinity: number by number, a weighted mean of the sorted values.

    The weight of the k-th largest of n values follows from k and n alone: a GRU reads the positions 1..n, and a softmax
    of what it says of each, sharpened tenfold, gives the weights. All mass on the first is the maximum, equal weights
    are the mean.
    """

    def __init__(self, size: int = 32, *, temperature: float = 0.1) -> None:
        """size: of a position's vector and of the states of the GRU."""
        super().__init__()
        self.size, self.temperature = size, temperature
        self.gru = nn.GRU(size, size, batch_first=True, bidirectional=True)
        self.weigh = nn.Linear(size, 1, bias=False)  # a bias would fall out of the softmax

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, D), mask (B, N) bool -> (B, D), not of unit length; zero for an empty set."""
        # Sets of one size have one row of weights, so it is computed once a size and not once a set.
        sizes, which = torch.unique(mask.sum(dim=1).clamp_min(1), return_inverse=True)
        weights = self.weights(sizes, x.shape[1])[which]
        return torch.einsum("bn,bnd->bd", weights, descending(x, mask))

    def weights(self, sizes: Tensor, longest: int) -> Tensor:
        """sizes (n,) int64, from 1 to `longest` -> (n, longest), of each place in the order; rows sum to one."""
        positions = self._positions(longest, sizes.device).expand(len(sizes), -1, -1)
        there = torch.arange(longest, device=sizes.device) < sizes[:, None]
        logits = self.weigh(both_directions(self.gru, positions, there)).squeeze(-1) / self.temperature
        return masked_softmax(logits, there)

    def _positions(self, count: int, device: torch.device) -> Tensor:
        """(count, size), the sines and cosines of Vaswani et al."""
        wave = 10_000 ** -(torch.arange(0, self.size, 2, device=device) / self.size)
        angles = torch.arange(count, device=device)[:, None] * wave
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class ElementwiseAttention(nn.Module):
    """ESA's pooling: each of the D numbers has a softmax of its own over the set."""

    def __init__(self, embed: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(embed, embed, bias=False)  # a bias would fall out of the softmax

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, D), mask (B, N) bool -> (B, D), not of unit length; zero for an empty set."""
        return (masked_softmax(self.weigh(x), mask.unsqueeze(-1), dim=1) * x).sum(dim=1)


class TopTwoPooling(nn.Module):
    """HREM's pooling: 0.8 of the mean of the two largest values, number by number, and 0.2 of the mean of the set after
    one layer of a transformer."""

    def __init__(self, embed: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(embed, heads, embed, dropout, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, D), mask (B, N) bool -> (B, D), not of unit length; zero for an empty set."""
        largest = descending(x, mask)[:, :2].sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(1, 2)
        hidden = ~mask & mask.any(dim=1, keepdim=True)  # nothing is hidden in an empty set: a softmax needs something
        # A resume must repeat gradients bit for bit. The fast kernel that a GPU takes with a mask does not promise to.
        with sdpa_kernel(SDPBackend.MATH):
            related = self.layer(x, src_key_padding_mask=hidden)
        return 0.8 * largest + 0.2 * masked_mean(related, mask)


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
    number of regions and their order must not change a score. With `places` it is done so; else all numbers of all
    regions share one mean and one deviation: its form with the numbers of a region that differ by their place made the
    same. The normalisation of g(mean(x)), number by number over the images, is as published. In training the batch's
    statistics take part, with `accumulate` those of a part of it.
    """

    def __init__(
        self,
        embed: int,
        *,
        form: Pooling = "print",
        side: Literal["image", "text"] = "image",
        dropout: float = 0.4,
        places: int | None = None,
    ) -> None:
        """side, dropout: of the form "published" only. places: regions of an image, where each place among them has
        statistics of its own, as in the published network; an image with more is an error."""
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
            self.key_norm, self.query_norm = MaskedBatchNorm(places), MaskedBatchNorm(embed)
        self.places = places

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
            keys = self.key_norm(keys, mask.unsqueeze(-1)) if self.places is None else self._by_place(keys, mask)
            queries = self.query_norm(queries, mask.any(dim=1, keepdim=True))
        keys, queries = self.dropout(torch.tanh(keys)), self.dropout(torch.tanh(queries))
        asked = queries * self.weigh.weight  # (B, D)
        return (keys @ asked.unsqueeze(-1)).squeeze(-1)

    def _by_place(self, keys: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D) normalised place by place."""
        assert self.places is not None
        if mask[:, self.places :].any():
            raise ItmkitError(
                f"an image has {int(mask.sum(dim=1).max())} regions, and --pooling positions knows {self.places} places"
            )
        size, count = keys.shape[1], self.places
        fill = (0, 0, 0, max(count - size, 0))
        known = functional.pad(keys[:, :count], fill).transpose(1, 2)  # (B, D, places)
        real = functional.pad(mask[:, :count], fill[2:]).unsqueeze(1)
        normed = self.key_norm(known, real).transpose(1, 2)
        return functional.pad(normed[:, :size], (0, 0, 0, max(size - count, 0)))

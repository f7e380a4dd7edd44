"""MEFN's fusion of local and global attention: section 3.5 of its paper.

Shape letters: see `itmkit.inputs`. N stands for R or L, and B, P for Bi, Bt or Bt, Bi.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmkit.matchers import Encoded
from itmkit.matchers.parts.attention import FlatWords


class SemanticConsistency(nn.Module):
    """Global attention's gate: how far the image as a whole and the sentence as a whole agree (section 3.5).

    A reading: `sigmoid(scale v_global . t_cls + offset)`, with a learned scale in place of 1/sqrt(D), since these are
    sums of unit vectors, whose products do not grow with D.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, cosine: Tensor, regions: Tensor, weights: Tensor, words: FlatWords) -> Tensor:
        """-> (Bi, Bt). cosine (T, Bi, R), and the weights (Bt or 1, Bi, R) and (Bi or 1, Bt, L) of v_global and t_cls.

        `(sum_i a_i v_i) . (sum_j b_j t_j) = sum_ij a_i b_j cos_ij`: no vector of D numbers is needed.
        """
        every = words.scale(cosine, regions.expand(len(words.mask), -1, -1)).sum(-1)  # (T, Bi)
        product = (words.pad(every.T, dim=1) * weights).sum(-1)
        return torch.sigmoid(self.scale * product + self.offset)


class WeightedFusion(nn.Module):
    """`f = LayerNorm(g * f_local + (1 - g) * f_global)`; g a sigmoid gate that sees both."""

    def __init__(self, embed: int, *, gated: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * embed, embed) if gated else None
        self.norm = nn.LayerNorm(embed, eps=1e-8)  # the variance of a vector of about unit length is 1/D

    def gate_parts(self, side: Encoded) -> Encoded:
        """{"gates": (B, 2N or N + 1, D)}: the gate's maps of what f_local and f_global are sums of, once a side."""
        if self.gate is None:
            return {}
        halves = zip(sources(side), self.gate.weight.chunk(2, dim=1), strict=True)
        return {"gates": torch.cat([vectors @ half.T for vectors, half in halves], dim=1)}

    def forward(self, weights: list[Tensor], side: Encoded) -> Tensor:
        """-> (B, P, D), before it is scaled to unit length.

        Args:
            weights: (B, P, N) with which P pairs sum up the nodes (B, N, D) of this side: to f_local, to f_global, or
                to the only one there is. (B, P, 1) for an f_global from the class vector.
        """
        fused, *others = [every @ vectors for every, vectors in zip(weights, sources(side), strict=False)]
        if self.gate is not None:
            gate = torch.sigmoid(torch.baddbmm(self.gate.bias, torch.cat(weights, dim=-1), side["gates"]))
            fused = torch.lerp(others[0], fused, gate)
        return self.norm(fused)  # type: ignore[no-any-return]


def sources(side: Encoded) -> tuple[Tensor, Tensor]:
    """What f_local is a weighted sum of, and f_global: the nodes (B, N, D), and they or the class vector (B, 1, D)."""
    return side["nodes"], side.get("class", side["nodes"])

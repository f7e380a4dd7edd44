"""MPSM's semantic knowledge graphs and what is gathered along them (KGID), sections 3.1 and 3.2 of its paper.

Shape letters: see `itmkit.inputs`. N stands for R or L, since both modalities are served; with H graphs a prior is
(B, H, N, N).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from itmkit.matchers.parts.norms import l2norm, masked_softmax
from itmkit.matchers.parts.rows import Rows

Affinity = Literal["all", "others", "none"]
Softmax = Literal["feature", "node", "none"]
Weight = Literal["sum", "mean"]
Shortcut = Literal["inside", "outside"]


def semantic_edges(nodes: Tensor, mask: Tensor, prior: Tensor, *, affinity: Affinity, sharpness: float) -> Tensor:
    """Eqs 1-4: `E = columnL2(softmax_j(lambda x_i . x_j) * P)`, (B, H, N, N).

    A unit vector is most like itself: among few nodes the softmax of the print leaves 0.99 on the diagonal, so that
    hardly anything flows. `affinity` "others" shares the weight out among the other nodes (the shortcut of eq 8 keeps
    the node itself), "none" leaves it to the prior.

    Args:
        nodes: (B, N, D); mask: (B, N) bool; prior: (B, H, N, N) P_v (spatial kernels) or P_t (dependency graph).
        sharpness: lambda.
    """
    pairs = mask.unsqueeze(1) & mask.unsqueeze(2)
    if affinity != "none":
        allowed = pairs
        if affinity == "others":
            allowed = pairs & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        related = masked_softmax(sharpness * nodes @ nodes.transpose(1, 2), allowed)
        prior = prior * related.unsqueeze(1)
    edges = prior * pairs.unsqueeze(1)
    # Over all graphs together: by itself, one in which a node has no neighbours would be its faintest ones, made large.
    return l2norm(edges.flatten(1, 2), dim=1).view_as(edges)


class KnowledgeDissemination(nn.Module):
    """KGID, eqs 5-9, on one modality."""

    def __init__(
        self, embed: int, layers: int, *, sharpness: float, softmax: Softmax, weight: Weight, shortcut: Shortcut
    ) -> None:
        """
        Args:
            embed: D. layers: N.
            sharpness: lambda of eq 9.
            softmax: the axis of eq 5; "none" = what a node gathers, as it is. weight: what is one of its weights.
            shortcut: of the ReLU in eq 8.
        """
        super().__init__()
        self.sharpness, self.softmax, self.weight, self.shortcut = sharpness, softmax, weight, shortcut
        self.spread = nn.ModuleList(nn.Linear(embed, embed, bias=False) for _ in range(layers))  # W, eq 5
        self.infer = nn.ModuleList(nn.Linear(embed, embed) for _ in range(layers))  # W_kg and b, eq 8
        self.outgoing = nn.ModuleList(nn.Linear(embed, embed, bias=False) for _ in range(layers - 1))  # W_O, eq 9
        self.incoming = nn.ModuleList(nn.Linear(embed, embed, bias=False) for _ in range(layers - 1))  # W_I, eq 9

    @torch.no_grad()
    def start(self, *, size: float, logits: float) -> None:
        """Initial weights: eq 8 near the identity; logits of eq 5 of the given size, for messages of unit length.

        Args:
            size: of the map of eq 8; 1 = as torch starts.
            logits: deviation of the logits of eq 5; 0 = as torch starts.
        """
        for infer in self.infer:
            infer.weight.mul_(size)  # type: ignore[operator]
        if logits:
            for spread in self.spread:
                nn.init.normal_(spread.weight, std=logits)  # type: ignore[arg-type]

    def forward(self, nodes: Tensor, mask: Tensor, edges: Tensor, support: Tensor | None = None) -> Tensor:
        """nodes (B, N, D), mask (B, N), edges (B, H, N, N) of eq 2 or 4 -> (B, N, D).

        With H graphs each carries D/H of the numbers of a message.
        `support` (B, N, N) bool: on text the first updated edges stay on the dependency graph (a reading).
        """
        real, pairs = Rows(mask), mask.unsqueeze(1) & mask.unsqueeze(2)
        flat = real.take(nodes)  # (T, D): all products with D x D weights are of real nodes alone
        for layer, (spread, infer) in enumerate(zip(self.spread, self.infer, strict=True)):
            if layer > 0:  # eq 9: (W_O x) . (W_I y) = x W_O^T W_I y, for many nodes one map instead of two
                out, into = self.outgoing[layer - 1].weight, self.incoming[layer - 1].weight
                related = real.put(torch.linalg.multi_dot([flat, out.T, into])) @ nodes.transpose(1, 2)
                allowed = pairs & support if support is not None and layer == 1 else pairs
                edges = masked_softmax(self.sharpness * related, allowed).unsqueeze(1)
            sent = torch.unflatten(real.put(spread(flat)), 2, (edges.shape[1], -1)).transpose(1, 2)  # (B, H, N, D/H)
            gathered = real.take((edges @ sent).transpose(1, 2).flatten(2))  # (T, D), A V W
            known = gathered if self.softmax == "none" else self._weights(gathered, real) * flat  # eq 5
            gate = torch.sigmoid(torch.addcmul(flat, known, flat))  # eq 6
            fused = torch.lerp(flat, known, gate)  # eq 7
            inside = self.shortcut == "inside"  # eq 8
            flat = torch.relu(infer(fused) + flat) if inside else torch.relu(infer(fused)) + flat
            nodes = real.put(flat)
        return nodes

    def _weights(self, gathered: Tensor, real: Rows) -> Tensor:
        """(T, D), the softmax of eq 5 over the numbers of a node or over the nodes."""
        if self.softmax == "feature":
            weights = gathered.softmax(-1)
            return weights * weights.shape[-1] if self.weight == "mean" else weights
        mask = real.mask.unsqueeze(-1)
        padded = masked_softmax(real.put(gathered), mask, dim=1)
        return real.take(padded * mask.sum(dim=1, keepdim=True) if self.weight == "mean" else padded)

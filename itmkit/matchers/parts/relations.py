"""SRGR: the similarity vectors of a pair as a graph that is reconstructed (MPSM section 3.4, eqs 16-20)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from itmkit.matchers.parts.norms import MaskedBatchNorm

Edges = Literal["sum", "product"]


class RelationReconstruction(nn.Module):
    """SRGR, eqs 16-20: nodes are the similarity vectors of a pair, the global one first."""

    def __init__(self, size: int, steps: int, *, edges: Edges = "sum") -> None:
        """size: S of the vectors. edges: see `_SumEdges` and `_ProductEdges`."""
        super().__init__()
        self.steps = nn.ModuleList(_ReconstructionStep(size, edges) for _ in range(steps))

    @torch.no_grad()
    def start_as_mean(self, *, of_mark: int, constant: int) -> None:
        """Begins as weighted means of the nodes. The one in which number `of_mark` is large weighs about 20 others.

        `constant`: which number is the same in all vectors.
        """
        for step in self.steps:
            assert isinstance(step, _ReconstructionStep)
            step.start_as_mean(of_mark=of_mark, constant=constant)

    def forward(self, graphs: list[Tensor], mask: Tensor, *, only_first: bool) -> list[Tensor]:
        """Blocks of images.

        graphs: (n, Bt, M, S) each; mask (Bt, M) -> the same shapes, or (n, Bt, 1, S) where only the first is needed.
        """
        for number, step in enumerate(self.steps, 1):
            wanted = 1 if only_first and number == len(self.steps) else len(mask[0])
            graphs = step(graphs, mask, wanted)
        return graphs


class _ReconstructionStep(nn.Module):
    """Edges "sum", eq 16 as printed: `sigmoid(BN(w_out . s_a) + BN(w_in . s_b))`, where each end has one number.

    The print concatenates two scalars; a linear map of a concatenation is the sum of two linear maps. What is
    normalised over b then hardly depends on a.

    Edges "product", with the m x m maps that eq 17 gives its edges: `sigmoid(BN((W_out s_a) . (W_in s_b)))`, so that an
    edge depends on its two ends together. BN has the statistics of the edges that are used.
    """

    def __init__(self, size: int, edges: Edges) -> None:
        super().__init__()
        self.of_sums = edges == "sum"
        self.outgoing = nn.Linear(size, 1 if self.of_sums else size, bias=False)  # W_out, eq 16
        self.incoming = nn.Linear(size, 1 if self.of_sums else size, bias=False)  # W_in, eq 16
        if self.of_sums:
            self.outgoing_norm, self.incoming_norm = MaskedBatchNorm(), MaskedBatchNorm()
        else:
            self.norm = MaskedBatchNorm()
        self.gate = nn.Linear(2 * size, size)  # eq 18
        self.refine_outgoing = nn.Linear(size, size, bias=False)  # W*_1, eq 19
        self.refine_incoming = nn.Linear(size, size, bias=False)  # W*_2, eq 19
        self.fuse = nn.Linear(size, size)  # W*, b*, eq 20

    @torch.no_grad()
    def start_as_mean(self, *, of_mark: int, constant: int) -> None:
        """See `RelationReconstruction.start_as_mean`. `constant`: a number that is the same in all vectors."""
        if self.of_sums:
            for edge, norm in ((self.outgoing, self.outgoing_norm), (self.incoming, self.incoming_norm)):
                edge.weight.zero_()
                edge.weight[0, of_mark] = 1
                norm.bias.fill_(-3.5)
        else:
            # Every node looks for the mark: by the constant of one end it is asked for at the other.
            for edge in (self.outgoing, self.incoming):
                edge.weight.mul_(0.1)
            self.outgoing.weight[:2].zero_()
            self.incoming.weight[:2].zero_()
            self.outgoing.weight[0, constant] = self.incoming.weight[0, of_mark] = 1
            self.outgoing.weight[1, of_mark] = self.incoming.weight[1, constant] = 1
            self.norm.bias.fill_(-3.5)
        self.refine_outgoing.weight.mul_(0.1)
        self.refine_incoming.weight.mul_(0.1)
        self.fuse.weight.copy_(torch.eye(len(self.fuse.weight)) / 2)

    def forward(self, graphs: list[Tensor], mask: Tensor, wanted: int) -> list[Tensor]:
        """-> (n, Bt, wanted, S): the first `wanted` nodes of each graph reconstructed from all."""
        logits = self._sums(graphs, mask, wanted) if self.of_sums else self._products(graphs, mask, wanted)
        return [self._reconstruct(nodes, edges, mask) for nodes, edges in zip(graphs, logits, strict=True)]

    # Both -> logits (n, Bt, 2 wanted, M) of each block: edges a -> b of the first `wanted` nodes, then edges b -> a. BN
    # has the statistics of all pairs, so no block can be finished before the last one is here.

    def _sums(self, graphs: list[Tensor], mask: Tensor, wanted: int) -> list[Tensor]:
        both = torch.cat([self.outgoing.weight, self.incoming.weight])
        ends = torch.cat([functional.linear(nodes, both) for nodes in graphs])  # (Bi, Bt, M, 2)
        out, into = self.outgoing_norm(ends[..., 0], mask), self.incoming_norm(ends[..., 1], mask)
        to_b = out[:, :, :wanted, None] + into[:, :, None, :]
        from_b = into[:, :, :wanted, None] + out[:, :, None, :]
        sizes = [len(nodes) for nodes in graphs]
        return list(torch.split(torch.cat([to_b, from_b], dim=2), sizes))  # type: ignore[no-untyped-call]

    def _products(self, graphs: list[Tensor], mask: Tensor, wanted: int) -> list[Tensor]:
        product = self.incoming.weight.T @ self.outgoing.weight  # (W_out x) . (W_in y) = y . (W_in^T W_out x)
        both = torch.cat([product, product.T])
        found = []
        for nodes in graphs:
            asked = functional.linear(nodes[:, :, :wanted], both)  # (n, Bt, wanted, 2 S)
            found.append(torch.cat(asked.chunk(2, dim=-1), dim=2) @ nodes.transpose(2, 3))
        used = (mask[:, :wanted, None] & mask[:, None, :]).repeat(1, 2, 1)  # (Bt, 2 wanted, M)
        sizes = [len(nodes) for nodes in graphs]
        return list(torch.split(self.norm(torch.cat(found), used), sizes))  # type: ignore[no-untyped-call]

    def _reconstruct(self, nodes: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        edges = torch.sigmoid(logits) * mask[:, None, :]
        gathered = (edges / edges.sum(-1, keepdim=True)) @ nodes  # eq 16 and 17
        leaving, arriving = gathered.chunk(2, dim=2)  # (n, Bt, wanted, S) each
        kept = torch.sigmoid(self.gate(torch.cat([leaving, arriving], dim=-1)))  # eq 18
        leaving = self.refine_outgoing(kept * leaving) + leaving  # eq 19
        arriving = self.refine_incoming(kept * arriving) + arriving
        return self.fuse(leaving + arriving)  # eq 20

"""The similarity vectors of image-text pairs as the nodes of graphs, one graph a pair (SGRAF).

Shape letters: see `itmkit.inputs`. N nodes of all texts, M nodes of a text (padded).
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from itmkit.matchers.parts.attention import FlatWords
from itmkit.matchers.parts.norms import masked_softmax


class Graphs:
    """Where the similarity vectors of every image-text pair lie as nodes of a graph of their own.

    The nodes of all texts lie end to end, (Bi, N, S), so that no time goes into padding: first the global one of each
    text (if there are any), then all words; or, where all texts are equally long, one text after the other, each with
    its global node first, so that padded and flat are the same tensor.
    """

    def __init__(self, words: FlatWords, *, with_global: bool) -> None:
        self.words, self.even = words, words.even
        self.mask = functional.pad(words.mask, (1, 0), value=True) if with_global else words.mask  # (Bt, M)

    @cached_property
    def _unpadded(self) -> Tensor:
        """(N,) int64: place of each node in the padded order, (Bt * M)."""
        places = torch.arange(self.mask.numel(), device=self.mask.device).view_as(self.mask)
        extra = self.mask.shape[1] - self.words.mask.shape[1]  # 1 with global nodes
        return torch.cat([places[:, :extra].flatten(), places[:, extra:][self.words.mask]])

    @cached_property
    def _padded(self) -> Tensor:
        """(Bt * M,) int64: place of each node in the flat order; 0 for padding."""
        padded = self._unpadded.new_zeros(self.mask.numel())
        padded[self._unpadded] = torch.arange(len(self._unpadded), device=padded.device)
        return padded

    def join(self, whole: Tensor | None, local: Tensor | None) -> Tensor:
        """Global nodes (Bi, Bt, S) and those of words (Bi, T, S) -> (Bi, N, S)."""
        if whole is None or local is None:
            return whole if local is None else local  # type: ignore[return-value]
        if not self.even:
            return torch.cat([whole, local], dim=1)
        return torch.cat([whole.unsqueeze(2), self.words.pad(local, dim=1)], dim=2).flatten(1, 2)

    def pad(self, nodes: Tensor) -> Tensor:
        """(Bi, N, ...) -> (Bi, Bt, M, ...); what lies in padded places is meaningless and must be masked."""
        if not nodes.shape[1]:  # no node at all, of which one could lie there
            return nodes.new_zeros(len(nodes), *self.mask.shape, *nodes.shape[2:])
        nodes = nodes if self.even else nodes.index_select(1, self._padded)
        return torch.unflatten(nodes, 1, self.mask.shape)

    def unpad(self, nodes: Tensor) -> Tensor:
        """(Bi, Bt, M, ...) -> (Bi, N, ...)."""
        flat = nodes.flatten(1, 2)
        return flat if self.even else flat.index_select(1, self._unpadded)

    def sum(self, nodes: Tensor) -> Tensor:
        """(Bi, N, S) -> (Bi, Bt, S), the sum over the nodes of each graph."""
        if self.even:
            return self.pad(nodes).sum(dim=2)
        sums = nodes.new_zeros(len(nodes), len(self.mask), nodes.shape[-1])
        return sums.index_add(1, self._unpadded // self.mask.shape[1], nodes)

    def mean(self, nodes: Tensor) -> Tensor:
        """(Bi, N, S) -> (Bi, Bt, S), over the nodes of each graph; zero where it has none."""
        return self.sum(nodes) / self.mask.sum(dim=1, keepdim=True).clamp_min(1)

    def scale(self, nodes: Tensor, by: Tensor) -> Tensor:
        """nodes (Bi, N, S) times what their graph has, by (Bi, Bt, S)."""
        if self.even:
            return (self.pad(nodes) * by.unsqueeze(2)).flatten(1, 2)
        return nodes * by.index_select(1, self._unpadded // self.mask.shape[1])

    def softmax(self, logits: Tensor) -> Tensor:
        """(Bi, N) -> (Bi, N), over the nodes of each graph."""
        return self.unpad(masked_softmax(self.pad(logits), self.mask))

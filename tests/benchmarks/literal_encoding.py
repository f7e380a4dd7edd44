"""Encoders as the papers print them, to measure training against: padding is run along, every printed map is a product.

itmkit's own give the same numbers with fewer products. Only what differs from them is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from itmkit.matchers.parts import recurrent
from itmkit.matchers.parts.dissemination import KnowledgeDissemination
from itmkit.matchers.parts.norms import masked_softmax
from itmkit.matchers.parts.pooling import MeanQueryPooling, masked_mean


@contextmanager
def literal_encoders() -> Iterator[None]:
    with (
        patch.object(KnowledgeDissemination, "forward", _kgid),
        patch.object(MeanQueryPooling, "weights", _weights),
        patch.object(recurrent, "gradients_by_hand", lambda *_: False),
    ):
        yield


def _kgid(self: Any, nodes: Tensor, mask: Tensor, edges: Tensor, support: Tensor | None = None) -> Tensor:
    """MPSM eqs 5-9, on one graph."""
    edges = edges.squeeze(1)
    real, pairs = mask.unsqueeze(-1), mask.unsqueeze(1) & mask.unsqueeze(2)
    for layer, (spread, infer) in enumerate(zip(self.spread, self.infer, strict=True)):
        if layer > 0:
            out, into = self.outgoing[layer - 1](nodes), self.incoming[layer - 1](nodes)
            allowed = pairs & support if support is not None and layer == 1 else pairs
            edges = masked_softmax(self.sharpness * out @ into.transpose(1, 2), allowed)
        known = spread(edges @ nodes).softmax(-1) * nodes
        gate = torch.sigmoid(known * nodes + nodes)
        fused = gate * known + (1 - gate) * nodes
        nodes = torch.relu(infer(fused) + nodes) * real
    return nodes


def _weights(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    """SGRAF's and MPSM's pooling: W1((W2 x) * (W3 mean(x)))."""
    logits = self.weigh(self.key(x) * self.query(masked_mean(x, mask)).unsqueeze(1)).squeeze(-1)
    return masked_softmax(logits, mask)

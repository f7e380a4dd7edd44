"""The attribute head of the bottom-up attention model: "red", "wooden", "smiling" for a box and its class."""

from __future__ import annotations

import torch
from torch import nn


class AttributeHead(nn.Module):
    """Reads attributes from a box's feature and its most probable class.

    Args:
        features: width D of a box's feature. classes: C, without the background. attributes: A, without "none".
    """

    def __init__(self, features: int = 2048, classes: int = 1600, attributes: int = 400) -> None:
        super().__init__()
        self.cls_embedding = nn.Embedding(classes + 1, features // 8)
        self.fc_attr = nn.Linear(features + features // 8, features // 4)
        self.attr_score = nn.Linear(features // 4, attributes + 1)

    def forward(self, features: torch.Tensor, class_logits: torch.Tensor) -> torch.Tensor:
        """Attribute logits (n, A + 1), "none" last, of features (n, D) and class logits (n, C + 1), background last."""
        embedded = self.cls_embedding(class_logits.argmax(1))
        hidden = self.fc_attr(torch.cat([features, embedded], 1)).relu()
        return self.attr_score(hidden)

    def probabilities(self, features: torch.Tensor, class_logits: torch.Tensor) -> torch.Tensor:
        """(n, A): the attributes compete among themselves, "none" is left out."""
        return self(features, class_logits)[:, :-1].softmax(1)

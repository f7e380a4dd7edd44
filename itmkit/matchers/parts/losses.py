"""The triplet loss of the field, over all pairs of a batch, and the contrastive loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Negatives = Literal["hardest", "all", "soft"]


def triplet_loss(
    scores: Tensor, image_of: Tensor, *, margin: float, negatives: Negatives, temperature: float = 0.1
) -> Tensor:
    """Bidirectional hinge triplet loss, summed over the captions of the batch and both directions.

    Each caption t with its image i is one positive pair. Its negatives are the other images for t, and for i the
    captions of other images: captions of the same image are never negatives of it. With `h = margin + s- - s+`:
    "hardest": `max(0, h)` of the largest negative (VSE++); "all": the sum of `max(0, h)` over the negatives;
    "soft": `tau * log sum exp(h / tau)` over them, between the two.

    Args:
        scores: (Bi, Bt), every image of the batch with every caption.
        image_of: (Bt,) int64, the image of each caption.

    Returns:
        A scalar. A batch whose captions all belong to one image has no negatives and gives 0.
    """
    captions = torch.arange(scores.shape[1], device=scores.device)
    positive = scores[image_of, captions]  # (Bt,)
    is_own = torch.arange(scores.shape[0], device=scores.device)[:, None] == image_of  # (Bi, Bt)
    to_images = margin + scores.T - positive[:, None]  # (Bt, Bi) other images for each caption
    to_texts = margin + scores[image_of] - positive[:, None]  # (Bt, Bt) other captions for each caption's image
    return _hinge(to_images, is_own.T, negatives, temperature) + _hinge(
        to_texts, is_own[image_of], negatives, temperature
    )


def _hinge(violations: Tensor, excluded: Tensor, negatives: Negatives, temperature: float) -> Tensor:
    if negatives == "all":
        return violations.clamp_min(0).masked_fill(excluded, 0).sum()
    barred = violations.masked_fill(excluded, -torch.inf)
    has_negative = ~excluded.all(dim=1)
    if not has_negative.any():
        return violations.sum() * 0
    if negatives == "hardest":
        return barred[has_negative].max(dim=1).values.clamp_min(0).sum()
    return temperature * (barred[has_negative] / temperature).logsumexp(dim=1).sum()


def contrast(logits: Tensor, positive: Tensor) -> Tensor:
    """InfoNCE with all positives (Khosla et al. 2020, the loss with the sum outside the logarithm).

    Per row the mean of `-log softmax` over the positives, summed over the rows that have any.

    Args:
        logits: (n, m), cosines over tau.
        positive: (n, m) bool.
    """
    share = positive / positive.sum(dim=1, keepdim=True).clamp_min(1)
    return -(logits.log_softmax(dim=1) * share).sum()

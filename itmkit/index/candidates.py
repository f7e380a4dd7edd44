"""One vector an image and one a caption, whose product finds candidates for the matcher.

Methods that learn a vector of the whole image have it themselves. For purely local methods the mean of the regions, and
of the words, stands for it. Members lie side by side, scaled so that a product is the weighted mean of their cosines.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from itmkit.matchers import Encoded
from itmkit.matchers.parts.norms import l2norm
from itmkit.matchers.parts.pooling import masked_mean

WHOLE = ("vector", "global")  # what methods call the vector of a whole image or caption


def candidate_vectors(encoded: Mapping[str, Encoded], weights: Mapping[str, float]) -> np.ndarray:
    """(n, C) float32 of n encoded images, or captions: unit vectors of the members side by side.

    Args:
        encoded: member -> what it made of the images (or captions).
        weights: of the members in the mean of their scores.
    """
    total = sum(weights[member] for member in encoded)
    parts = [_one(each) * (weights[member] / total) ** 0.5 for member, each in encoded.items()]
    return torch.cat(parts, dim=1).float().cpu().numpy()


def _one(encoded: Encoded) -> torch.Tensor:
    """(n, D) of unit length; zeros for an image without regions."""
    for name in WHOLE:
        if name in encoded:
            return l2norm(encoded[name].float())
    return l2norm(masked_mean(encoded["nodes"].float(), encoded["mask"]))

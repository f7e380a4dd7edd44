"""CHAN in double precision: one image, one caption, one word, one region at a time.

Nothing is batched, padded or masked, and nothing is shared with the package but the trained weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.matchers.literal_glfn import Text, encode_text
from tests.matchers.literal_mpsm import Vector, Weights, below, region_vectors, unit
from tests.matchers.literal_scl import attention, layer_norm


def encode_image(weights: Weights, config: Any, features: np.ndarray) -> list[Vector]:
    regions = region_vectors(below(weights, "regions."), features, normalised=False)
    if config.self_attention:
        normed = [layer_norm(below(weights, "attention.norm."), region) for region in regions]
        seen = attention(below(weights, "attention.attention."), normed, config.heads)
        regions = [region + more for region, more in zip(regions, seen, strict=True)]
    return [unit(region) for region in regions]


def alignment(regions: list[Vector], words: list[Vector]) -> list[tuple[float, int]]:
    """Of each word the largest cosine, and the region that it is with."""
    found = []
    for word in words:
        best, where = -math.inf, -1
        for place, region in enumerate(regions):
            cosine = float(region @ word)
            if cosine > best:
                best, where = cosine, place
        found.append((best, where))
    return found


def score(weights: Weights, config: Any, features: np.ndarray, text: Text) -> float:
    aligned = alignment(encode_image(weights, config, features), encode_text(weights, config, text))
    if config.pool == "mean":
        return sum(best for best, _ in aligned) / len(aligned)
    return math.log(sum(math.exp(config.lse_sharpness * best) for best, _ in aligned))

"""VSE-infinity in double precision: one image, one caption, one of the D numbers at a time.

Nothing is batched, padded or masked, and nothing is shared with the package but the trained weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.matchers.literal_glfn import Text, encode_text
from tests.matchers.literal_mpsm import Vector, Weights, below, gru, region_vectors, softmax, unit
from tests.matchers.literal_scl import attention, layer_norm, linear


def position(place: int, size: int) -> Vector:
    """Vaswani et al., section 3.5."""
    found = []
    for pair in range(size // 2):
        angle = place / 10_000 ** (2 * pair / size)
        found += [math.sin(angle), math.cos(angle)]
    return np.array(found)


def gpo_weights(weights: Weights, count: int) -> list[float]:
    """Eq 6 and figure 3: theta of the k-th largest of `count` values."""
    positions = [position(place, 32) for place in range(count)]
    forward = gru(below(weights, "gru."), positions, "")
    backward = gru(below(weights, "gru."), positions[::-1], "_reverse")[::-1]
    logits = [float((weights["weigh.weight"] @ ((a + b) / 2))[0]) / 0.1 for a, b in zip(forward, backward, strict=True)]
    return softmax(logits)


def transformer_layer(weights: Weights, xs: list[Vector], heads: int) -> list[Vector]:
    """Vaswani et al., section 3.1: norms after the additions, ReLU between the linear maps."""
    found = []
    for x, attended in zip(xs, attention(below(weights, "self_attn."), xs, heads), strict=True):
        x = layer_norm(below(weights, "norm1."), x + attended)
        hidden = np.array([max(value, 0.0) for value in linear(below(weights, "linear1."), x)])
        found.append(layer_norm(below(weights, "norm2."), x + linear(below(weights, "linear2."), hidden)))
    return found


def pooled(weights: Weights, config: Any, xs: list[Vector]) -> Vector:
    """One vector of a set, number by number."""
    found = np.zeros(len(xs[0]))
    for d in range(len(found)):
        values = sorted((float(x[d]) for x in xs), reverse=True)
        if config.pooling == "gpo":
            found[d] = sum(theta * value for theta, value in zip(gpo_weights(weights, len(xs)), values, strict=True))
        elif config.pooling == "esa":
            shares = softmax([float(weights["weigh.weight"][d] @ x) for x in xs])
            found[d] = sum(share * float(x[d]) for share, x in zip(shares, xs, strict=True))
        elif config.pooling == "top2":
            found[d] = 0.8 * sum(values[:2]) / len(values[:2])
        else:
            found[d] = sum(values) / len(values)
    if config.pooling == "top2":
        related = transformer_layer(below(weights, "layer."), xs, config.heads)
        found = found + 0.2 * sum(related) / len(related)
    return found


def score(weights: Weights, config: Any, features: np.ndarray, text: Text) -> float:
    regions = region_vectors(below(weights, "regions."), features, normalised=False)
    words = encode_text(weights, config, text, normalised=False)
    image = pooled(below(weights, "image_pooling."), config, regions)
    caption = pooled(below(weights, "text_pooling."), config, words)
    return float(unit(image) @ unit(caption))

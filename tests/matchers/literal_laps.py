"""LAPS in double precision: one image, one caption, one token, one patch at a time, and every token formed.

Nothing is batched, padded or masked, and nothing is shared with the package but the trained weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.matchers.literal_glfn import Text, cosine, encode_text
from tests.matchers.literal_mpsm import Vector, Weights, below, region_vectors, softmax, unit
from tests.matchers.literal_scl import gelu, layer_norm, linear


def relevance(config: Any, patches: list[Vector], words: list[Vector]) -> list[float]:
    """Of each patch to the image and to the caption."""
    image, caption = sum(patches) / len(patches), sum(words) / len(words)
    chosen_by = [image, caption] if config.caption_chooses else [image]
    return [sum(cosine(patch, by) for by in chosen_by) for patch in patches]


def chosen(config: Any, found: list[float]) -> tuple[list[int], list[int]]:
    """The places of the kept patches, and of the rest."""
    count = math.ceil(round(len(found) * config.keep, 9))
    order = sorted(range(len(found)), key=lambda place: -found[place])
    return order[:count], order[count:]


def token_logits(weights: Weights, patch: Vector) -> Vector:
    normed = layer_norm(below(weights, "logits.0."), patch)
    hidden = gelu(linear(below(weights, "logits.1."), normed))
    return weights["scale"] * linear(below(weights, "logits.3."), hidden)


def tokens_of(weights: Weights, config: Any, patches: list[Vector], words: list[Vector]) -> list[Vector]:
    of = relevance(config, patches, words)
    kept, rest = chosen(config, of)
    logits = [token_logits(below(weights, "tokens."), patches[place]) for place in kept]
    tokens = []
    for j in range(len(logits[0])):
        token = np.zeros_like(patches[0])
        for share, place in zip(softmax([each[j] for each in logits]), kept, strict=True):
            token = token + share * patches[place]
        tokens.append(token)
    if rest:
        token = np.zeros_like(patches[0])
        for share, place in zip(softmax([of[place] for place in rest]), rest, strict=True):
            token = token + share * patches[place]
        tokens.append(token)
    return [unit(token) for token in tokens]


def score(weights: Weights, config: Any, features: np.ndarray, whole: np.ndarray, text: Text) -> float:
    patches = region_vectors(below(weights, "patches."), features, normalised=False)
    words = encode_text(weights, config, text)
    tokens = tokens_of(weights, config, patches, words)
    if config.class_vectors == "image":
        tokens.append(unit(region_vectors(below(weights, "patches."), whole[None], normalised=False)[0]))
    alike = np.zeros((len(words), len(tokens)))
    for place, word in enumerate(words):
        for j, token in enumerate(tokens):
            value = float(word @ token)
            alike[place, j] = value if value > 0 else 0.1 * value
    of_words = sum(max(row) for row in alike) / len(words)
    return of_words + sum(max(column) for column in alike.T) / len(tokens)

"""GLFN, PFAN and SCAN written from the equations in double precision: one image, one text, one pair at a time.

Nothing is batched, padded or masked, attended vectors are formed, and nothing is shared with the package but the
trained weights. Where the print leaves something open, the reading is the one that `itmkit.matchers.glfn` states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.matchers.literal_mpsm import Vector, Weights, below, gru, region_vectors, softmax, unit, word_vectors


@dataclass
class Image:
    features: np.ndarray  # (regions, F)
    tags: np.ndarray  # (regions, V)
    blocks: np.ndarray  # (regions, K) numbers from 1, 0 where a slot is empty
    shares: np.ndarray  # (regions, K), eq 5


@dataclass
class Text:
    words: list[int]
    vectors: np.ndarray  # (words, V)


def position(weights: Weights, region: Vector, blocks: np.ndarray, shares: np.ndarray) -> Vector:
    """Eqs 6 to 12 for one region."""
    slots = [slot for slot, block in enumerate(blocks) if block > 0]
    vectors = [weights["embedding.weight"][blocks[slot]] for slot in slots]  # eq 6
    if not slots:
        return np.zeros(weights["embedding.weight"].shape[1])
    query = weights["query.weight"] @ region  # eq 7
    attention = softmax([math.tanh(float(query @ vector)) for vector in vectors])  # eqs 8, 9
    products = [a * float(shares[slot]) for a, slot in zip(attention, slots, strict=True)]  # eq 10
    found = np.zeros_like(vectors[0])
    for product, vector in zip(products, vectors, strict=True):
        found = found + product / sum(products) * vector  # eqs 11, 12
    return found


def encode_image(weights: Weights, config: Any, image: Image) -> list[Vector]:
    fused = []
    for i, feature in enumerate(image.features):
        region = np.concatenate([feature, image.tags[i]]) if config.tags else feature  # eq 1
        if config.positions:
            lies = position(below(weights, "positions."), region, image.blocks[i], image.shares[i])
            region = np.concatenate([region, lies])  # eq 13
        fused.append(region)
    return region_vectors(below(weights, "regions."), np.array(fused))  # eq 14


def encode_text(weights: Weights, config: Any, text: Text, *, normalised: bool = True) -> list[Vector]:
    """Eqs 15 to 27, or the words of the ablations."""
    mine = below(weights, "words.")
    if config.words == "gru":
        return word_vectors(mine, text.words, normalised=normalised)
    if getattr(config, "compress", True):  # the other methods always have the linear map
        reduced = [mine["reduce.weight"] @ vector + mine["reduce.bias"] for vector in text.vectors]  # eq 16
    else:
        reduced = list(text.vectors)
    if config.words == "bert":
        return [unit(vector) if normalised else vector for vector in reduced]
    forward = gru(below(mine, "gru."), reduced, "")
    backward = gru(below(mine, "gru."), reduced[::-1], "_reverse")[::-1]
    means = [(a + b) / 2 for a, b in zip(forward, backward, strict=True)]
    return [unit(mean) if normalised else mean for mean in means]  # eq 27


def cosine(x: Vector, y: Vector) -> float:
    return float(unit(x) @ unit(y))


def pooled(values: list[float], lse: float | None) -> float:
    """The mean, or SCAN's LogSumExp."""
    if lse is None:
        return sum(values) / len(values)
    return math.log(sum(math.exp(lse * value) for value in values)) / lse


def stacked(
    queries: list[Vector], context: list[Vector], sharpness: float, *, lse: float | None = None, bonus: float = 0.0
) -> float:
    """Section 3.4.1 with SCAN's attention: the `queries`' cosines with what they attend to, pooled."""
    if not queries or not context:
        return 0.0
    raised = np.zeros((len(context), len(queries)))
    for c, seen in enumerate(context):
        for q, query in enumerate(queries):
            value = cosine(seen, query)
            raised[c, q] = value if value > 0 else 0.1 * value
        raised[c] = unit(raised[c])
    cosines, largest = [], []
    for q, query in enumerate(queries):
        attention = softmax([sharpness * raised[c, q] for c in range(len(context))])
        attended = np.zeros_like(query)
        for weight, seen in zip(attention, context, strict=True):
            attended = attended + weight * seen
        cosines.append(cosine(attended, query))
        largest.append(max(attention))
    return pooled(cosines, lse) + (bonus * pooled(largest, lse) if bonus else 0)


def scores(weights: Weights, config: Any, member: str, images: list[Image], texts: list[Text]) -> np.ndarray:
    """(images, texts) scores of one member."""
    result = np.zeros((len(images), len(texts)))
    for i, image in enumerate(images):
        regions = encode_image(weights, config, image)
        for t, text in enumerate(texts):
            words = encode_text(weights, config, text)
            if member == "t2i":
                lse = config.lse_sharpness_t2i if config.pool_t2i == "lse" else None
                result[i, t] = stacked(words, regions, config.sharpness_t2i, lse=lse, bonus=config.attention_bonus)
            else:
                lse = config.lse_sharpness_i2t if config.pool_i2t == "lse" else None
                result[i, t] = stacked(regions, words, config.sharpness_i2t, lse=lse)
    return result

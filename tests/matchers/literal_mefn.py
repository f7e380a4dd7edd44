"""MEFN written from the paper's section 3 in double precision: one image, one text, one pair at a time, loop by loop.

The features of a pair are scaled by their weights before anything else looks at them, as the paper has it. Nothing is
batched, padded or masked. Where the print leaves something open, the reading is that of `itmkit.matchers.mefn`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.matchers.literal_mpsm import (
    Vector,
    Weights,
    attend,
    below,
    gru,
    region_vectors,
    sigmoid,
    softmax,
    unit,
    word_vectors,
)


def frozen_word_vectors(weights: Weights, kind: str, vectors: np.ndarray) -> list[Vector]:
    """Words from frozen vectors, with or without a GRU."""
    inputs = [weights["reduce.weight"] @ vector + weights["reduce.bias"] for vector in vectors]
    if kind == "bert":
        return [unit(vector) for vector in inputs]
    forward = gru(below(weights, "gru."), inputs, "")
    backward = gru(below(weights, "gru."), inputs[::-1], "_reverse")[::-1]
    return [unit((forward[place] + backward[place]) / 2) for place in range(len(inputs))]


def text_nodes(weights: Weights, config: Any, text: Any) -> list[Vector]:
    """text: word numbers, or the frozen vectors of the words."""
    mine = below(weights, "words.")
    return word_vectors(mine, text) if config.words == "gru" else frozen_word_vectors(mine, config.words, text)


def image_nodes(weights: Weights, features: np.ndarray) -> list[Vector]:
    return region_vectors(below(weights, "regions."), features)


def entropy(probabilities: list[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def entropies(
    weights: Weights, kind: str, regions: list[Vector], words: list[Vector], certainty: str = "either"
) -> tuple[list, list, np.ndarray]:
    """Of each region, of each word, and the map of figure 2."""
    tau = math.exp(float(weights["log_tau"]))
    cosine = [[float(unit(region) @ unit(word)) for word in words] for region in regions]
    cells = np.zeros((len(regions), len(words)))
    if kind == "pair":
        for i in range(len(regions)):
            for j in range(len(words)):
                q = float(sigmoid((cosine[i][j] - float(weights["threshold"])) / tau))
                cells[i, j] = entropy([q, 1 - q]) / math.log(2)
                if certainty == "match" and q < 0.5:
                    cells[i, j] = 1
        of_regions = [sum(cells[i]) / len(words) for i in range(len(regions))]
        of_words = [sum(cells[:, j]) / len(regions) for j in range(len(words))]
        return of_regions, of_words, cells
    # The entropy of a choice among n over the largest, log n; a choice among one has none.
    of_regions, of_words = [0.0] * len(regions), [0.0] * len(words)
    for i in range(len(regions)):
        if len(words) > 1:
            chosen = softmax([cosine[i][j] / tau for j in range(len(words))])
            of_regions[i] = entropy(chosen) / math.log(len(words))
            for j, p in enumerate(chosen):
                cells[i, j] += entropy([p]) * len(words) / math.log(len(words)) / 2
    for j in range(len(words)):
        if len(regions) > 1:
            chosen = softmax([cosine[i][j] / tau for i in range(len(regions))])
            of_words[j] = entropy(chosen) / math.log(len(regions))
            for i, p in enumerate(chosen):
                cells[i, j] += entropy([p]) * len(regions) / math.log(len(regions)) / 2
    return of_regions, of_words, cells


def fusion_weights(entropies: list[float], temperature: float) -> list[float]:
    return [len(entropies) * weight for weight in softmax([-value / temperature for value in entropies])]


def pooling_weights(weights: Weights, nodes: list[Vector]) -> list[float]:
    """Attention with the mean as query."""
    query = weights["query.weight"] @ (sum(nodes) / len(nodes))
    return softmax([float(weights["weigh.weight"][0] @ ((weights["key.weight"] @ node) * query)) for node in nodes])


def mean(vectors: list[Vector]) -> Vector:
    return sum(vectors) / len(vectors)


def fuse(weights: Weights, local: Vector | None, globally: Vector | None) -> Vector:
    """Weighted fusion: gate, LayerNorm, unit length."""
    if local is not None and globally is not None:
        gate = sigmoid(weights["gate.weight"] @ np.concatenate([local, globally]) + weights["gate.bias"])
        fused = gate * local + (1 - gate) * globally
    else:
        fused = globally if local is None else local
        assert fused is not None
    centred = fused - sum(fused) / len(fused)
    normal = centred / math.sqrt(sum(centred**2) / len(fused) + 1e-8)
    return unit(normal * weights["norm.weight"] + weights["norm.bias"])


def class_vector(weights: Weights, vector: Vector | None) -> Vector | None:
    """A stored [CLS] vector in the common space."""
    return None if vector is None else unit(weights["weight"] @ vector + weights["bias"])


def pair(
    weights: Weights,
    config: Any,
    regions: list[Vector],
    words: list[Vector],
    whole: Vector | None = None,
    sentence: Vector | None = None,
) -> tuple[float, float]:
    """The score of an image and a text, and MFE over the number of its terms. whole, sentence: of [CLS], if read."""
    scaled_regions, scaled_words, mfe = regions, words, 0.0
    if config.mfe:
        mine = below(weights, "entropy.")
        of_regions, of_words, cells = entropies(mine, config.entropy, regions, words, config.certainty)
        temperature = config.weight_temperature
        weighted = fusion_weights(of_regions, temperature)
        scaled_regions = [weight * region for weight, region in zip(weighted, regions, strict=True)]
        weighted = fusion_weights(of_words, temperature)
        scaled_words = [weight * word for weight, word in zip(weighted, words, strict=True)]
        mfe = float(cells.sum()) / cells.size  # eq 1
    local_image = local_text = global_image = global_text = None
    if config.local_attention:
        local_image = mean(attend(scaled_regions, scaled_words, config.sharpness))
        local_text = mean(attend(scaled_words, scaled_regions, config.sharpness_i2t))
    if config.global_attention:
        global_image, global_text = whole, sentence
        if global_image is None:
            pooling = pooling_weights(below(weights, "image_pooling."), regions)
            global_image = sum(weight * region for weight, region in zip(pooling, scaled_regions, strict=True))
        if global_text is None:
            global_text = mean(scaled_words)
        if config.local_attention:
            mine = below(weights, "consistency.")
            agree = sigmoid(float(mine["scale"]) * float(global_image @ global_text) + float(mine["offset"]))
            global_image, global_text = agree * global_image, agree * global_text
    image = fuse(below(weights, "image_fusion."), local_image, global_image)
    text = fuse(below(weights, "text_fusion."), local_text, global_text)
    return -sum((image - text) ** 2), mfe


def scores(
    weights: Weights,
    config: Any,
    images: list[np.ndarray],
    texts: list[Any],
    wholes: list[Vector],
    sentences: list[Vector],
) -> tuple[np.ndarray, np.ndarray]:
    """(images, texts) scores and mean entropies. wholes, sentences: the stored [CLS] vectors."""
    reads = config.class_vectors
    encoded_images = [
        (
            image_nodes(weights, image),
            class_vector(below(weights, "whole."), whole if reads in ("image", "both") else None),
        )
        for image, whole in zip(images, wholes, strict=True)
    ]
    encoded_texts = [
        (
            text_nodes(weights, config, text),
            class_vector(below(weights, "sentence."), sentence if reads in ("text", "both") else None),
        )
        for text, sentence in zip(texts, sentences, strict=True)
    ]
    found = np.array(
        [
            [pair(weights, config, regions, words, whole, sentence) for words, sentence in encoded_texts]
            for regions, whole in encoded_images
        ]
    )
    return found[..., 0], found[..., 1]

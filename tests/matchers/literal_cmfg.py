"""CMFG written from the paper's equations in double precision: one graph of one pair at a time, loop by loop.

Nothing is batched, padded or masked, nothing is shared with the package but the trained weights, nothing is computed
ahead of its pair. Readings are those that `itmkit.matchers.cmfg` states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.matchers.literal_mpsm import Vector, Weights, below, gru, region_vectors, softmax, unit, word_vectors


@dataclass
class Image:
    features: np.ndarray  # (patches, F)
    attention: list[float]


@dataclass
class Text:
    words: list[int]
    vectors: np.ndarray  # (words, V)


def image_nodes(weights: Weights, config: Any, image: Image) -> list[Vector]:
    features = list(image.features)
    if config.image_nodes:
        best = sorted(range(len(features)), key=lambda patch: (-image.attention[patch], patch))
        features = [features[patch] for patch in best[: config.image_nodes]]
    return region_vectors(below(weights, "regions."), np.array(features), normalised=config.unit_nodes)


def text_nodes(weights: Weights, config: Any, text: Text) -> list[Vector]:
    mine = below(weights, "words.")
    if config.words == "gru":
        return word_vectors(mine, text.words, normalised=config.unit_nodes)
    nodes = [mine["reduce.weight"] @ vector + mine["reduce.bias"] for vector in text.vectors]
    if config.words == "bert+gru":
        forward = gru(below(mine, "gru."), nodes, "")
        backward = gru(below(mine, "gru."), nodes[::-1], "_reverse")[::-1]
        nodes = [(one + other) / 2 for one, other in zip(forward, backward, strict=True)]
    return [unit(node) for node in nodes] if config.unit_nodes else nodes


def linked(config: Any, u: int, v: int, regions: int) -> bool:
    """Whether there is an edge between nodes u and v, of which the first `regions` are the image's."""
    same_side = (u < regions) == (v < regions)
    return u != v and {"both": True, "intra": same_side, "cross": not same_side}[config.edges]


def edges_of(layer: Weights, config: Any, nodes: list[Vector], regions: int) -> list[dict[int, float]]:
    """e_uv as {v: weight} for each u."""
    queries = [layer["query.weight"] @ node for node in nodes]
    keys = [layer["key.weight"] @ node for node in nodes]
    edges = []
    for u in range(len(nodes)):
        neighbours = [v for v in range(len(nodes)) if linked(config, u, v, regions)]
        groups = [neighbours]  # of which each has a softmax
        if config.softmax == "apart":
            groups = [[v for v in neighbours if v < regions], [v for v in neighbours if v >= regions]]
        groups = [group for group in groups if group]
        weights: dict[int, float] = {}
        for group in groups:
            logits = [float(queries[u] @ keys[v]) / math.sqrt(len(keys[v])) for v in group]
            for v, weight in zip(group, softmax(logits), strict=True):
                weights[v] = weight / len(groups)
        edges.append(weights)
    return edges


def propagated(weights: Weights, config: Any, nodes: list[Vector], regions: int) -> list[Vector]:
    edges: list[dict[int, float]] = []
    for k in range(config.layers):
        layer = below(weights, f"layers.{k}.")
        if k == 0 or config.renew_edges:
            edges = edges_of(layer, config, nodes, regions)
        after = []
        for u, node in enumerate(nodes):
            gathered = np.zeros_like(node)
            for v, weight in edges[u].items():
                gathered = gathered + weight * (layer["spread.weight"] @ nodes[v])
            message = np.maximum(gathered, 0)
            after.append(message + node if config.residual else message)
        nodes = after
    return nodes


def score(weights: Weights, config: Any, image: Image, text: Text) -> float:
    of_image, of_text = image_nodes(weights, config, image), text_nodes(weights, config, text)
    regions = len(of_image)
    nodes = propagated(weights, config, of_image + of_text, regions)
    if not regions:
        return 0.0
    return float(unit(sum(nodes[:regions]) / regions) @ unit(sum(nodes[regions:]) / len(of_text)))

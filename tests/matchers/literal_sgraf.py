"""SGRAF written from the paper's equations in double precision: one image, one text, one pair at a time, loop by loop.

What it has in common with MPSM (encoders, pooling, cross attention, similarity vectors) comes from `literal_mpsm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.matchers.literal_mpsm import (
    Graphs,
    Statistics,
    Vector,
    Weights,
    attend,
    below,
    gru,
    pool,
    region_vectors,
    sigmoid,
    similarity,
    softmax,
    unit,
    word_vectors,
)
from tests.matchers.literal_pooling import published_pooling


@dataclass
class Text:
    words: list[int]
    vectors: np.ndarray  # (words, V), frozen


def encode_words(weights: Weights, kind: str, text: Text) -> list[Vector]:
    if kind == "gru":
        return word_vectors(weights, text.words)
    reduced = [weights["reduce.weight"] @ vector + weights["reduce.bias"] for vector in text.vectors]
    if kind == "bert+gru":
        forward = gru(below(weights, "gru."), reduced, "")
        backward = gru(below(weights, "gru."), reduced[::-1], "_reverse")[::-1]
        reduced = [(ahead + back) / 2 for ahead, back in zip(forward, backward, strict=True)]
    return [unit(vector) for vector in reduced]


def reason(weights: Weights, nodes: list[Vector]) -> list[Vector]:
    """One step of SGR on the graph of one pair."""
    after = []
    for p in range(len(nodes)):
        asking = weights["ask.weight"] @ nodes[p] + weights["ask.bias"]
        edges = softmax([float(asking @ (weights["answer.weight"] @ nodes[q])) for q in range(len(nodes))])
        gathered = np.zeros_like(nodes[p])
        for q in range(len(nodes)):
            gathered = gathered + edges[q] * nodes[q]
        after.append(np.maximum(weights["infer.weight"] @ gathered + weights["infer.bias"], 0))
    return after


def filter_graphs(weights: Weights, graphs: Graphs, statistics: Statistics) -> dict[tuple[int, int], Vector]:
    """SAF on the graph of every pair (they share only the normalisation)."""
    logits = {
        (pair, p): float(weights["weigh.weight"][0] @ node)
        for pair, nodes in graphs.items()
        for p, node in enumerate(nodes)
    }
    normalised = statistics.normalise(weights, "norm", logits)
    filtered = {}
    for pair, nodes in graphs.items():
        gates = [sigmoid(normalised[pair, p]) for p in range(len(nodes))]
        whole = np.zeros_like(nodes[0])
        for gate, node in zip(gates, nodes, strict=True):
            whole = whole + gate / sum(gates) * node
        filtered[pair] = whole
    return filtered


def global_vectors(weights: Weights, config: Any, sets: list[list[Vector]], training: bool) -> list[Vector]:
    """One of each set; those of a batch share the normalisation of the published form."""
    if config.alignment == "local":
        return [np.zeros(0) for _ in sets]
    if config.pooling == "print":
        found = [pool(weights, each) for each in sets]
    else:
        found = published_pooling(weights, sets, training=training)
    return [unit(vector) for vector in found] if config.unit_nodes else found


def similarity_graph(
    weights: Weights,
    config: Any,
    regions: list[Vector],
    words: list[Vector],
    image_global: Vector,
    text_global: Vector,
) -> list[Vector]:
    """The nodes of a pair: the global similarity vector first, then one a word."""
    scaled = unit if config.unit_nodes else (lambda x: x)
    nodes = []
    if config.alignment != "local":
        nodes.append(similarity("distance", image_global, text_global, below(weights, "global_similarity.")))
    if config.alignment != "global":
        for attended, word in zip(attend(regions, words, config.sharpness), words, strict=True):
            nodes.append(similarity("distance", scaled(attended), word, below(weights, "local_similarity.")))
    return nodes


def scores(
    weights: Weights, config: Any, member: str, images: list[np.ndarray], texts: list[Text], statistics: Statistics
) -> np.ndarray:
    """(images, texts) scores of one member. `images`: (regions, F) features of each."""
    regions = [region_vectors(below(weights, "regions."), features) for features in images]
    words = [encode_words(below(weights, "words."), config.words, text) for text in texts]
    training = statistics.training
    image_globals = global_vectors(below(weights, "image_pooling."), config, regions, training)
    text_globals = global_vectors(below(weights, "text_pooling."), config, words, training)
    graphs = {
        (i, t): similarity_graph(weights, config, regions[i], words[t], image_globals[i], text_globals[t])
        for i in range(len(images))
        for t in range(len(texts))
    }
    whole: dict[tuple[int, int], Vector] = {}
    if config.alignment == "global":
        whole = {pair: nodes[0] for pair, nodes in graphs.items()}
    elif member == "saf":
        whole = filter_graphs(below(weights, "graph."), graphs, statistics)
        if config.unit_filtered:
            whole = {pair: unit(vector) for pair, vector in whole.items()}
    else:
        for pair, nodes in graphs.items():
            for step in range(config.steps):
                nodes = reason(below(weights, f"graph.steps.{step}."), nodes)
            whole[pair] = nodes[0] if config.alignment == "both" else sum(nodes) / len(nodes)
    result = np.zeros((len(images), len(texts)))
    for pair, vector in whole.items():
        result[pair] = sigmoid(float(weights["predict.weight"][0] @ vector + weights["predict.bias"][0]))
    return result

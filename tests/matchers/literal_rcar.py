"""RCAR in double precision: one image, one caption, one query, one vector of its context at a time.

Nothing is batched, padded or masked, and nothing is shared with the package but the trained weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.matchers.literal_glfn import Text, cosine, encode_text
from tests.matchers.literal_mpsm import Vector, Weights, below, region_vectors, sigmoid, similarity, softmax, unit
from tests.matchers.literal_scl import linear


@dataclass
class Found:
    score: float
    attention: list[list[float]]  # of each query over its context, the last one
    weights: list[float]  # RAR's last ones


def attend(
    queries: list[Vector], context: list[Vector], gates: list[Vector], sharpness: list[float]
) -> list[list[float]]:
    """Of each query its weights over the context: each vector of it is measured by all queries first."""
    raised = np.zeros((len(context), len(queries)))
    for k, seen in enumerate(context):
        for n, query in enumerate(queries):
            value = float(seen @ (gates[n] * query))
            raised[k, n] = value if value > 0 else 0.1 * value
        raised[k] = unit(raised[k])
    return [softmax([sharpness[n] * raised[k, n] for k in range(len(context))]) for n in range(len(queries))]


def attended(attention: list[float], context: list[Vector]) -> Vector:
    found = np.zeros_like(context[0])
    for weight, seen in zip(attention, context, strict=True):
        found = found + weight * seen
    return unit(found)


def two_layers(weights: Weights, x: Vector) -> Vector:
    return linear(below(weights, "2."), np.tanh(linear(below(weights, "0."), x)))


def correct(
    weights: Weights, aligned: list[Vector], gates: list[Vector], sharpness: list[float]
) -> tuple[list[Vector], list[float]]:
    """RCR."""
    new_gates, new_sharpness = [], []
    for vector, gate, sharp in zip(aligned, gates, sharpness, strict=True):
        new_gates.append(np.clip(gate + np.tanh(two_layers(below(weights, "gates."), vector)), -1, 1))
        new_sharpness.append(max(0.0, sharp + float(two_layers(below(weights, "sharpness."), vector)[0])))
    return new_gates, new_sharpness


def gather(weights: Weights, aligned: list[Vector], whole: Vector) -> tuple[Vector, list[float]]:
    """RAR."""
    asked = np.tanh(linear(below(weights, "query."), whole))
    logits = [
        float(weights["weigh.weight"][0] @ (np.tanh(linear(below(weights, "key."), vector)) * asked))
        for vector in aligned
    ]
    shares = softmax(logits)
    found = np.zeros_like(whole)
    for share, vector in zip(shares, aligned, strict=True):
        found = found + share * vector
    return unit(found), shares


def compare(weights: Weights, config: Any, member: str, regions: list[Vector], words: list[Vector]) -> Found:
    queries, context = (words, regions) if member == "t2i" else (regions, words)
    lam = config.sharpness_t2i if member == "t2i" else config.sharpness_i2t
    gates, sharpness = [np.ones_like(query) for query in queries], [lam for _ in queries]
    whole, shares = None, []
    for step in range(config.steps):
        alignment = 0 if config.regulators == "rar" else step
        attention = attend(queries, context, gates, sharpness)
        aligned = [
            similarity("distance", query, attended(row, context), below(weights, f"alignments.{alignment}."))
            for query, row in zip(queries, attention, strict=True)
        ]
        if whole is None:
            whole = sum(aligned) / len(aligned)
        corrects = config.regulators == "rcr" or (config.regulators == "both" and step < config.steps - 1)
        if corrects:
            gates, sharpness = correct(below(weights, f"correspondence.{step}."), aligned, gates, sharpness)
        if config.regulators != "rcr":
            whole, shares = gather(below(weights, f"aggregation.{step}."), aligned, whole)
    if config.regulators == "rcr":
        attention = attend(queries, context, gates, sharpness)
        similar = [cosine(query, attended(row, context)) for query, row in zip(queries, attention, strict=True)]
        return Found(sum(similar) / len(similar), attention, [])
    return Found(sigmoid(float(linear(below(weights, "predict."), whole)[0])), attention, shares)


def pair(weights: Weights, config: Any, member: str, features: np.ndarray, text: Text) -> Found:
    regions = region_vectors(below(weights, "regions."), features)
    return compare(weights, config, member, regions, encode_text(weights, config, text))

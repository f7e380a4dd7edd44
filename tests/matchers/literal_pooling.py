"""SGRAF's published pooling in double precision, number by number, as `MeanQueryPooling` reads it."""

from __future__ import annotations

import math

import numpy as np

from tests.matchers.literal_mpsm import Vector, Weights, below, softmax

Running = dict[str, tuple[np.ndarray, np.ndarray]]  # means and variances after a training pass, by name


def published_pooling(
    weights: Weights, sets: list[list[Vector]], *, training: bool = False, running: Running | None = None
) -> list[Vector]:
    """The pooled vector of each of the sets. Those of a batch share the normalisation, where there is one (images).

    Args:
        running: filled in training with the statistics that remain of the batch.
    """
    keys = [[weights["key.weight"] @ x + weights["key.bias"] for x in each] for each in sets]
    queries = [weights["query.weight"] @ (sum(each) / len(each)) + weights.get("query.bias", 0) for each in sets]
    if "key_norm.weight" in weights:
        # One mean and one variance for all numbers of all regions, or of all regions of a place.
        places, most = np.ndim(weights["key_norm.weight"]), max(map(len, keys))
        for together in [[place] for place in range(most)] if places else [list(range(most))]:
            which = [(row, place) for row, each in enumerate(keys) for place in together if place < len(each)]
            values = [float(x) for row, place in which for x in keys[row][place]]
            flat = iter(_normalised(weights, "key_norm", values, training, running, place=together[0]))
            for row, place in which:
                keys[row][place] = np.array([next(flat) for _ in keys[row][place]])
        columns = [
            _normalised(weights, "query_norm", [float(query[d]) for query in queries], training, running, place=d)
            for d in range(len(queries[0]))
        ]
        queries = [np.array([column[row] for column in columns]) for row in range(len(queries))]
    pooled = []
    for each, own, query in zip(sets, keys, queries, strict=True):
        logits = []
        for key in own:
            products = [math.tanh(k) * math.tanh(q) for k, q in zip(key, query, strict=True)]
            logits.append(sum(w * product for w, product in zip(weights["weigh.weight"][0], products, strict=True)))
        total = np.zeros_like(each[0])
        for weight, x in zip(softmax(logits), each, strict=True):
            total = total + weight * x
        pooled.append(total)
    return pooled


def _normalised(
    weights: Weights, name: str, values: list[float], training: bool, running: Running | None, place: int = 0
) -> list[float]:
    """Numbers that share a mean and a variance. `place`: of these among those of the norm."""
    mine = {key: np.atleast_1d(value) for key, value in below(weights, f"{name}.").items()}
    mean, variance = float(mine["running_mean"][place]), float(mine["running_var"][place])
    if training:
        n, old = len(values), (mean, variance)
        mean = sum(values) / n
        variance = sum((value - mean) ** 2 for value in values) / n
        if running is not None:
            shape = weights[f"{name}.running_mean"].shape
            means, variances = running.setdefault(name, (np.zeros(shape), np.zeros(shape)))
            means.reshape(-1)[place] = 0.9 * old[0] + 0.1 * mean
            variances.reshape(-1)[place] = 0.9 * old[1] + 0.1 * variance * n / (n - 1)
    scale, shift = float(mine["weight"][place]), float(mine["bias"][place])
    return [(value - mean) / math.sqrt(variance + 1e-5) * scale + shift for value in values]

"""MPSM written from the paper's equations in double precision: one image, one text, one pair at a time, loop by loop.

Nothing is batched, padded or masked, and nothing is shared with the package but the trained weights. Where the print
leaves something open, the reading is the one that `itmkit.matchers.mpsm` states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

Vector = np.ndarray
Weights = dict[str, np.ndarray]


def weights_of(module: nn.Module) -> Weights:
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def below(weights: Weights, prefix: str) -> Weights:
    """The weights of a submodule."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def unit(x: Vector) -> Vector:
    length = math.sqrt(sum(float(value) ** 2 for value in x))
    return x / length if length else x


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(logits: list[float]) -> list[float]:
    largest = max(logits)
    powers = [math.exp(value - largest) for value in logits]
    return [power / sum(powers) for power in powers]


def gru(weights: Weights, inputs: list[Vector], suffix: str) -> list[Vector]:
    """A GRU over `inputs` (Cho et al. 2014, in the form that torch documents), one state a step."""
    w_in, w_hidden = weights[f"weight_ih_l0{suffix}"], weights[f"weight_hh_l0{suffix}"]
    b_in, b_hidden = weights[f"bias_ih_l0{suffix}"], weights[f"bias_hh_l0{suffix}"]
    size = len(b_in) // 3
    state, states = np.zeros(size), []
    for x in inputs:
        a, b = w_in @ x + b_in, w_hidden @ state + b_hidden
        reset = sigmoid(a[:size] + b[:size])
        update = sigmoid(a[size : 2 * size] + b[size : 2 * size])
        new = np.tanh(a[2 * size :] + reset * b[2 * size :])
        state = (1 - update) * new + update * state
        states.append(state)
    return states


def word_vectors(weights: Weights, words: list[int], *, normalised: bool = True) -> list[Vector]:
    """Section 3.1.2: embedding, bi-directional GRU, mean of the two directions."""
    inputs = [weights["embedding.weight"][word] for word in words]
    forward = gru(below(weights, "gru."), inputs, "")
    backward = gru(below(weights, "gru."), inputs[::-1], "_reverse")[::-1]
    means = [(forward[place] + backward[place]) / 2 for place in range(len(words))]
    return [unit(mean) for mean in means] if normalised else means


def region_vectors(weights: Weights, features: np.ndarray, *, normalised: bool = True) -> list[Vector]:
    """A linear map and, where it has weights, an MLP beside it, normed by its running statistics."""
    found = []
    for feature in features:
        vector = weights["project.weight"] @ feature + weights["project.bias"]
        if "enter.weight" in weights:
            hidden = weights["enter.weight"] @ feature - weights["norm.running_mean"]
            hidden = hidden / np.sqrt(weights["norm.running_var"] + 1e-5) * weights["norm.weight"]
            vector = vector + weights["leave.weight"] @ np.maximum(hidden + weights["norm.bias"], 0)
        found.append(unit(vector) if normalised else vector)
    return found


def spatial_dependence(weights: Weights, rho: float, theta: float) -> list[float]:
    """One entry of P_v: Gaussians over distance and direction, angles compared the short way round, one a kernel."""
    found = []
    for k in range(len(weights["weight"])):
        far = (rho - weights["rho_mean"][k]) ** 2 / (2 * weights["rho_scale"][k] ** 2)
        turn = theta - weights["theta_mean"][k]
        while turn > math.pi:
            turn -= 2 * math.pi
        while turn < -math.pi:
            turn += 2 * math.pi
        found.append(weights["weight"][k] * math.exp(-far - turn**2 / (2 * weights["theta_scale"][k] ** 2)))
    return found


def semantic_edges(nodes: list[Vector], priors: list[np.ndarray], config: Any) -> list[np.ndarray]:
    """Eqs 1 and 2, or 3 and 4, with a prior for each graph. Columns have unit length over all of them."""
    count = len(nodes)
    graphs = [np.zeros((count, count)) for _ in priors]
    for i in range(count):
        others = [j for j in range(count) if config.affinity == "all" or j != i]
        related = softmax([config.sharpness * float(nodes[i] @ nodes[j]) for j in others]) if others else []
        for edges, prior in zip(graphs, priors, strict=True):
            for j in range(count):
                if config.affinity == "none":
                    edges[i, j] = prior[i, j]
                elif j in others:
                    edges[i, j] = related[others.index(j)] * prior[i, j]
    for j in range(count):
        column = unit(np.concatenate([edges[:, j] for edges in graphs]))
        for edges, part in zip(graphs, np.split(column, len(graphs)), strict=True):
            edges[:, j] = part
    return graphs


def disseminate(
    weights: Weights,
    nodes: list[Vector],
    graphs: list[np.ndarray],
    config: Any,
    *,
    support: np.ndarray | None = None,
) -> list[Vector]:
    """KGID, eqs 5 to 9. Each of the `graphs` carries its share of the numbers of a message.

    `support`: where the first updated edges may lie (text).
    """
    count, size = len(nodes), len(nodes[0])
    for layer in range(config.kgid_layers):
        if layer > 0:  # eq 9
            w_out, w_in = weights[f"outgoing.{layer - 1}.weight"], weights[f"incoming.{layer - 1}.weight"]
            edges = np.zeros((count, count))
            for i in range(count):
                allowed = [j for j in range(count) if layer > 1 or support is None or support[i, j]]
                affinity = softmax([config.sharpness * float((w_out @ nodes[i]) @ (w_in @ nodes[j])) for j in allowed])
                for j, value in zip(allowed, affinity, strict=True):
                    edges[i, j] = value
            graphs = [edges]
        share = size // len(graphs)
        spread = []
        for i in range(count):
            message = np.zeros(size)
            for head, edges in enumerate(graphs):
                gathered = np.zeros(size)
                for j in range(count):
                    gathered = gathered + edges[i, j] * nodes[j]
                numbers = slice(head * share, (head + 1) * share)
                message[numbers] = (weights[f"spread.{layer}.weight"] @ gathered)[numbers]
            spread.append(message)
        after = []
        for i in range(count):
            if config.kgid_softmax == "none":
                known = spread[i]
            elif config.kgid_softmax == "feature":
                known = np.array(softmax(list(spread[i]))) * nodes[i]
                known = known * (size if config.kgid_weight == "mean" else 1)
            else:
                over = [softmax([vector[feature] for vector in spread])[i] for feature in range(size)]
                known = np.array(over) * nodes[i] * (count if config.kgid_weight == "mean" else 1)
            gate = sigmoid(known * nodes[i] + nodes[i])  # eq 6
            fused = gate * known + (1 - gate) * nodes[i]  # eq 7
            inferred = weights[f"infer.{layer}.weight"] @ fused + weights[f"infer.{layer}.bias"]
            if config.kgid_shortcut == "inside":  # eq 8
                after.append(np.maximum(inferred + nodes[i], 0))
            else:
                after.append(np.maximum(inferred, 0) + nodes[i])
        nodes = after
    return nodes


def pool(weights: Weights, nodes: list[Vector]) -> Vector:
    """Section 3.2: self-attention with the mean as query, without the second 1/N of the print."""
    mean = sum(nodes) / len(nodes)
    logits = [
        float(weights["weigh.weight"][0] @ ((weights["key.weight"] @ node) * (weights["query.weight"] @ mean)))
        for node in nodes
    ]
    pooled = np.zeros_like(mean)
    for weight, node in zip(softmax(logits), nodes, strict=True):
        pooled = pooled + weight * node
    return pooled


def attend(regions: list[Vector], words: list[Vector], sharpness: float) -> list[Vector]:
    """Section 3.3 with SCAN's form of the weights: the attended image of each word."""
    relation = np.zeros((len(regions), len(words)))
    for i, region in enumerate(regions):
        for j, word in enumerate(words):
            cosine = float(unit(region) @ unit(word))
            relation[i, j] = cosine if cosine > 0 else 0.1 * cosine
        relation[i] = unit(relation[i])
    attended = []
    for j in range(len(words)):
        weights = softmax([sharpness * relation[i, j] for i in range(len(regions))])
        attended.append(sum(weight * region for weight, region in zip(weights, regions, strict=True)))
    return attended


def similarity(kind: str, x: Vector, y: Vector, weights: Weights) -> Vector:
    """Eq 10 or 13; the print has no bias."""
    mapped = weights["project.weight"] @ ((x - y) ** 2 if kind == "distance" else unit(x) * unit(y))
    return unit(mapped + weights.get("project.bias", 0))


@dataclass
class Statistics:
    """What batch normalisation sees: the batch's own mean and variance in training, else the running ones."""

    training: bool = False
    running: dict[str, tuple[float, float]] = field(default_factory=dict)  # after a training pass, by name

    def normalise(self, weights: Weights, name: str, values: dict[Any, float]) -> dict[Any, float]:
        mine = below(weights, f"{name}.")
        mean, variance = float(mine["running_mean"]), float(mine["running_var"])
        if self.training:
            every, n = list(values.values()), len(values)
            old_mean, old_variance = mean, variance
            mean = sum(every) / n
            variance = sum((value - mean) ** 2 for value in every) / n
            unbiased = variance * n / (n - 1)
            self.running[name] = (0.9 * old_mean + 0.1 * mean, 0.9 * old_variance + 0.1 * unbiased)
        scale, shift = float(mine["weight"]), float(mine["bias"])
        return {key: (value - mean) / math.sqrt(variance + 1e-5) * scale + shift for key, value in values.items()}


Graphs = dict[tuple[int, int], list[Vector]]


Logits = dict[tuple[Any, int, int], float]


def _logits_of_sums(
    weights: Weights, graphs: Graphs, keys: list[Any], statistics: Statistics, only_first: bool
) -> tuple[Logits, Logits]:
    """Eq 16 as printed: of edges a -> b and of edges b -> a."""
    w_out, w_in = weights["outgoing.weight"][0], weights["incoming.weight"][0]
    out = statistics.normalise(weights, "outgoing_norm", {key: float(w_out @ graphs[key[0]][key[1]]) for key in keys})
    into = statistics.normalise(weights, "incoming_norm", {key: float(w_in @ graphs[key[0]][key[1]]) for key in keys})
    leaving, arriving = {}, {}
    for pair, a in keys:
        for b in range(len(graphs[pair])):
            leaving[pair, a, b] = out[pair, a] + into[pair, b]
            arriving[pair, a, b] = into[pair, a] + out[pair, b]
    return leaving, arriving


def _logits_of_products(
    weights: Weights, graphs: Graphs, keys: list[Any], statistics: Statistics, only_first: bool
) -> tuple[Logits, Logits]:
    """The same with m x m maps. Only edges that are used are normalised."""
    w_out, w_in = weights["outgoing.weight"], weights["incoming.weight"]
    values = {}
    for pair, a in keys:
        if only_first and a > 0:
            continue
        for b, other in enumerate(graphs[pair]):
            node = graphs[pair][a]
            values["leaving", pair, a, b] = float((w_out @ node) @ (w_in @ other))
            values["arriving", pair, a, b] = float((w_out @ other) @ (w_in @ node))
    normed = statistics.normalise(weights, "norm", values)
    parts: list[Logits] = []
    for way in ("leaving", "arriving"):
        parts.append({key[1:]: value for key, value in normed.items() if key[0] == way})
    return parts[0], parts[1]


def reconstruct(weights: Weights, graphs: Graphs, statistics: Statistics, *, only_first: bool = False) -> Graphs:
    """One step of SRGR, eqs 16 to 20, on the similarity graph of every pair (they share only the normalisation).

    only_first: only the first node of each graph is reconstructed.
    """
    keys = [(pair, a) for pair, nodes in graphs.items() for a in range(len(nodes))]
    logits = _logits_of_sums if "norm.weight" not in weights else _logits_of_products
    leaving_edges, arriving_edges = logits(weights, graphs, keys, statistics, only_first)
    result: Graphs = {}
    for pair, nodes in graphs.items():
        result[pair] = []
        for a in range(1 if only_first else len(nodes)):
            to_b = [sigmoid(leaving_edges[pair, a, b]) for b in range(len(nodes))]
            from_b = [sigmoid(arriving_edges[pair, a, b]) for b in range(len(nodes))]
            leaving, arriving = np.zeros_like(nodes[a]), np.zeros_like(nodes[a])
            for b, node in enumerate(nodes):
                leaving = leaving + to_b[b] / sum(to_b) * node  # eqs 16, 17
                arriving = arriving + from_b[b] / sum(from_b) * node
            both = np.concatenate([leaving, arriving])
            gate = sigmoid(weights["gate.weight"] @ both + weights["gate.bias"])  # eq 18
            leaving = weights["refine_outgoing.weight"] @ (gate * leaving) + leaving  # eq 19
            arriving = weights["refine_incoming.weight"] @ (gate * arriving) + arriving
            result[pair].append(weights["fuse.weight"] @ (leaving + arriving) + weights["fuse.bias"])  # eq 20
    return result


@dataclass
class Image:
    features: np.ndarray  # (regions, F)
    rho: np.ndarray
    theta: np.ndarray


@dataclass
class Text:
    words: list[int]
    edges: np.ndarray  # (words, words) bool, with self loops


def encode_image(weights: Weights, config: Any, image: Image) -> tuple[list[Vector], Vector | None]:
    nodes = region_vectors(below(weights, "regions."), image.features)
    if config.visual_kgid and config.kgid_layers:
        kernels, count = below(weights, "spatial."), len(nodes)
        near = np.array(
            [
                [spatial_dependence(kernels, image.rho[i, j], image.theta[i, j]) for j in range(count)]
                for i in range(count)
            ]
        )  # (R, R, K)
        priors = [near[..., k] for k in range(near.shape[-1])] if config.spatial == "heads" else [near.sum(-1)]
        graphs = semantic_edges(nodes, priors, config)
        nodes = disseminate(below(weights, "visual_kgid."), nodes, graphs, config)
    return _with_global(weights, config, nodes, "image_pooling.")


def encode_text(weights: Weights, config: Any, text: Text) -> tuple[list[Vector], Vector | None]:
    nodes = word_vectors(below(weights, "words."), text.words)
    if config.text_kgid and config.kgid_layers:
        graphs = semantic_edges(nodes, [text.edges.astype(float)], config)
        nodes = disseminate(below(weights, "text_kgid."), nodes, graphs, config, support=text.edges)
    return _with_global(weights, config, nodes, "text_pooling.")


def _with_global(
    weights: Weights, config: Any, nodes: list[Vector], pooling: str
) -> tuple[list[Vector], Vector | None]:
    if config.unit_nodes:
        nodes = [unit(node) for node in nodes]
    if config.alignment == "local":
        return nodes, None
    if config.pooling == "published":
        from tests.matchers.literal_pooling import published_pooling  # which is written in terms of this module

        (pooled,) = published_pooling(below(weights, pooling), [nodes])
    else:
        pooled = pool(below(weights, pooling), nodes)
    return nodes, unit(pooled) if config.unit_nodes else pooled


def scores(
    weights: Weights, config: Any, kind: str, images: list[Image], texts: list[Text], statistics: Statistics
) -> np.ndarray:
    """(images, texts) scores of one perspective: sections 3.3 and 3.4."""
    mine = below(weights, f"perspectives.{kind}.")
    encoded_images = [encode_image(weights, config, image) for image in images]
    encoded_texts = [encode_text(weights, config, text) for text in texts]
    graphs: Graphs = {}
    for i, (regions, image_global) in enumerate(encoded_images):
        for t, (words, text_global) in enumerate(encoded_texts):
            nodes = []
            if config.alignment != "local":
                assert image_global is not None and text_global is not None
                nodes.append(similarity(kind, image_global, text_global, below(mine, "global_similarity.")))
            if config.alignment != "global":
                attended = attend(regions, words, config.sharpness)
                if config.unit_nodes:
                    attended = [unit(vector) for vector in attended]
                for vector, word in zip(attended, words, strict=True):
                    nodes.append(similarity(kind, vector, word, below(mine, "local_similarity.")))
            graphs[i, t] = nodes
    if config.srgr:
        for step in range(config.srgr_steps):
            last = step == config.srgr_steps - 1 and config.alignment != "local"
            graphs = reconstruct(below(mine, f"relations.steps.{step}."), graphs, statistics, only_first=last)
    result = np.zeros((len(images), len(texts)))
    for (i, t), nodes in graphs.items():
        decides = nodes[0] if config.srgr and config.alignment != "local" else sum(nodes) / len(nodes)
        result[i, t] = sigmoid(float(mine["predict.weight"][0] @ decides + mine["predict.bias"][0]))
    return result

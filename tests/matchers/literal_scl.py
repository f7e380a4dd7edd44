"""SCL in double precision, loop by loop: one picture, one caption, one anchor and one positive at a time.

Nothing is batched, padded or masked, and nothing is shared with the package but the trained weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.matchers.literal_mpsm import Vector, Weights, below, region_vectors, softmax, unit


def linear(weights: Weights, x: Vector) -> Vector:
    return weights["weight"] @ x + weights.get("bias", 0)


def layer_norm(weights: Weights, x: Vector) -> Vector:
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    return (x - mean) / math.sqrt(variance + 1e-5) * weights["weight"] + weights["bias"]


def gelu(x: Vector) -> Vector:
    return np.array([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x])


def attention(weights: Weights, xs: list[Vector], heads: int) -> list[Vector]:
    """Vaswani et al., section 3.2.2, in the form that torch documents."""
    size = len(xs[0])
    rows = {part: slice(k * size, (k + 1) * size) for k, part in enumerate("qkv")}
    mapped = {
        part: [weights["in_proj_weight"][row] @ x + weights["in_proj_bias"][row] for x in xs]
        for part, row in rows.items()
    }
    found = []
    for i in range(len(xs)):
        joined = np.zeros(size)
        for head in range(heads):
            own = slice(head * size // heads, (head + 1) * size // heads)
            query = mapped["q"][i][own]
            logits = [float(query @ key[own]) / math.sqrt(len(query)) for key in mapped["k"]]
            for weight, value in zip(softmax(logits), mapped["v"], strict=True):
                joined[own] = joined[own] + weight * value[own]
        found.append(linear(below(weights, "out_proj."), joined))
    return found


def transformer(
    weights: Weights, config: Any, tokens: list[Vector], places: list[int], first: Vector | float = 0.0
) -> Vector:
    """Eqs 1 and 3. tokens: words or regions, W numbers each; places: 0 is the first; first: added to x_class."""
    xs = [weights["start"][0, 0] + first + weights["positions"][0]]
    xs += [token + weights["positions"][1 + place] for token, place in zip(tokens, places, strict=True)]
    for number in range(config.layers):
        mine = below(weights, f"layers.{number}.")
        attended = attention(
            below(mine, "self_attn."), [layer_norm(below(mine, "norm1."), x) for x in xs], config.heads
        )
        xs = [x + more for x, more in zip(xs, attended, strict=True)]
        for place, x in enumerate(xs):
            hidden = gelu(linear(below(mine, "linear1."), layer_norm(below(mine, "norm2."), x)))
            xs[place] = x + linear(below(mine, "linear2."), hidden)
    return unit(layer_norm(below(weights, "norm."), xs[0]))


def residual_mlps(weights: Weights, config: Any, vector: Vector) -> Vector:
    x = unit(vector) * math.sqrt(len(vector))
    for number in range(config.layers):
        mine = below(weights, f"blocks.{number}.")
        hidden = gelu(linear(below(mine, "1."), layer_norm(below(mine, "0."), x)))
        x = x + linear(below(mine, "4."), hidden)
    return unit(x)


def represent(weights: Weights, config: Any, tokens: Any, places: list[int] | None = None) -> Vector:
    """F of one picture or caption.

    Args:
        weights: of an encoder.
        tokens: its regions, words, or one pooled vector; or a pair of its stored [CLS] vector and these.
        places: of the tokens where some are left out.
    """
    if config.inputs == "pooled":
        return residual_mlps(weights, config, tokens[0])
    enter = below(weights, "enter.")
    first: Vector | float = 0.0
    if isinstance(tokens, tuple):
        first, tokens = entered(enter, tokens[0]), tokens[1]
    places = list(range(len(tokens))) if places is None else places
    if np.issubdtype(np.asarray(tokens).dtype, np.integer):
        return transformer(weights, config, [enter["weight"][word] for word in tokens], places)
    return transformer(weights, config, [entered(enter, token) for token in tokens], places, first)


def entered(enter: Weights, token: Vector) -> Vector:
    """A region, patch or word vector as W numbers: through a linear map, for regions also with an MLP beside it."""
    if "weight" in enter:
        return linear(enter, token)
    return region_vectors(enter, token[None], normalised=False)[0]


def score(weights: Weights, config: Any, regions: Any, words: Any) -> float:
    """Section 3.3: one linear map each, and the cosine."""
    image = represent(below(weights, "encoders.image."), config, regions)
    text = represent(below(weights, "encoders.text."), config, words)
    return float(unit(weights["maps.image.weight"] @ image) @ unit(weights["maps.text.weight"] @ text))


def info_nce(query: Vector, keys: list[Vector], positives: list[int], temperature: float) -> float:
    """One anchor: the mean over its positives of -log of the share that the positive has in all."""
    if not positives:
        return 0.0
    powers = [math.exp(float(query @ key) / temperature) for key in keys]
    return sum(-math.log(powers[place] / sum(powers)) for place in positives) / len(positives)


def printed(query: Vector, keys: list[Vector], positives: list[int]) -> float:
    """Eq 2 or 4 for one anchor."""
    terms = [abs(math.sqrt(sum((query - keys[place]) ** 2)) + float(query @ keys[place])) for place in positives]
    return sum(terms) / len(terms) if terms else 0.0


def within_modality(config: Any, queries: list[Vector], keys: list[Vector], groups: list[set[int]]) -> float:
    """groups: for each item the items that are alike, itself among them or not."""
    total = 0.0
    for anchor, query in enumerate(queries):
        others = [place for place in range(len(keys)) if place != anchor]
        positives = [n for n, place in enumerate(others) if place in groups[anchor]]
        compared = [keys[place] for place in others]
        if config.loss == "printed":
            total += printed(query, compared, positives)
        else:
            total += info_nce(query, compared, positives, config.contrast_temperature)
    return total


def alike(labels: list[set[int]], overlap: float, a: int, b: int) -> bool:
    """Whether pictures a and b are of one type."""
    if a == b:
        return True
    both, either = labels[a] & labels[b], labels[a] | labels[b]
    return bool(both) and len(both) / len(either) >= overlap


def like_captions(config: Any, labels: list[set[int]], image_of: list[int]) -> list[set[int]]:
    """For each caption the captions of the same semantics, itself among them. labels: of each picture."""
    groups: list[set[int]] = []
    for mine in image_of:
        group = set()
        for caption, its in enumerate(image_of):
            by_label = config.text_positives == "labels" and alike(labels, config.label_overlap, mine, its)
            if mine == its or by_label:
                group.add(caption)
        groups.append(group)
    return groups


def across(config: Any, images: list[Vector], texts: list[Vector], image_of: list[int]) -> float:
    """The last stage: each picture among all captions, and each caption among all pictures."""
    total = 0.0
    for place, image in enumerate(images):
        own = [text for text, belongs in enumerate(image_of) if belongs == place]
        total += info_nce(image, texts, own, config.contrast_temperature)
    for text, belongs in zip(texts, image_of, strict=True):
        total += info_nce(text, images, [belongs], config.contrast_temperature)
    return total

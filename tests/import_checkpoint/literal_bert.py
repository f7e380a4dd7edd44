"""Tiny checkpoints with BERT as the published train loops save them, and what their models score, in plain numpy."""

from __future__ import annotations

import math

import numpy as np
import torch

from tests.import_checkpoint.literal import apply, gpo, numbers, softmax, unit, with_mlp, words_of
from tests.import_checkpoint.published import (
    WORDS,
    D,
    F,
    State,
    W,
    drawn,
    gru_shapes,
    linear,
    regions_with_mlp,
)

Array = np.ndarray
PIECES = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "##s", "run", ".", "two", "cat", "don", "'", "t", '"', "sleep",
)  # fmt: skip
READ = (  # the captions of `published` in these pieces, by number
    (2, 4, 5, 7, 6, 8, 3),
    (2, 9, 10, 6, 11, 12, 13, 14, 15, 14, 8, 3),
    (2, 5, 3),
    (2, 4, 10, 8, 9, 5, 6, 7, 3),
)
WIDTH, HIDDEN, LAYERS = 128, 8, 2  # two heads of 64 numbers
POOLING = gru_shapes("gpool.gru", 32, 32) | {"gpool.linear.weight": (1, 32)}
RELATIONS = {
    "aggr.layers.0.self_attn.in_proj_weight": (3 * D, D),
    "aggr.layers.0.self_attn.in_proj_bias": (3 * D,),
    **linear("aggr.layers.0.self_attn.out_proj", D, D),
    **linear("aggr.layers.0.linear1", D, D),
    **linear("aggr.layers.0.linear2", D, D),
    **{f"aggr.layers.0.{name}.{key}": (D,) for name in ("norm1", "norm2") for key in ("weight", "bias")},
}  # fmt: skip


def layer_norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def text_part(seed: int, **more: tuple[int, ...]) -> State:
    """`bert.*`, the linear map, and what else a published text encoder has."""
    shapes = {"bert.embeddings.word_embeddings.weight": (len(PIECES), WIDTH)}
    shapes |= {"bert.embeddings.position_embeddings.weight": (512, WIDTH)}
    shapes |= {"bert.embeddings.token_type_embeddings.weight": (2, WIDTH)} | layer_norm("bert.embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"bert.encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= linear(f"{name}.{part}", WIDTH, WIDTH)
        shapes |= linear(f"{name}.intermediate.dense", HIDDEN, WIDTH) | linear(f"{name}.output.dense", WIDTH, HIDDEN)
        shapes |= layer_norm(f"{name}.attention.output.LayerNorm") | layer_norm(f"{name}.output.LayerNorm")
    shapes |= linear("bert.pooler.dense", WIDTH, WIDTH) | linear("linear", D, WIDTH) | more
    state = drawn(shapes, seed)
    # Matrices of this width would else make every softmax sharp, and small differences large.
    state = {name: value * 0.3 if value.shape[-1:] == (WIDTH,) else value for name, value in state.items()}
    return state | {"bert.embeddings.position_ids": torch.arange(512)[None]}


def tokens(p: dict[str, Array], ids: tuple[int, ...]) -> Array:
    """(n, D): the last layer of BERT, and the linear map."""
    name = "bert.embeddings"
    x = p[f"{name}.word_embeddings.weight"][list(ids)] + p[f"{name}.position_embeddings.weight"][: len(ids)]
    x = normed(p, f"{name}.LayerNorm", x + p[f"{name}.token_type_embeddings.weight"][0])
    for layer in range(LAYERS):
        name = f"bert.encoder.layer.{layer}"
        q, k, v = (apply(p, f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        seen = np.hstack([attended(*(m[:, h : h + 64] for m in (q, k, v))) for h in range(0, WIDTH, 64)])
        x = normed(p, f"{name}.attention.output.LayerNorm", x + apply(p, f"{name}.attention.output.dense", seen))
        inner = apply(p, f"{name}.intermediate.dense", x)
        inner = np.array([[z * (1 + math.erf(z / math.sqrt(2))) / 2 for z in row] for row in inner])
        x = normed(p, f"{name}.output.LayerNorm", x + apply(p, f"{name}.output.dense", inner))
    return apply(p, "linear", x)


def attended(q: Array, k: Array, v: Array) -> Array:
    return np.array([softmax(row) for row in q @ k.T / math.sqrt(q.shape[1])]) @ v


def normed(p: dict[str, Array], name: str, x: Array, little: float = 1e-12) -> Array:
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + little)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def captions(part: State) -> list[Array]:
    return [tokens(numbers(part), ids) for ids in READ]


def vseinf_model() -> list[State]:
    parts = regions_with_mlp(4, **POOLING), text_part(5, **POOLING)
    return [{f"module.{name}": value for name, value in part.items()} for part in parts]


def vseinf(model: list[State], images: Array) -> Array:
    p, q = numbers(model[0]), numbers(model[1])
    texts = [gpo(q, tokens(q, ids)) for ids in READ]
    return np.array([gpo(p, with_mlp(p, image)) for image in images]) @ np.array(texts).T


def esa_model(*, bert: bool) -> list[State]:
    pooling = linear("linear1", D, D)
    gru = {"embed.weight": (len(WORDS) + 1, W)} | gru_shapes("rnn", D, W)
    return [regions_with_mlp(4, **pooling), text_part(6, **pooling) if bert else drawn(gru | pooling, 7)]


def esa(model: list[State], images: Array) -> Array:
    p, q = numbers(model[0]), numbers(model[1])

    def pooled(part: dict[str, Array], x: Array) -> Array:
        asked = apply(part, "linear1", x)
        return unit(np.array([softmax(asked[:, d]) @ x[:, d] for d in range(D)]))

    words = words_of(model[1], "rnn") if "embed.weight" in q else captions(model[1])
    return np.array([pooled(p, with_mlp(p, image)) for image in images]) @ np.array([pooled(q, x) for x in words]).T


def hrem_model() -> list[State]:
    regions = {f"fc.{name}": value for name, value in regions_with_mlp(4).items()}
    return [regions | drawn(RELATIONS, 8), text_part(9, **RELATIONS)]


def hrem(model: list[State], images: Array) -> Array:
    """With heads of two numbers."""

    def pooled(p: dict[str, Array], x: Array) -> Array:
        name = "aggr.layers.0"
        joint = x @ p[f"{name}.self_attn.in_proj_weight"].T + p[f"{name}.self_attn.in_proj_bias"]
        q, k, v = np.split(joint, 3, axis=1)
        seen = np.hstack([attended(*(m[:, h : h + 2] for m in (q, k, v))) for h in range(0, D, 2)])
        y = normed(p, f"{name}.norm1", x + apply(p, f"{name}.self_attn.out_proj", seen), 1e-5)
        inner = apply(p, f"{name}.linear2", np.maximum(apply(p, f"{name}.linear1", y), 0))
        y = normed(p, f"{name}.norm2", y + inner, 1e-5)
        return unit(0.8 * np.sort(x, axis=0)[-2:].mean(0) + 0.2 * y.mean(0))

    p, q = numbers(model[0]), numbers(model[1])
    regions = {name.removeprefix("fc."): value for name, value in p.items() if name.startswith("fc.")}
    vectors = [pooled(p, with_mlp(regions, image)) for image in images]
    return np.array(vectors) @ np.array([pooled(q, x) for x in captions(model[1])]).T


def chan_model() -> list[State]:
    return [drawn(linear("fc", D, F), 6), text_part(10), {}, {}]


def chan(model: list[State], images: Array) -> Array:
    regions = [unit(apply(numbers(model[0]), "fc", image)) for image in images]
    return np.array([[(v @ unit(w).T).max(0).mean() for w in captions(model[1])] for v in regions])

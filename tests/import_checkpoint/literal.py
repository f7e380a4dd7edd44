"""What the published models compute, in float64 and one number after the other, from their own tensors."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch

from tests.import_checkpoint.published import READ, State
from tests.matchers import literal_rcar

Array = np.ndarray


def numbers(part: State) -> dict[str, Array]:
    return {name.removeprefix("module."): value.numpy().astype(np.float64) for name, value in part.items()}


def unit(x: Array) -> Array:
    return x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-8)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


def apply(p: dict[str, Array], name: str, x: Array) -> Array:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def normed(p: dict[str, Array], name: str, x: Array) -> Array:
    """Batch normalisation in evaluation, along the last dimension."""
    x = (x - p[f"{name}.running_mean"]) / np.sqrt(p[f"{name}.running_var"] + 1e-5)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def gru(p: dict[str, Array], name: str, x: Array) -> Array:
    """(n, W) -> (n, D), the mean of both directions."""
    ways = []
    for way in ("", "_reverse"):
        h, out = np.zeros(p[f"{name}.weight_hh_l0{way}"].shape[1]), []
        for row in x if not way else x[::-1]:
            i = np.split(p[f"{name}.weight_ih_l0{way}"] @ row + p[f"{name}.bias_ih_l0{way}"], 3)
            r = np.split(p[f"{name}.weight_hh_l0{way}"] @ h + p[f"{name}.bias_hh_l0{way}"], 3)
            reset, update = sigmoid(i[0] + r[0]), sigmoid(i[1] + r[1])
            h = (1 - update) * np.tanh(i[2] + reset * r[2]) + update * h
            out.append(h)
        ways.append(np.array(out if not way else out[::-1]))
    return (ways[0] + ways[1]) / 2


def words_of(part: State, name: str) -> list[Array]:
    p = numbers(part)
    return [gru(p, name, p["embed.weight"][list(caption)]) for caption in READ]


def attend(query: Array, context: Array, sharpness: float) -> Array:
    """SCAN's attention: (q, D) what each query sees of the context."""
    s = context @ query.T  # (c, q)
    s = np.where(s > 0, s, 0.1 * s)
    s = s / (np.sqrt((s**2).sum(1, keepdims=True)) + 1e-8)
    return np.array([softmax(sharpness * s[:, k]) @ context for k in range(len(query))])


def pooled(x: Array, pool: str, sharpness: float) -> float:
    return float(x.mean()) if pool == "Mean" else math.log(np.exp(sharpness * x).sum()) / sharpness


def scan(model: list[State], images: Array, way: str, pool: str) -> Array:
    regions = [unit(apply(numbers(model[0]), "fc", image)) for image in images]
    texts = [unit(words) for words in words_of(model[1], "rnn")]
    found = np.zeros((len(regions), len(texts)))
    for i, v in enumerate(regions):
        for t, w in enumerate(texts):
            query, context, sharpness = (w, v, 9.0) if way == "t2i" else (v, w, 4.0)
            seen = attend(query, context, sharpness)
            found[i, t] = pooled((unit(query) * unit(seen)).sum(1), pool, 6.0)
    return found


def sgraf(model: list[State], images: Array, module: str) -> Array:
    p = numbers(model[2])

    def whole(x: Array, side: str) -> Array:
        local, mean = apply(p, f"{side}.embedding_local.0", x), apply(p, f"{side}.embedding_global.0", x.mean(0))
        if side == "v_global_w":
            local, mean = (
                normed(p, f"{side}.embedding_local.1", local.T).T,
                normed(p, f"{side}.embedding_global.1", mean),
            )
        logits = apply(p, f"{side}.embedding_common.0", np.tanh(local) * np.tanh(mean))[:, 0]
        return unit(softmax(logits) @ x)

    regions = [unit(apply(numbers(model[0]), "fc", image)) for image in images]
    texts = [unit(words) for words in words_of(model[1], "cap_rnn")]
    found = np.zeros((len(regions), len(texts)))
    for i, v in enumerate(regions):
        for t, w in enumerate(texts):
            local = unit(apply(p, "sim_tranloc_w", (unit(attend(w, v, 9.0)) - w) ** 2))
            glob = unit(apply(p, "sim_tranglo_w", (whole(v, "v_global_w") - whole(w, "t_global_w")) ** 2))
            nodes = np.vstack([glob, local])
            if module == "SGR":
                for step in range(2):
                    q, k = (apply(p, f"SGR_module.{step}.graph_{name}_w", nodes) for name in ("query", "key"))
                    edges = np.array([softmax(row) for row in q @ k.T])
                    nodes = np.maximum(apply(p, f"SGR_module.{step}.sim_graph_w", edges @ nodes), 0)
                vector = nodes[0]
            else:
                b = sigmoid(normed(p, "SAF_module.bn", apply(p, "SAF_module.attn_sim_w", nodes)))[:, 0]
                vector = unit(b / (b.sum() + 1e-8) @ nodes)
            found[i, t] = sigmoid(apply(p, "sim_eval_w", vector))[0]
    return found


def gpo(p: dict[str, Array], x: Array) -> Array:
    places = np.zeros((len(x), 32))
    for k in range(len(x)):
        for j in range(0, 32, 2):
            angle = k * math.exp(-j * math.log(10000.0) / 32)
            places[k, j], places[k, j + 1] = math.sin(angle), math.cos(angle)
    weights = softmax(gru(p, "gpool.gru", places) @ p["gpool.linear.weight"][0] / 0.1)
    return unit(weights @ np.sort(x, axis=0)[::-1])


def with_mlp(p: dict[str, Array], image: Array) -> Array:
    hidden = np.maximum(normed(p, "mlp.bns.0", apply(p, "mlp.layers.0", image)), 0)
    return apply(p, "fc", image) + apply(p, "mlp.layers.1", hidden)


RCAR_NAMES = {"alv_modules": "alignments", "sim_transform_w": "project", "rcr_modules": "correspondence",
              "rcr_matrix_w": "gates", "rcr_smooth_w": "sharpness", "rar_modules": "aggregation", "rar_q_w.0": "query",
              "rar_k_w.0": "key", "rar_v_w.0": "weigh", "sim_eval_w": "predict"}  # fmt: skip


def rcar(model: State, images: Array, way: str, regulators: str, steps: int) -> Array:
    """Of two images, since it is slow: by the literal version of the method, which these names stand for."""
    parts: dict[str, State] = {"img_enc": {}, "txt_enc": {}, "sim_enc": {}}
    for name, value in model.items():
        part, _, rest = name.removeprefix("module.").partition(".")
        parts[part][rest] = value
    weights = {}
    for name, value in numbers(parts["sim_enc"]).items():
        for published, here in RCAR_NAMES.items():
            name = name.replace(published, here)
        weights[name] = value
    config = SimpleNamespace(regulators=regulators, steps=steps, sharpness_t2i=10.0, sharpness_i2t=3.0)
    p = numbers(parts["img_enc"])
    regions = [list(unit(with_mlp(p, image))) for image in images[:2]]
    texts = [list(unit(words)) for words in words_of(parts["txt_enc"], "rnn")]
    return np.array([[literal_rcar.compare(weights, config, way, v, w).score for w in texts] for v in regions])


def vseinf(model: list[State], images: Array) -> Array:
    p, q = numbers(model[0]), numbers(model[1])
    vectors = [gpo(p, with_mlp(p, image)) for image in images]
    words = words_of({name.removeprefix("module."): value for name, value in model[1].items()}, "rnn")
    return np.array(vectors) @ np.array([gpo(q, caption) for caption in words]).T


def chan(model: list[State], images: Array, pool: str, *, attention: bool) -> Array:
    p = numbers(model[0])
    regions = []
    for image in images:
        x = apply(p, "fc", image)
        if attention:
            y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
            y = y * p["feedforward.ln.weight"] + p["feedforward.ln.bias"]
            q, k, v = np.split(
                y @ p["feedforward.attn.in_proj_weight"].T + p["feedforward.attn.in_proj_bias"], 3, axis=1
            )
            # eight heads of one number each
            seen = np.stack(
                [np.array([softmax(row) for row in np.outer(q[:, h], k[:, h])]) @ v[:, h] for h in range(8)], 1
            )
            x = x + apply(p, "feedforward.attn.out_proj", seen)
        regions.append(unit(x))
    texts = [unit(words) for words in words_of(model[1], "rnn")]
    best = [[(v @ w.T).max(0) for w in texts] for v in regions]
    one = (lambda x: x.mean()) if pool == "MeanPooling" else (lambda x: math.log(np.exp(x / 0.1).sum()))
    return np.array([[one(x) for x in row] for row in best])


def merged(g: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return g * v / v.norm()

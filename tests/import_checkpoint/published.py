"""Tiny checkpoints as the published train loops save them, and what their models score, worked out in plain loops."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itmkit.import_features.scan import import_scan
from itmkit.job import USUAL
from itmkit.parse_text.parse import parse_text
from itmkit.workspace import Workspace

D, W, F, S = 8, 4, 6, 5  # embedding, word, feature, similarity
WORDS = ("<pad>", "<start>", "<end>", "<unk>", "a", "dog", "runs", ".", "two", "cats", "n't", "do", "sleep", "''", "``")
CAPTIONS = ("A dog runs.", 'Two cats don\'t "sleep".', "Dog", "a cat. two dogs RUN")
READ = (  # CAPTIONS as NLTK cuts them, by number
    (1, 4, 5, 6, 7, 2),
    (1, 8, 9, 11, 10, 14, 12, 13, 7, 2),
    (1, 5, 2),
    (1, 4, 3, 7, 8, 3, 3, 2),
)
State = dict[str, torch.Tensor]


def workspace_of(folder: Path, regions: int = 36) -> Workspace:
    """Features and captions of four pictures in each split, imported and cut into words."""
    rng = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        (folder / "scan").mkdir(parents=True, exist_ok=True)
        np.save(folder / "scan" / f"{split}_ims.npy", rng.random((4, regions, F)).astype(np.float16).astype(np.float32))
        (folder / "scan" / f"{split}_caps.txt").write_text("\n".join(CAPTIONS) + "\n")
    workspace = Workspace(folder / "work")
    import_scan(workspace, folder / "scan")
    parse_text(workspace, parser="scan", job=USUAL)
    return workspace


def features(folder: Path) -> np.ndarray:
    return np.load(folder / "scan" / "test_ims.npy").astype(np.float64)


def vocabulary(path: Path, words: tuple[str, ...] = WORDS) -> Path:
    numbers = {word: number for number, word in enumerate(words)}
    path.write_text(json.dumps({"word2idx": numbers, "idx2word": {}, "idx": len(words)}))
    return path


def options(**changed: Any) -> argparse.Namespace:
    usual = {"bi_gru": True, "num_layers": 1, "no_imgnorm": False, "no_txtnorm": False, "precomp_enc_type": "basic",
             "data_path": "/home/someone", "margin": 0.2}  # fmt: skip
    return argparse.Namespace(**{**usual, **changed})


def scan_options(way: str = "t2i", pool: str = "Mean", **changed: Any) -> argparse.Namespace:
    return options(cross_attn=way, agg_func=pool, lambda_softmax=9.0 if way == "t2i" else 4.0, lambda_lse=6.0,
                   raw_feature_norm="clipped_l2norm", **changed)  # fmt: skip


def save(path: Path, model: Any, opt: Any, **changed: Any) -> Path:
    torch.save({"epoch": 3, "model": model, "best_rsum": 411.5, "opt": opt, "Eiters": 10, **changed}, path)
    return path


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=random) * (0.5 if len(shape) > 1 else 0.2)
        found[name] = values.abs() + 0.5 if name.endswith("running_var") else values
    return found


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{key}": (size,) for key in ("weight", "bias", "running_mean", "running_var")}


def gru_shapes(name: str, size: int, into: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        "weight_ih": (3 * size, into),
        "weight_hh": (3 * size, size),
        "bias_ih": (3 * size,),
        "bias_hh": (3 * size,),
    }
    return {f"{name}.{key}_l0{way}": shape for way in ("", "_reverse") for key, shape in shapes.items()}


def scan_model(gru: str = "rnn", words: int = len(WORDS)) -> list[State]:
    return [drawn(linear("fc", D, F), 1), drawn({"embed.weight": (words, W)} | gru_shapes(gru, D, W), 2)]


def sgraf_model(module: str) -> list[State]:
    shapes = linear("sim_tranloc_w", S, D) | linear("sim_tranglo_w", S, D) | linear("sim_eval_w", 1, S)
    for side in ("v", "t"):
        for part, out in (("local", D), ("global", D), ("common", 1)):
            shapes |= linear(f"{side}_global_w.embedding_{part}.0", out, D)
    shapes |= norm("v_global_w.embedding_local.1", 36) | norm("v_global_w.embedding_global.1", D)
    if module == "SGR":
        for step in range(2):
            for name in ("graph_query_w", "graph_key_w", "sim_graph_w"):
                shapes |= linear(f"SGR_module.{step}.{name}", S, S)
    else:
        shapes |= linear("SAF_module.attn_sim_w", 1, S) | norm("SAF_module.bn", 1)
    state = drawn(shapes, 3)
    counts = [name for name in shapes if name.endswith("running_mean")]
    state |= {name.replace("running_mean", "num_batches_tracked"): torch.tensor(9) for name in counts}
    return [*scan_model("cap_rnn"), state]


def regions_with_mlp(seed: int, **more: tuple[int, ...]) -> State:
    images = linear("fc", D, F) | linear("mlp.layers.0", D // 2, F) | linear("mlp.layers.1", D, D // 2) | more
    images |= norm("mlp.bns.0", D // 2) | norm("mlp.bns.1", D)
    return drawn(images, seed) | {f"mlp.bns.{k}.num_batches_tracked": torch.tensor(9) for k in (0, 1)}


RCAR = {"use_bi_gru": True, "rcar_step": 0, "rcr_step": 0, "rar_step": 0, "t2i_smooth": 10.0,
        "i2t_smooth": 3.0}  # fmt: skip


def rcar_model(regulators: str, steps: int) -> State:
    """As one module, whose names those of its parts begin with."""
    shapes = linear("sim_eval_w", 1, S)
    for step in range(1 if regulators == "only_rar" else steps):
        shapes |= linear(f"alv_modules.{step}.sim_transform_w", S, D)
    for step in range({"coop_rcar": steps - 1, "only_rcr": steps, "only_rar": 0}[regulators]):
        name = f"rcr_modules.{step}.rcr"
        shapes |= linear(f"{name}_smooth_w.0", S // 2, S) | linear(f"{name}_smooth_w.2", 1, S // 2)
        shapes |= linear(f"{name}_matrix_w.0", 2 * S, S) | linear(f"{name}_matrix_w.2", D, 2 * S)
    for step in range(0 if regulators == "only_rcr" else steps):
        for name, out in (("q", S), ("k", S), ("v", 1)):
            shapes |= linear(f"rar_modules.{step}.rar_{name}_w.0", out, S)
    texts = drawn({"embed.weight": (len(WORDS) + 1, W)} | gru_shapes("rnn", D, W), 9)
    parts = {"img_enc": regions_with_mlp(8), "txt_enc": texts, "sim_enc": drawn(shapes, 10)}
    return {f"module.{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


def vseinf_model() -> list[State]:
    pool = gru_shapes("gpool.gru", 32, 32) | {"gpool.linear.weight": (1, 32)}
    state = regions_with_mlp(4, **pool)
    texts = drawn({"embed.weight": (len(WORDS) + 1, W)} | gru_shapes("rnn", D, W) | pool, 5)
    return [{f"module.{name}": value for name, value in part.items()} for part in (state, texts)]


def chan_model(*, attention: bool) -> list[State]:
    images = linear("fc", D, F)
    if attention:
        images |= linear("feedforward.ln", D, D) | linear("feedforward.attn.out_proj", D, D)
        images |= {"feedforward.attn.in_proj_weight": (3 * D, D), "feedforward.attn.in_proj_bias": (3 * D,)}
        images["feedforward.ln.weight"] = (D,)
    texts = {"embed.weight": (len(WORDS) + 1, W)} | gru_shapes("rnn", D, W) | linear("fc", D, D)
    return [drawn(images, 6), drawn(texts, 7), {}, {}]

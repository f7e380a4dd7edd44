"""A checkpoint as the fork of detectron2 wrote it: its names and shapes, with random numbers that behave."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PREDICTOR = "roi_heads.box_predictor"
RPN = "proposal_generator.rpn_head"


def shapes() -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight, written out from what the file of the fork holds."""
    found: dict[str, tuple[int, ...]] = dict(_convolution("backbone.stem.conv1", (64, 3, 7, 7)))
    stages = {"backbone.res2": (3, 64, 64), "backbone.res3": (4, 128, 256), "backbone.res4": (23, 256, 512)}
    for name, (blocks, middle, given) in (stages | {"roi_heads.res5": (3, 512, 1024)}).items():
        out = 4 * middle
        for number in range(blocks):
            block = f"{name}.{number}"
            if number == 0:
                found |= _convolution(f"{block}.shortcut", (out, given, 1, 1))
            found |= _convolution(f"{block}.conv1", (middle, given if number == 0 else out, 1, 1))
            found |= _convolution(f"{block}.conv2", (middle, middle, 3, 3))
            found |= _convolution(f"{block}.conv3", (out, middle, 1, 1))
    layers = {
        f"{RPN}.conv": (512, 1024, 3, 3),
        f"{RPN}.objectness_logits": (12, 512, 1, 1),
        f"{RPN}.anchor_deltas": (48, 512, 1, 1),
        f"{PREDICTOR}.cls_score": (1601, 2048),
        f"{PREDICTOR}.bbox_pred": (6400, 2048),
        f"{PREDICTOR}.fc_attr": (512, 2304),
        f"{PREDICTOR}.attr_score": (401, 512),
    }
    for name, shape in layers.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found | {
        f"{PREDICTOR}.cls_embedding.weight": (1601, 256),
        "proposal_generator.anchor_generator.cell_anchors.0": (12, 4),
    }


def _convolution(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.norm.{part}", shape[:1]


def write_checkpoint(path: Path, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Writes {"model": {name: array}} as a pickle."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for name, shape in shapes().items():
        if len(shape) == 1:
            one = name.endswith(("norm.weight", "running_var"))
            # what a block adds is kept small, so that the values stay in the range of float16 behind 33 of them
            value = np.full(shape, 0.1 if name.endswith("conv3.norm.weight") else float(one), np.float32)
        else:
            scale = np.sqrt(2 / np.prod(shape[1:]))
            if name.startswith("backbone.stem"):
                scale *= 0.02  # pixels go up to 150, features should be about 1
            if name.endswith("cls_score.weight"):
                scale *= 3  # sure of something
            if "bbox_pred" in name or "anchor_deltas" in name:
                scale *= 0.1
            value = rng.standard_normal(shape, np.float32) * np.float32(scale)
        weights[name] = value
    with open(path, "wb") as file:
        pickle.dump({"model": weights, "__author__": "somebody", "matching_heuristics": False}, file, protocol=2)
    return weights

"""How fast a device scores and trains, as a share of its products of matrices, and how much memory that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from itmkit.inputs import Inputs
from itmkit.machine.precision import Products, precision_of, products_in
from itmkit.matchers import build, method
from itmkit.runs.begin import training_vocabulary
from itmkit.runs.settings import resolve
from itmkit.scoring.matrix import score_matrix
from itmkit.training.estimate import estimate
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.benchmarks.scoring import FLOPS

METHODS = ("scan", "glfn", "sgraf", "mpsm")
SETTINGS: dict[str, dict[str, Any]] = {"glfn": {"words": "gru", "tags": False}}  # there are no frozen vectors here
TRY_IMAGES = 64  # scored first, to see how many images fit into the time


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def product_rate(device: torch.device, side: int, precision: Products) -> float:
    """Multiplications and additions a second of one large product, the best of some."""
    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    took = [seconds_of(lambda: left @ right, device) for _ in range(6)]
    return 2 * side**3 / min(took[1:])


def scoring_seconds(
    matcher: torch.nn.Module, inputs: Inputs, images: int, precision: Products, device: torch.device
) -> float:
    """Of the first images with all captions, which are encoded too."""
    some = np.arange(images)
    with torch.inference_mode(), products_in(precision, device):
        return seconds_of(lambda: score_matrix({"": matcher}, inputs, images=some, device=device), device)


def scoring_rates(
    workspace: Workspace, device: str, methods: Sequence[str], *, embed: int, side: int, limit: float
) -> list[dict[str, Any]]:
    """Every member's pairs a second over the images of val with all their captions, each within about `limit` s."""
    where = torch.device(device)
    precision = precision_of("auto", where)
    rate = product_rate(where, side, precision)
    found = []
    for name in methods:
        config = resolve(name, recipe="paper", settings=SETTINGS.get(name, {}) | {"embed": embed})
        needs = method(name).needs(config.matcher)
        vocabulary = training_vocabulary(workspace, workspace.dataset(), config)
        inputs = Inputs(workspace, workspace.dataset().split("val"), vocabulary, needs)
        members = build(name, config.matcher, sizes=inputs.sizes, seed=0)
        words, texts = float(inputs.lengths.mean()), len(inputs.caption_texts)
        for member, matcher in members.items():
            matcher.to(where)

            images = min(TRY_IMAGES, len(inputs.images))
            scoring_seconds(matcher, inputs, images, precision, where)
            took = scoring_seconds(matcher, inputs, images, precision, where)
            images = min(len(inputs.images), max(images, int(images * limit / took)))
            pairs = images * texts / scoring_seconds(matcher, inputs, images, precision, where)
            flops = FLOPS.get((name, member), FLOPS.get(("scan", member)))
            share = pairs * flops(words, embed, config.matcher) / rate if flops else None
            found.append(
                {"method": name, "member": member, "images": images, "captions": texts, "precision": precision,
                 "pairs_per_second": pairs, "share_of_products": share, "products_per_second": rate}
            )  # fmt: skip
            matcher.to("cpu")
    return found


def training_rates(
    workspace: Workspace, device: str, methods: Sequence[str], *, embed: int, batch: int
) -> list[dict[str, Any]]:
    """Captions a second of training steps, as `train --dry-run` measures them."""
    found = []
    for name in methods:
        settings = SETTINGS.get(name, {}) | {
            "embed": embed,
            "batch_size": batch,
            "precision": "auto",
            "minimum_count": 1,
        }
        tried = estimate(workspace, resolve(name, recipe="paper", settings=settings), device=device)
        stage = tried.stages[-1]
        found.append(
            {"method": name, "batch": batch, "precision": tried.precision, "captions_per_second": batch / stage.step,
             "pairs_per_second": stage.pairs_per_second, "waiting": stage.waiting}
        )  # fmt: skip
    return found


def memory_of_training(workspace: Workspace, device: str, *, embed: int, batch: int) -> dict[str, Any]:
    """Bytes that `train --dry-run` names, and those that an epoch of training then takes."""
    settings = {"embed": embed, "batch_size": batch, "precision": "auto", "minimum_count": 1, "epochs": 1}
    config = resolve("scan", recipe="paper", settings=settings)
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    named = estimate(workspace, config, device=device).memory
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    train(workspace, config, run="memory", device=device)
    found: dict[str, Any] = {"named": named}
    if cuda:
        found |= {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    return found

"""Rendered scenes as tensors: what `train_detector.py` learns from and is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor

from itmkit.scenes.render import render
from itmkit.scenes.world import COLOURS, KINDS, PATTERNS, SIZES, sample_scene

SIDE = 160  # pictures are scaled to SIDE x SIDE
LEAST_VISIBLE = 0.25  # an object hidden more than this is neither a target nor counted as missed
STREAM = {
    "train": 0,
    "val": 1,
    "probe": 2,
}  # seeds are [7, seed, stream, number]: no other part of itmkit uses [7, ...]
ATTRIBUTES: dict[str, list[str]] = {"colour": list(COLOURS), "size": list(SIZES), "pattern": list(PATTERNS)}


@dataclass
class Pool:
    """Rendered pictures and their objects, padded to the largest number of objects M.

    images (n, 3, SIDE, SIDE) uint8; boxes (n, M, 4) float32, centre x, centre y, width, height in [0, 1];
    labels (n, M, 4) int64: kind, colour, size, pattern; real (n, M) bool: objects that count.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    real: Tensor


def render_pool(size: int, seed: int, stream: str, path: Path, progress: Progress) -> Pool:
    """Renders ``size`` scenes, or reads them from ``path`` where an earlier run left them."""
    if path.exists():
        return Pool(**load_file(path))
    most = 12
    pool = Pool(
        images=torch.zeros(size, 3, SIDE, SIDE, dtype=torch.uint8),
        boxes=torch.full((size, most, 4), 0.5),
        labels=torch.zeros(size, most, 4, dtype=torch.int64),
        real=torch.zeros(size, most, dtype=torch.bool),
    )
    kinds = list(KINDS)
    for number in progress.track(range(size), description=f"render {stream}"):
        rng = np.random.default_rng([7, seed, STREAM[stream], number])
        scene = sample_scene(rng)
        picture = render(scene, rng)
        width, height = picture.image.size
        image = (
            picture.image
            if (width, height) == (SIDE, SIDE)
            else picture.image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        )
        pool.images[number] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        left, top, right, bottom = np.asarray(picture.boxes, dtype=np.float32).T
        boxes = np.stack([(left + right) / 2 / width, (top + bottom) / 2 / height,
                          (right - left) / width, (bottom - top) / height], 1)  # fmt: skip
        for at, thing in enumerate(scene.objects):
            pool.boxes[number, at] = torch.from_numpy(boxes[at])
            words = [thing.colour, thing.size, thing.pattern]
            pool.labels[number, at, 0] = kinds.index(thing.kind)
            for column, (word, names) in enumerate(zip(words, ATTRIBUTES.values(), strict=True), start=1):
                pool.labels[number, at, column] = names.index(word)
            pool.real[number, at] = bool(picture.visible[at] >= LEAST_VISIBLE)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(vars(pool), part)
    part.rename(path)
    return pool


def batch_of(pool: Pool, rows: Tensor, mirrored: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """pixels (B, 3, S, S) in [0, 1], boxes (B, M, 4), labels (B, M, 4), real (B, M); ``mirrored`` (B,) flips."""
    pixels, boxes = pool.images[rows].float() / 255, pool.boxes[rows].clone()
    if mirrored is not None:
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        boxes[mirrored, :, 0] = 1 - boxes[mirrored, :, 0]
    return pixels.contiguous(memory_format=torch.channels_last), boxes, pool.labels[rows], pool.real[rows]


def corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size -> (..., 4) left, top, right, bottom."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of broadcast boxes (..., 4) given as corners."""
    inner = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    outer = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    both = inner.prod(-1)
    union = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - both
    around = outer.prod(-1)
    iou = both / union.clamp(min=1e-9)
    return iou, iou - (around - union) / around.clamp(min=1e-9)

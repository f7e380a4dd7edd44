"""Train the small object detector that ships with itmkit for its synthetic scenes.

    python examples/train_detector.py --out itmkit/regions/weights/scenes-detector

An RT-DETR of 1.5 million parameters learns from rendered scenes: a pool of pictures is rendered once and kept under
``--work``, and every step draws a batch from it. Three things make it converge in about an hour on one core:

- the encoder's proposals are trained densely (every cell near the middle of an object is a positive), while the
  decoder is trained one-to-one (Hungarian matching), which is what removes duplicates;
- the decoder's states carry linear heads for colour, size, pattern and the centre of the box. These heads are dropped
  on export: they are there so that the states, which matchers use as region features, say more than an object's kind;
- batches, and everything else that is random, depend only on the seed and the number of the step, so a run that was
  killed continues exactly where its last checkpoint left it.

Needs scipy beside what itmkit needs itself (``pip install itmkit[examples]``).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from detector_figures import measure, probe
from detector_pictures import ATTRIBUTES, KINDS, SIDE, batch_of, corners, overlap, render_pool
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessorPil, RTDetrResNetConfig


def build_detector() -> RTDetrForObjectDetection:
    """The architecture, its weights set for training from nothing (the library's start suits a trained backbone)."""
    backbone = RTDetrResNetConfig(
        embedding_size=24, hidden_sizes=[24, 64, 128], depths=[1, 1, 1], layer_type="basic", out_indices=[2, 3]
    )
    kinds = list(KINDS)
    config = RTDetrConfig(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=[64, 128],
        feat_strides=[8, 16],
        encode_proj_layers=[1],
        encoder_hidden_dim=128,
        encoder_ffn_dim=256,
        encoder_attention_heads=4,
        hidden_expansion=0.5,
        d_model=128,
        num_queries=40,
        num_feature_levels=2,
        decoder_in_channels=[128, 128],
        decoder_layers=2,
        decoder_ffn_dim=256,
        decoder_attention_heads=4,
        num_denoising=0,
        initializer_bias_prior_prob=0.02,
        id2label=dict(enumerate(kinds)),
        label2id={kind: number for number, kind in enumerate(kinds)},
    )
    model = RTDetrForObjectDetection(config)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and not any(part in name for part in ("class_embed", "enc_score_head",
                                                       "sampling_offsets", "attention_weights")):  # fmt: skip
            last_of_boxes = name.endswith("layers.2") and "bbox" in name
            nn.init.zeros_(module.weight) if last_of_boxes else nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return model.to(memory_format=torch.channels_last)


class AttributeHeads(nn.Module):
    """Linear read-outs of a state (..., D): one per attribute, and the centre of the box. Not exported."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in ATTRIBUTES.items()})
        self.centre = nn.Linear(width, 2)

    def loss(self, states: Tensor, labels: Tensor, boxes: Tensor, weight: Tensor | float = 1.0) -> Tensor:
        """Sum over N states (N, D) with labels (N, 4) and boxes (N, 4)."""
        total = 2 * (F.l1_loss(self.centre(states), boxes[:, :2], reduction="none").sum(1) * weight).sum()
        for column, head in enumerate(self.words.values(), start=1):
            total = total + (F.cross_entropy(head(states), labels[:, column], reduction="none") * weight).sum()
        return total


def quality_loss(logits: Tensor, where: tuple[Tensor, ...], kinds: Tensor, quality: Tensor) -> Tensor:
    """Varifocal loss: the class logit of a matched state should equal the IoU of its box, all others zero."""
    target = torch.zeros_like(logits)
    target[(*where, kinds)] = quality
    weight = torch.where(target > 0, target, 0.75 * logits.detach().sigmoid().square())
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")


def box_loss(predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the box losses of N pairs (N, 4), and the IoU of each pair without gradient."""
    iou, giou = overlap(corners(predicted), corners(true))
    return 5 * F.l1_loss(predicted, true, reduction="sum") + 2 * (1 - giou).sum(), iou.detach()


@torch.no_grad()
def one_to_one(logits: Tensor, boxes: Tensor, labels: Tensor, true: Tensor, real: Tensor) -> tuple[Tensor, ...]:
    """Hungarian matching: logits (B, L, Q, C), boxes (B, L, Q, 4) -> indexes picture, layer, query, object."""
    score = logits.sigmoid()
    score = score.gather(3, labels[:, None, None, :, 0].expand(*score.shape[:3], -1))  # (B, L, Q, M)
    wanted = 0.25 * (1 - score).square() * -(score + 1e-8).log() - 0.75 * score.square() * -(1 - score + 1e-8).log()
    apart = (boxes[:, :, :, None] - true[:, None, None]).abs().sum(-1)
    giou = overlap(corners(boxes)[:, :, :, None], corners(true)[:, None, None])[1]
    cost = (2 * wanted + 5 * apart - 2 * giou).numpy()
    found: list[np.ndarray] = []
    for picture, layer in np.ndindex(*cost.shape[:2]):
        objects = np.flatnonzero(real[picture].numpy())
        query, column = linear_sum_assignment(cost[picture, layer][:, objects])
        found.append(np.stack([np.full_like(query, picture), np.full_like(query, layer), query, objects[column]]))
    return tuple(torch.from_numpy(np.concatenate(found, 1)).long())


def cells_of_objects(true: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dense positives: the encoder's cells whose middle lies in the inner half of a box -> picture, cell, object.

    A cell inside several boxes belongs to the smallest, which is the one more likely to be in front.
    """
    middles = []
    for stride in (8, 16):
        axis = (torch.arange(SIDE // stride) + 0.5) * stride / SIDE
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        middles.append(torch.stack([x.flatten(), y.flatten()], 1))
    cells = torch.cat(middles)  # (T, 2)
    away = (cells[None, :, None] - true[:, None, :, :2]).abs()  # (B, T, M, 2)
    reach = (true[:, None, :, 2:] / 4).clamp(min=0.5 * 8 / SIDE)
    inside = (away <= reach).all(-1) & real[:, None]
    area = true[..., 2:].prod(-1)[:, None].masked_fill(~inside, math.inf)
    owner = area.argmin(-1)
    picture, cell = inside.any(-1).nonzero(as_tuple=True)
    return picture, cell, owner[picture, cell]


class Trainee(nn.Module):
    """The detector and its attribute heads; the encoder's cell states are caught on the way for their own heads."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = build_detector()
        width = self.detector.config.d_model
        self.heads, self.cell_heads = AttributeHeads(width), AttributeHeads(width)
        self.cells = torch.empty(0)
        self.detector.model.enc_output.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.cells = output

    def loss(self, pixels: Tensor, true: Tensor, labels: Tensor, real: Tensor) -> Tensor:
        out = self.detector.model(pixels)
        logits, boxes = out.intermediate_logits, out.intermediate_reference_points  # (B, L, Q, C), (B, L, Q, 4)
        states = out.intermediate_hidden_states
        count = real.sum().clamp(min=1)
        picture, layer, query, thing = one_to_one(logits, boxes, labels, true, real)
        placed, iou = box_loss(boxes[picture, layer, query], true[picture, thing])
        named = quality_loss(logits, (picture, layer, query), labels[picture, thing, 0], iou)
        told = self.heads.loss(states[picture, layer, query], labels[picture, thing], true[picture, thing])
        decoder = (placed + named + 0.7 * told) / count

        picture, cell, thing = cells_of_objects(true, real)
        predicted = out.enc_outputs_coord_logits.sigmoid()[picture, cell]
        placed, iou = box_loss(predicted, true[picture, thing])
        named = quality_loss(out.enc_outputs_class, (picture, cell), labels[picture, thing, 0], iou.clamp(min=0.1))
        told = self.cell_heads.loss(self.cells[picture, cell], labels[picture, thing], true[picture, thing])
        encoder = (placed + named + 0.7 * told) / max(len(picture), 1)
        return decoder + encoder


def export(model: RTDetrForObjectDetection, weights: dict[str, Tensor], out: Path) -> None:
    """Writes config, weights (float32) and image settings; every file is complete before it gets its name."""
    part = out.with_name(out.name + ".part")
    model.save_pretrained(part, state_dict=weights)
    RTDetrImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(part)
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(part.iterdir()):
        file.chmod(0o644)
        file.replace(out / file.name)
    part.rmdir()


def save_state(path: Path, step: int, settings: dict[str, object], trainee: Trainee, mean: dict[str, Tensor],
               optimiser: torch.optim.Optimizer) -> None:  # fmt: skip
    tensors = {f"model/{k}": v.contiguous() for k, v in trainee.state_dict().items()}
    tensors |= {f"mean/{k}": v.contiguous() for k, v in mean.items()}
    for number, values in optimiser.state_dict()["state"].items():
        tensors |= {f"adam/{number}/{k}": v.contiguous() for k, v in values.items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"step": str(step), "settings": json.dumps(settings)})
    part.rename(path)


def load_state(path: Path, settings: dict[str, object], trainee: Trainee, mean: dict[str, Tensor],
               optimiser: torch.optim.Optimizer) -> int:  # fmt: skip
    with safe_open(path, "pt") as file:
        notes = file.metadata()
    if json.loads(notes["settings"]) != settings:
        raise SystemExit(f"{path} comes from other settings ({notes['settings']}): remove it or name another --work")
    tensors = load_file(path)
    trainee.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
    state = optimiser.state_dict()
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for key, value in tensors.items():
        if key.startswith("mean/"):
            mean[key[5:]].copy_(value)
        elif key.startswith("adam/"):
            _, number, name = key.split("/")
            # moments must lie in memory as their weights do (channels last), which a file does not keep
            laid = value if name == "step" else torch.empty_like(weights[int(number)], requires_grad=False).copy_(value)
            state["state"].setdefault(int(number), {})[name] = laid
    optimiser.load_state_dict(state)
    return int(notes["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained detector")
    parser.add_argument("--work", type=Path, default=Path("detector-work"), help="rendered pictures and checkpoints")
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--pool", type=int, default=12000, help="rendered pictures to learn from, if so many are drawn")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=7e-4, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1000, help="steps between checkpoints, each with an export")
    args = parser.parse_args()
    args.pool = min(args.pool, args.steps * args.batch)  # a short trial need not render thousands
    settings = {name: getattr(args, name) for name in ("steps", "pool", "batch", "rate", "seed")}
    torch.manual_seed(args.seed)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        sizes = {"train": args.pool, "val": min(500, args.pool), "probe": min(1000, args.pool)}
        pools = {
            name: render_pool(size, args.seed, name, args.work / f"{name}-{args.seed}-{size}.safetensors", progress)
            for name, size in sizes.items()
        }
        trainee = Trainee()
        plain = [p for p in trainee.parameters() if p.ndim < 2]
        heavy = [p for p in trainee.parameters() if p.ndim >= 2]
        optimiser = torch.optim.AdamW(
            [{"params": heavy, "weight_decay": 1e-2}, {"params": plain, "weight_decay": 0.0}], fused=True
        )
        live = trainee.detector.state_dict()  # views of the weights, so always the present ones
        mean = {name: value.clone() for name, value in live.items()}  # running mean over the steps: what is exported
        floats = [name for name, value in live.items() if value.is_floating_point()]
        first, checkpoint = 0, args.work / "checkpoint.safetensors"
        if checkpoint.exists():
            first = load_state(checkpoint, settings, trainee, mean, optimiser)
            progress.console.print(f"continuing after step {first}")
        task = progress.add_task("train", total=args.steps, completed=first)
        began, recent = time.monotonic(), 0.0
        if first == args.steps:
            export(trainee.detector, mean, args.out)
        for step in range(first, args.steps):
            warm = min(1.0, (step + 1) / 200)
            rate = args.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
            for group in optimiser.param_groups:
                group["lr"] = rate
            rng = np.random.default_rng([7, args.seed, 3, step])
            rows = torch.from_numpy(rng.choice(args.pool, size=min(args.batch, args.pool), replace=False))
            mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5)
            trainee.train()
            loss = trainee.loss(*batch_of(pools["train"], rows, mirrored))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trainee.parameters(), 2.0)
            optimiser.step()
            keep = min(0.999, (step + 1) / (step + 10))
            with torch.no_grad():
                torch._foreach_lerp_([mean[name] for name in floats], [live[name] for name in floats], 1 - keep)
            recent = loss.item() if step == first else 0.98 * recent + 0.02 * loss.item()
            progress.update(task, advance=1, description=f"train {recent:.2f}")
            done = step + 1
            if done % 50 == 0 and not progress.console.is_terminal:
                progress.console.print(f"step {done}  loss {recent:.3f}  {time.monotonic() - began:.0f} s")
            if done % args.every == 0 or done == args.steps:
                save_state(checkpoint, done, settings, trainee, mean, optimiser)
                export(trainee.detector, mean, args.out)
                shipped = RTDetrForObjectDetection.from_pretrained(args.out)
                figures = measure(shipped, pools["val"])
                progress.console.print(f"step {done}  " + "  ".join(f"{k} {v:.4f}" for k, v in figures.items()))
    shipped = RTDetrForObjectDetection.from_pretrained(args.out)
    figures = measure(shipped, pools["val"]) | probe(shipped, pools["probe"], pools["val"])
    figures["minutes"] = (time.monotonic() - began) / 60
    print(json.dumps({"settings": settings, "figures": {k: round(v, 4) for k, v in figures.items()}}, indent=1))


if __name__ == "__main__":
    main()

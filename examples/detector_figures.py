"""What `train_detector.py` reports: average precision, recall, and what a linear map reads from the states."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from detector_pictures import ATTRIBUTES, KINDS, SIDE, Pool, batch_of, corners, overlap
from torch import Tensor
from torch.nn import functional as F
from transformers import RTDetrForObjectDetection


@torch.no_grad()
def predict(
    model: RTDetrForObjectDetection, pool: Pool, size: int = 32
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Per picture: its number, scores (Q, C), boxes (Q, 4) as corners in [0, 1], states (Q, D), best query first."""
    model.eval()
    for start in range(0, len(pool.images), size):
        rows = torch.arange(start, min(start + size, len(pool.images)))
        out = model(batch_of(pool, rows)[0])
        scores, boxes, states = out.logits.sigmoid(), corners(out.pred_boxes), out.last_hidden_state
        for at, row in enumerate(rows.tolist()):
            order = scores[at].amax(1).argsort(descending=True, stable=True)
            yield row, scores[at][order], boxes[at][order], states[at][order]


def average_precision(hits: np.ndarray, scores: np.ndarray, total: int) -> float:
    """Area under the precision-recall curve (every point), hits (n,) bool with scores (n,), total true objects."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    recall = np.concatenate([[0], right / max(total, 1)])
    return float((np.diff(recall) * precision).sum())


def measure(model: RTDetrForObjectDetection, pool: Pool) -> dict[str, float]:
    """mAP at IoU 0.5 over kinds, and how many true objects are among the best 12 and 36 boxes.

    "recall" asks for a box of IoU >= 0.5, "recall_named" for one of the right kind as well.
    """
    per_kind: dict[int, list[tuple[bool, float]]] = {kind: [] for kind in range(len(KINDS))}
    among, named, total = {12: 0, 36: 0}, {12: 0, 36: 0}, 0
    for row, scores, boxes, _ in predict(model, pool):
        real = pool.real[row]
        iou = overlap(boxes[:, None], corners(pool.boxes[row])[None])[0]  # (Q, M)
        best, kind = scores.max(1)
        close = (iou >= 0.5) & real[None]
        right = close & (kind[:, None] == pool.labels[row, :, 0][None])
        total += int(real.sum())
        for top in among:
            among[top] += int(close[:top].any(0).sum())
            named[top] += int(right[:top].any(0).sum())
        taken = torch.zeros_like(real)
        for query in range(len(boxes)):
            candidates = (iou[query] * (right[query] & ~taken)).max(0)
            hit = bool(candidates.values >= 0.5)
            if hit:
                taken[candidates.indices] = True
            # a duplicate of an object that hardly shows is no mistake: leave it out
            elif bool(((iou[query] >= 0.5) & ~real & (pool.labels[row, :, 0] == kind[query])).any()):
                continue
            per_kind[int(kind[query])].append((hit, float(best[query])))
    result = {}
    precisions = []
    for number, pairs in per_kind.items():
        have = int(((pool.labels[..., 0] == number) & pool.real).sum())
        if have:
            hits, scores_ = np.array([h for h, _ in pairs], bool), np.array([s for _, s in pairs])
            precisions.append(average_precision(hits, scores_, have) if pairs else 0.0)
    result["map50"] = float(np.mean(precisions))
    for top in among:
        result[f"recall_top{top}"] = among[top] / total
        result[f"recall_named_top{top}"] = named[top] / total
    return result


def matched_states(model: RTDetrForObjectDetection, pool: Pool, top: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """The state of the best of the first ``top`` boxes for each object found: (N, D), labels (N, 4), boxes (N, 4)."""
    states, labels, true = [], [], []
    for row, _, boxes, state in predict(model, pool):
        iou = overlap(boxes[:top, None], corners(pool.boxes[row])[None])[0]
        value, query = iou.max(0)
        keep = (value >= 0.5) & pool.real[row]
        states.append(state[query[keep]])
        labels.append(pool.labels[row][keep])
        true.append(pool.boxes[row][keep])
    return torch.cat(states), torch.cat(labels), torch.cat(true)


def probe(model: RTDetrForObjectDetection, learn: Pool, test: Pool) -> dict[str, float]:
    """What a linear map reads from a state: accuracy per attribute, and mean distance to the true centre in pixels."""
    x, labels, boxes = matched_states(model, learn)
    if len(x) < 100:
        return {}  # a trial of a few steps has found next to nothing
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x = torch.cat([(x - mean) / spread, torch.ones(len(x), 1)], 1)
    x2, labels2, boxes2 = matched_states(model, test)
    x2 = torch.cat([(x2 - mean) / spread, torch.ones(len(x2), 1)], 1)
    result: dict[str, float] = {}
    for column, (name, values) in enumerate({"kind": list(KINDS), **ATTRIBUTES}.items()):
        weight = torch.zeros(x.shape[1], len(values), requires_grad=True)
        solver = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")

        def closure(weight: Tensor = weight, column: int = column, solver: torch.optim.LBFGS = solver) -> Tensor:
            solver.zero_grad()
            loss = F.cross_entropy(x @ weight, labels[:, column]) + 1e-3 * weight.square().sum(0).mean()
            loss.backward()
            return loss

        solver.step(closure)
        result[f"probe_{name}"] = float(((x2 @ weight).argmax(1) == labels2[:, column]).float().mean())
    ridge = x.T @ x + torch.eye(x.shape[1])
    centre = x2 @ torch.linalg.solve(ridge, x.T @ boxes[:, :2])
    result["probe_centre_px"] = float((centre - boxes2[:, :2]).norm(dim=1).mean() * SIDE)
    return result

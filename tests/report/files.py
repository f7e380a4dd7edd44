"""Files as training, evaluate and compare write them, with chosen figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from itmkit.files import write_json, write_text
from itmkit.workspace import Workspace

NAN = math.nan
LABELS = ("dog", "ball", "person")


def recalls(r1: float) -> dict[str, float]:
    return {"R@1": r1, "R@5": r1 + 20, "R@10": r1 + 30, "medr": 4.0, "meanr": 9.5}


def member(rsum: float, loss: float | None = None) -> dict[str, Any]:
    found = {"rsum": rsum, "i2t": recalls(rsum / 10), "t2i": recalls(rsum / 12), "images": 200, "captions": 1000}
    return found if loss is None else {"loss": loss, **found}


def metrics(workspace: Workspace, run: str, rsums: Mapping[str, Sequence[float]], *, images: int = 200) -> Path:
    """metrics.jsonl: {member: [rsum of each epoch]}; the loss of an epoch is 1 / epoch."""
    lines = []
    for place in range(len(next(iter(rsums.values())))):
        line: dict[str, Any] = {"epoch": place + 1, "negatives": "soft", "validation_images": images, "collapsed": []}
        for name, values in rsums.items():
            line[name] = member(values[place], None if name == "ensemble" else 1 / (place + 1))
        lines.append(json.dumps(line) + "\n")
    path = workspace.run(run) / "metrics.jsonl"
    write_text(path, "".join(lines))
    return path


def result(name: str, r1: float, *, kind: str = "single", asked: bool = True) -> dict[str, Any]:
    """An entry of "results"; asked: with curves, slices and labels."""
    found = {"name": name, "kind": kind, "i2t": recalls(r1), "t2i": recalls(r1 / 2), "rsum": 6 * r1}
    found |= {"mR": r1, "images": 100, "captions": 500}
    if asked:
        found["curves"] = {
            side: {"cmc": [top * k / (k + 3) for k in range(1, 101)], "eleven": [top - 3 * i for i in range(11)]}
            for side, top in (("i2t", 30 + r1), ("t2i", 31 + r1))
        }
        interval = {"value": r1, "low": r1 - 2, "high": r1 + 3}
        found["slices"] = [
            {"side": "i2t", "name": "regions 10-19", "queries": 40, "figures": {"R@1": interval}},
            {"side": "t2i", "name": "words below 8", "queries": 0, "figures": {}},
            {"side": "t2i", "name": "words 8-9", "queries": 120, "figures": {"R@1": interval, "R@5": interval}},
            {"side": "t2i", "name": "one", "queries": 1, "figures": {"R@1": interval | {"low": None, "high": None}}},
        ]
        weighed = [{"alpha": a, "i2t": recalls(r1 + 9 * a), "t2i": recalls(r1 - 9 * a)} for a in (0.0, 1.0, 0.5)]
        found["alpha"] = {"weight_of": "i2t", "values": weighed}
        recalled = {f"R@{k}": interval | {"value": r1 + more} for k, more in ((1, 0), (5, 20), (10, 30))}
        found["slices"] += [
            {"side": side, "name": "supercategory animal", "queries": 9, "figures": recalled} for side in ("i2t", "t2i")
        ]
        found["by_label"] = {
            side: [
                {"label": label, "queries": 10 * place, "R@1": abs(r1 + 5 * (-1) ** place * place)}
                for place, label in enumerate(LABELS, 1)
            ]
            for side in ("i2t", "t2i")
        }
    return found


def evaluation(workspace: Workspace, run: str, results: Sequence[Mapping[str, Any]], *, images: int = 100) -> Path:
    path = workspace.run(run) / "eval-val.json"
    facts = {"split": "val", "folds": 1, "left_out": 0, "images": images, "captions": 5 * images, "chance_rsum": 31.5}
    write_json(path, {**facts, "results": list(results)})
    return path


def comparison(workspace: Workspace, rows: Mapping[str, Sequence[float]], *, prefix: str = "compare") -> Path:
    """The table of a comparison: {method: [rsum of each seed]}; members: one of the first method."""
    made = []
    for number, (name, values) in enumerate(rows.items()):
        kind = "single" if number % 2 else "ensemble of 2"
        figures = {"rsum": list(values), "t2i R@1": [value / 12 for value in values]}
        made.append({"name": name, "kind": kind, "runs": [name] * len(values), "values": figures})
    member = made[0] | {"name": f"{made[0]['name']}/t2i", "kind": "single"}
    seeds = list(range(len(made[0]["values"]["rsum"])))
    path = workspace.root / "runs" / f"{prefix}-val.json"
    facts = {"split": "val", "seeds": seeds, "images": 100, "captions": 500, "chance_rsum": 31.5}
    write_json(path, {**facts, "rows": made, "members": [member]})
    return path

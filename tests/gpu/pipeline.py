"""Every command on a device and on the processor, and how far apart what they write is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from itmkit.cache import CacheReader
from itmkit.cache.name import PIPELINE
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.inputs import Inputs
from itmkit.machine.precision import products_in
from itmkit.runs.open import open_run
from itmkit.scoring.matrix import score_matrix
from itmkit.workspace import Workspace
from tests.embed.tiny_duals import build_dual
from tests.encode_text.tiny_encoders import build_encoder
from tests.regions.test_detector import build as build_detector
from tests.regions.tiny_models import build as build_vision
from tests.regions.tiny_vits import build_vit

# Of the largest value of a column. Features are stored in float16, and convolutions on a GPU round products to TF32.
ALLOWED = 0.02


def build_models(folder: Path) -> dict[str, Path]:
    made = {name: folder / name for name in ("detr", "grid", "patches", "embed", "words")}
    build_detector("detr", made["detr"])
    build_vision("resnet", made["grid"])
    build_vit("vit", made["patches"])
    build_dual("clip", made["embed"])
    build_encoder("bert", made["words"])
    return made


def call(*words: str | Path) -> None:
    if code := run(cli, [str(word) for word in words]):
        raise RuntimeError(f"itmkit {' '.join(map(str, words))} ended with {code}")


@contextmanager
def one_rank(device: str) -> Iterator[None]:
    """The exchange between processes of torchrun, with a single one: NCCL on a GPU."""
    backend = "nccl" if device.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def extract(root: Path, models: dict[str, Path], device: str) -> None:
    """All caches of a workspace, and those of a grid in another one beside it."""
    shutil.copytree(root.parent / "scenes", root)
    grid = root.with_name(f"{root.name}-grid")
    shutil.copytree(root.parent / "scenes", grid)
    on = ("--device", device, "-w")
    call("extract-regions", "--backend", "detector", "--model", models["detr"], "--regions", "6", *on, root)
    call("extract-regions", "--backend", "grid", "--model", models["grid"], "--regions", "5", *on, grid)
    call("extract-patches", "--model", models["patches"], *on, root)
    call("embed", "--model", models["embed"], *on, root)
    call("parse-text", "-w", root)
    call("encode-text", "--model", models["words"], *on, root)
    call("build-graphs", "-w", root)


def differences(one: Workspace, other: Workspace) -> list[dict[str, Any]]:
    """Of every column of floats in every cache: the largest difference, as a share of the largest value.

    A detector may rank two boxes of almost equal scores the other way round. Of its caches the scores alone count.
    """
    found = []
    names = [*PIPELINE, *map(str, one.named_caches())]
    for name in (name for name in names if (one.cache(name) / "manifest.json").exists()):
        first, second = CacheReader.open(one.cache(name)), CacheReader.open(other.cache(name))
        ranked = name == "regions" and "detector" in str(first.manifest.made_by)
        for column, spec in first.columns.items():
            if np.dtype(spec.dtype).kind != "f" or (ranked and column != "scores") or name.startswith("graphs"):
                continue
            a, b = (values_of(reader, column).astype(np.float64) for reader in (first, second))
            apart = float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-9))
            found.append({"what": f"{name} {column}", "difference": apart, "allowed": ALLOWED, "ok": apart <= ALLOWED})
    return found


def values_of(reader: CacheReader, column: str) -> np.ndarray:
    if reader.columns[column].kind == "row":
        return reader.read_all(column)
    return reader.read_ragged([column], np.arange(len(reader)))[0][column]


def scores_apart(workspace: Workspace, name: str, device: str) -> dict[str, Any]:
    """One run's scores of the split test, on the device and on the processor, in bfloat16 products."""
    scores = []
    for where in (torch.device("cpu"), torch.device(device)):
        opened = open_run(workspace, name, device=where)
        inputs = Inputs(workspace, workspace.dataset().split("test"), opened.vocabulary, opened.needs)
        with torch.inference_mode(), products_in("bfloat16", where):
            scores.append(np.stack(list(score_matrix(opened.members, inputs, device=where).values())))
    apart = float(np.abs(scores[0] - scores[1]).max() / max(np.abs(scores[0]).max(), 1e-9))
    return {"what": f"scores of {name}", "difference": apart, "allowed": ALLOWED, "ok": apart <= ALLOWED}


def check_commands(folder: Path, device: str, *, train: int) -> list[dict[str, Any]]:
    """Draws `train` scenes and some more, runs every command on both, and compares."""
    models = build_models(folder / "models")
    sizes = ("--train", str(train), "--val", "4", "--test", "4")
    call("prepare", "scenes", *sizes, "-w", folder / "scenes")
    processor, other = Workspace(folder / "processor"), Workspace(folder / "device")
    extract(processor.root, models, "cpu")
    if device == "cpu":  # its own measure, so that the script is tried in half the time
        other = processor
    else:
        extract(other.root, models, device)
    found = differences(processor, other)
    found += differences(*(Workspace(work.root.with_name(f"{work.root.name}-grid")) for work in (processor, other)))
    settings = ("--recipe", "scenes", "--epochs", "1", "--embed", "32", "--batch-size", "16")
    for name in ("mpsm", "vsepp"):
        with one_rank(device):
            call("train", "--method", name, *settings, "--precision", "bfloat16", "--device", device, "-w", other.root)
        call("evaluate", "--run", name, "--device", device, "-w", other.root)
        found.append(scores_apart(other, name, device))
    return found

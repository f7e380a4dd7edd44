"""Drawn scenes with every kind of cache, and a run of one epoch for each way in which a method reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmkit.embed.embed import embed
from itmkit.encode_text.encode import encode_text
from itmkit.graphs import build_graphs
from itmkit.parse_text.parse import parse_text
from itmkit.regions.extract import extract_regions
from itmkit.regions.patches import extract_patches
from itmkit.runs.settings import resolve
from itmkit.scenes import make_scenes
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.embed.tiny_duals import build_dual
from tests.encode_text.tiny_encoders import build_encoder
from tests.regions.tiny_vits import build_vit
from tests.training.tiny import FAST

BRIEF: dict[str, Any] = {"epochs": 1, "batch_size": 8, "minimum_count": 1, "warmup_epochs": 0}
# Between them these read words, trees, places, blocks, tags, patches, class vectors and vectors of whole captions.
RUNS: dict[str, dict[str, Any]] = {
    "mpsm": {**FAST["mpsm"], "words": "gru"},
    "glfn": {**FAST["glfn"], "words": "bert", "words_cache": "bert"},
    "mefn": {**FAST["mefn"], "words": "bert", "words_cache": "bert", "images": "patches", "class_vectors": "both"},
    "dual": {"vectors_cache": "clip"},
}


def make_runs(folder: Path) -> Workspace:
    """A workspace folder/work with the runs of `RUNS`, each named like its method; models lie beside it."""
    workspace = Workspace(folder / "work")
    make_scenes(workspace, train=8, val=2, test=4)
    extract_regions(workspace, regions=6)
    extract_patches(workspace, model=str(build_vit("vit", folder / "vit")))
    parse_text(workspace)
    build_graphs(workspace)
    encode_text(workspace, model=str(build_encoder("bert", folder / "bert")), cache="bert")
    embed(workspace, model=str(build_dual("clip", folder / "clip")), cache="clip")
    for method, settings in RUNS.items():
        brief = {} if method == "dual" else BRIEF
        train(workspace, resolve(method, settings=settings | brief), run=method, device="cpu")
    return workspace

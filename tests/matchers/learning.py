"""Drawn scenes with every cache, and small settings with which a method learns them in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from itmkit.encode_text.encode import encode_text
from itmkit.graphs import build_graphs
from itmkit.inputs import Inputs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import begin, build, method, stages
from itmkit.parse_text.parse import parse_text
from itmkit.regions.extract import extract_regions
from itmkit.runs.settings import Training
from itmkit.scenes import make_scenes
from itmkit.training.batches import batches_of, pair_batch
from itmkit.training.step import Learner
from itmkit.workspace import Workspace
from tests.encode_text.tiny_encoders import build_encoder

# Sizes with which a method learns the scenes in seconds.
SMALL: dict[str, dict[str, Any]] = {
    "mpsm": {
        "embed": 64,
        "word": 50,
        "similarity": 32,
        "similarity_bias": True,
        "plain_start": True,
        "similarities": "direction",
    },
    # With tags by the tiny BERT, but learned words: its 16 random numbers hardly tell words apart.
    "glfn": {"words": "gru", "words_cache": "bert", "embed": 64, "word": 50, "position": 20, "dropout": 0.0},
    "pfan": {"embed": 64, "word": 50, "position": 20},
    "scan": {"embed": 64, "word": 50},
    "cmfg": {"images": "regions", "words": "gru", "word": 50, "embed": 64, "query": 32},
    "scl": {"words": "learned", "images": "regions", "embed": 128, "width": 128, "layers": 1, "heads": 2}
    | {"text_epochs": 30, "image_epochs": 15, "dropout": 0.0, "backup_decay": 0.9},
    "sgraf": {"embed": 64, "word": 50, "similarity": 32, "modules": "saf", "saf_dropout": 0.0, "plain_start": True},
    "mefn": {"words": "gru", "embed": 64, "word": 50, "dropout": 0.0},
    "chan": {"embed": 64, "word": 50},
    "rcar": {"embed": 64, "word": 50, "similarity": 32, "directions": "t2i", "dropout": 0.0, "rar_dropout": 0.0},
    "laps": {"images": "regions", "words": "gru", "embed": 64, "word": 50, "keep": 0.8, "aggregate": 0.6},
    "vseinf": {"embed": 128, "word": 50},
    "vsepp": {"embed": 128, "word": 50},
}
BATCH, RATE, CAPTIONS = 64, 3e-3, 2


def make_workspace(folder: Path, scenes: int) -> Workspace:
    """Training scenes with every cache that a method reads."""
    workspace = Workspace(folder / "work")
    make_scenes(workspace, train=scenes, val=1, test=1)
    extract_regions(workspace, regions=12)
    parse_text(workspace)
    build_graphs(workspace)
    encode_text(workspace, model=str(build_encoder("bert", folder / "bert")), cache="bert")
    return workspace


def learn(
    name: str, config: Any, workspace: Workspace, epochs: int, scenes: int
) -> tuple[dict[str, nn.Module], Inputs]:
    """The members, trained on some scenes, and what they learned from."""
    needs = method(name).needs(config)
    some = workspace.dataset().split("train")[:scenes]
    train = [replace(image, captions=image.captions[:CAPTIONS]) for image in some]
    vocabulary = Vocabulary.build(
        sorted({word for image in train for caption in image.captions for word in caption.text.lower().split()}),
        minimum=1,
    )
    inputs = Inputs(workspace, train, vocabulary, needs)
    members = build(name, config, sizes=inputs.sizes, seed=0)
    training = Training(batch_size=BATCH, negatives="soft", captions_per_image=CAPTIONS, precision="float32", seed=0)
    learner = Learner(members, training, torch.device("cpu"))
    for stage in stages(name, config, epochs):
        for epoch in range(stage.epochs):
            for matcher in members.values():
                begin(matcher, stage.name)
            for number, captions in enumerate(batches_of(inputs, training, epoch)):
                batch, rate = pair_batch(inputs, captions), RATE * (1 - epoch / stage.epochs)
                learner.step(batch, stage.name, "soft", rate, epoch=epoch, number=number, done=0)
    return members, inputs

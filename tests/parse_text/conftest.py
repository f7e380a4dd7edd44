from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.parse_text.network import Network, NetworkConfig
from itmkit.parse_text.parser import Labels, Parser
from itmkit.workspace import Workspace

SMALL = {"word_size": 16, "character_size": 8, "filters": 8, "hidden": 16, "arc_size": 16, "label_size": 8}


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved parser with random weights: fast, and its trees are arbitrary, so that every kind of mending occurs."""
    labels = Labels(
        words=["", "<unknown>", "a", "the", "dog", "cat", "man", "red", "runs", "on", "with", ".", ","],
        characters=["", "<unknown>", "<", ">", *"abcdefghijklmnopqrstuvwxyz.,'"],
        pos=["ADJ", "DET", "NOUN", "PUNCT", "VERB"],
        lemma_scripts=["l0|", "l1|", "l3|y"],
        relations=["amod", "det", "nsubj", "punct", "root"],
    )
    torch.manual_seed(0)
    network = Network(NetworkConfig(**labels.sizes(), **SMALL))  # type: ignore[arg-type]
    torch.nn.init.normal_(network.label)
    folder = tmp_path_factory.mktemp("untrained")
    Parser(network, labels).save(folder)
    return folder


@pytest.fixture
def make_workspace(tmp_path: Path) -> Callable[..., Workspace]:
    """A workspace of images without files, one for each list of captions."""

    def make(*captions: list[str]) -> Workspace:
        workspace = Workspace(tmp_path / "workspace")
        workspace.root.mkdir(exist_ok=True)
        images = [
            ImageRecord(
                id=str(i),
                split="train",
                captions=tuple(Caption(f"{i}#{k}", text) for k, text in enumerate(texts)),
            )
            for i, texts in enumerate(captions)
        ]
        write_dataset(workspace.dataset_path, images, kind="test", settings={})
        return workspace

    return make

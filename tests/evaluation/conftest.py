"""A workspace with two trained runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from itmkit.runs.settings import resolve
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = make_workspace(tmp_path_factory.mktemp("evaluate"), skipped=("image20",))
    for name in ("mpsm", "vsepp"):
        train(workspace, resolve(name, settings={**FAST[name], **FAST_TRAINING, "epochs": 1}))
    return workspace.root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(template, tmp_path / "work")
    return Workspace(tmp_path / "work")

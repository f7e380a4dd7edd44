from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from itmkit.workspace import Workspace
from tests.training.tiny import make_workspace


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("tiny") / "work").root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    """A workspace of 12 training, 6 validation and 6 test images, of which a test may break what it likes."""
    shutil.copytree(template, tmp_path / "work")
    return Workspace(tmp_path / "work")

from __future__ import annotations

import os
from pathlib import Path

import pytest

from itmkit.workspace import Workspace


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Drawn scenes with every kind of cache, and runs (`tests.trained.small_runs`). Tests change copies of it only."""
    from tests.trained.small_runs import make_runs

    return make_runs(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets and files; tests that need it are skipped where it is not at hand."""
    folder = os.environ.get("ITMKIT_TEST_DATA")
    if not folder:
        pytest.skip("ITMKIT_TEST_DATA names no folder with real data")
    return Path(folder)

from __future__ import annotations

import pytest

from itmkit.workspace import Workspace
from tests.trained.small_runs import make_runs


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_runs(tmp_path_factory.mktemp("indexed"))

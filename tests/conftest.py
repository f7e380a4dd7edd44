from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets and files; tests that need it are skipped where it is not at hand."""
    folder = os.environ.get("ITMKIT_TEST_DATA")
    if not folder:
        pytest.skip("ITMKIT_TEST_DATA names no folder with real data")
    return Path(folder)

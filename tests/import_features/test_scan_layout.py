"""Whose the rows and captions of a folder in the SCAN layout are."""

from __future__ import annotations

from pathlib import Path

import pytest

from itmkit.cache import CacheReader
from itmkit.import_features.scan import import_scan
from itmkit.import_features.scan_check import CheckOptions
from itmkit.workspace import Workspace
from tests.import_features.scan_folder import write_scan


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.mark.parametrize("skip_empty", [False, True])
def test_blank_lines_at_the_end_are_no_captions(tmp_path: Path, work: Workspace, skip_empty: bool) -> None:
    content = write_scan(tmp_path / "scan")
    for what in ("caps", "ids"):
        with open(tmp_path / "scan" / f"train_{what}.txt", "a") as file:
            file.write("\n\n")
    result = import_scan(work, tmp_path / "scan", options=CheckOptions(skip_empty=skip_empty))
    assert (result.captions, result.empty, CacheReader.open(work.cache("regions")).ids) == (20, 0, content["ids"])

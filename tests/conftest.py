from __future__ import annotations

import fcntl
import gc
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from itmkit.inspection import child, hdf5
from itmkit.machine import memory
from itmkit.machine.memory import resident
from itmkit.pictures.decode import Decoder, Picture, decode
from itmkit.regions import any_detector
from itmkit.regions.detector import SCENES_DETECTOR, Detector, load_detector
from itmkit.workspace import Workspace

DECODE_IN_A_CHILD = Decoder.decode
INSPECT_IN_A_CHILD = hdf5.run_child

# The garbage collector would look through all that is imported again and again: a tenth of the time of the tests.
gc.disable()


# Files of few tests that take seconds each. Where several processes share the files, these begin: the last ones must be
# short. (Without an order of ours, pytest-xdist begins with the files of most tests.)
LONG = (
    "test_reproduce.py",
    "test_quickstart.py",
    "test_readme.py",
    "test_examples.py",
    "test_docs.py",
    "test_photos.py",
    "test_check.py",
    "test_page.py",
    "test_together.py",
    "test_plot.py",
    "test_influence.py",
    "test_workers.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in LONG, -tests[item.path]))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)
    gc.enable()


def decode_here(self: Decoder, path: Path, sha256: str | None) -> Picture:
    """As the child of a `Decoder` would. Starting one takes longer than most tests."""
    return decode(path, sha256, self._square)


def inspect_here(module: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """As the child that opens HDF5 files for an inspection would."""
    return subprocess.CompletedProcess([module], 0, json.dumps(child.answer(list(arguments))).encode())


@cache
def shipped_detector() -> Detector:
    return load_detector(SCENES_DETECTOR)


def load_detector_once(model: str | Path, *, device: Any = "cpu", **options: Any) -> Detector:
    """As `load_detector`, but the one that ships, which many stages of many tests ask for, is loaded and tried once."""
    if str(model) == str(SCENES_DETECTOR) and str(device) == "cpu":
        return shipped_detector()
    return load_detector(model, device=device, **options)


@pytest.fixture(scope="session", autouse=True)
def quick_tests() -> Iterator[None]:
    """Pictures are decoded, and HDF5 files inspected, in the process of the test; the shipped detector is kept.

    Nothing is flushed to disk: no test cuts the power. A command finds no more memory in use than a process of its own
    would, whatever the tests before it imported and left.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "decode", decode_here)
        patch.setattr(hdf5, "run_child", inspect_here)
        patch.setattr(any_detector, "load_detector", load_detector_once)
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(memory, "resident", lambda: min(resident(), 10**9))
        yield


@pytest.fixture
def decoding_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are decoded in children, as they are outside these tests."""
    monkeypatch.setattr(Decoder, "decode", DECODE_IN_A_CHILD)


@pytest.fixture
def inspecting_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 files are inspected in children, as they are outside these tests."""
    monkeypatch.setattr(hdf5, "run_child", INSPECT_IN_A_CHILD)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Drawn scenes with every kind of cache, and runs (`tests.trained.small_runs`). Tests change copies of it only."""
    from tests.trained.small_runs import make_runs

    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make_runs(tmp_path_factory.mktemp("trained"))
    folder = tmp_path_factory.getbasetemp().parent / "trained"  # of all processes: the first that asks makes it
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            make_runs(folder)
            (folder / "made").touch()
    return Workspace(folder / "work")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets and files; tests that need it are skipped where it is not at hand."""
    folder = os.environ.get("ITMKIT_TEST_DATA")
    if not folder:
        pytest.skip("ITMKIT_TEST_DATA names no folder with real data")
    return Path(folder)

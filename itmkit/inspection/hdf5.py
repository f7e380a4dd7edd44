"""Asks a child process about an HDF5 file, so that no file can crash or hang this one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.machine.children import ending, run_child

TIMEOUT = 120.0  # seconds by the clock; on a busy machine starting and importing h5py take a part of it
ALONE = {"HDF5_PLUGIN_PRELOAD": "::", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # no plugins, no threads
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Whether the file has HDF5's signature, at its start or at 512, 1024, ... bytes."""
    with open(path, "rb") as handle:
        size, place = os.fstat(handle.fileno()).st_size, 0
        while place < min(size, 1 << 24):
            handle.seek(place)
            if handle.read(len(SIGNATURE)) == SIGNATURE:
                return True
            place = place * 2 or 512
    return False


def ask_child(*request: str | Path, timeout: float = TIMEOUT) -> dict[str, Any]:
    """The answer of `child.py` to a request such as ("walk", path).

    Raises:
        ItmkitError: the file cannot be read, or reading it crashed the child or took too long.
    """
    what, target, *rest = request
    target = Path(target).absolute()  # the child starts in another folder
    try:
        done = run_child(
            "itmkit.inspection.child", str(what), str(target), *map(str, rest), timeout=timeout, environment=ALONE
        )
    except subprocess.TimeoutExpired:
        raise ItmkitError(f"{target}: reading it took more than {timeout:.0f} s and was stopped") from None
    if done.returncode != 0:
        raise ItmkitError(f"{target}: reading it ended the reading process ({ending(done.returncode)}); do not use it")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "problems" in answer:
        raise ItmkitError(answer["problems"])
    return answer

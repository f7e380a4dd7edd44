"""Two ranks under torchrun write what one process writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from itmkit.cache import WHOLE, Part
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.errors import ItmkitError
from itmkit.machine.processes import part_to_do, rank
from tests.cache.test_parts import files
from tests.regions.test_extract import make, prepare
from tests.regions.tiny_models import build


def test_two_ranks_write_what_one_process_writes(tmp_path: Path) -> None:
    model = build("vit", tmp_path / "vit")
    options = ["--backend", "grid", "--model", str(model), "--regions", "5", "--shard-size", "2", "--device", "cpu"]
    whole, ranks = make(tmp_path / "whole"), make(tmp_path / "ranks")
    (whole.root / "images" / "4.jpg").write_bytes(b"no picture")
    (ranks.root / "images" / "4.jpg").write_bytes(b"no picture")
    for work in (whole, ranks):  # the digests of the spoilt picture
        prepare(work)
    assert run(cli, ["extract-regions", "-w", str(whole.root), "--workers", "1", *options]) == 0
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "0",
        "-m",
        "itmkit",
    ]
    command = ["extract-regions", "-w", str(ranks.root), "--workers", "1", *options]
    done = subprocess.run(
        [*launch, *command], capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "8 pictures, 5 regions" in done.stdout  # of all ranks, said once
    assert done.stdout.count("pictures,") == 1 and "1 pictures skipped" in done.stdout
    assert files(ranks.cache("regions")) == files(whole.cache("regions"))


def test_the_part_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert rank() == WHOLE and part_to_do("1/3") == Part(1, 3)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert part_to_do(None) == Part(1, 4)
    with pytest.raises(ItmkitError, match="use one of them"):
        part_to_do("0/2")
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ItmkitError, match="torchrun sets them"):
        rank()

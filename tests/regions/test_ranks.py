"""Two ranks of torchrun write what one process writes."""

from __future__ import annotations

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


def test_two_ranks_write_what_one_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ranks, one after the other: they do not talk to each other. The first one, last here, merges."""
    model = build("vit", tmp_path / "vit")
    options = ["--backend", "grid", "--model", str(model), "--regions", "5", "--shard-size", "2", "--device", "cpu"]
    whole, ranks = make(tmp_path / "whole"), make(tmp_path / "ranks")
    (whole.root / "images" / "4.jpg").write_bytes(b"no picture")
    (ranks.root / "images" / "4.jpg").write_bytes(b"no picture")
    for work in (whole, ranks):  # the digests of the spoilt picture
        prepare(work)
    assert run(cli, ["extract-regions", "-w", str(whole.root), "--workers", "1", *options]) == 0
    capsys.readouterr()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank_number in ("1", "0"):
        monkeypatch.setenv("RANK", rank_number)
        assert run(cli, ["extract-regions", "-w", str(ranks.root), "--workers", "1", *options]) == 0
    printed = capsys.readouterr().out
    assert "8 pictures, 5 regions" in printed  # of all ranks, said once
    assert printed.count("pictures,") == 1 and "1 pictures skipped" in printed
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

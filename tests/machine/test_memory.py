from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from itmkit.machine import memory
from itmkit.machine.memory import keep_freed_memory, resident, total


def test_memory_that_is_used_is_seen() -> None:
    assert 10 << 20 < resident() < 1 << 40 if sys.platform.startswith("linux") else resident() == 0


def test_freed_memory_may_be_kept_anywhere() -> None:
    keep_freed_memory()
    keep_freed_memory()


def test_a_container_limits_the_memory_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CONTAINER", tmp_path / "memory.max")
    whole = total(torch.device("cpu"))
    assert whole > 256 << 20
    for text, expected in (("max\n", whole), ("123456789\n", 123456789), (f"{whole * 2}\n", whole)):
        (tmp_path / "memory.max").write_text(text)
        assert total(torch.device("cpu")) == expected

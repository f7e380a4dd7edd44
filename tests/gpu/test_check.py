"""The check for GPUs, tried on the processor, so that it runs when there is a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.gpu.check import main


def test_the_check_runs(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert main(["--device", "cpu", "--tiny", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["ok"] and not found["failed"] and not found["apart"]
    assert {"regions scores", "patches features", "scores of mpsm"} <= {row["what"] for row in found["commands"]}
    assert {row["method"] for row in found["scoring"]} == {"scan"}
    assert all(row["captions_per_second"] > 0 for row in found["training"]) and found["memory"]["named"] > 0


def test_without_cuda_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 0
    assert "no CUDA device" in capsys.readouterr().out

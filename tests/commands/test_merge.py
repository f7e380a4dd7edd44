from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.cache import Part
from itmkit.commands import cli
from itmkit.commands.console import run
from tests.cache.test_parts import files, write
from tests.commands.test_extract_regions import model as model
from tests.regions.test_extract import Model, make


def test_jobs_and_merge(tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = make(tmp_path / "whole"), make(tmp_path / "parts")

    def extract(root: Path, *options: str) -> int:
        settings = ["--backend", "grid", "--model", "m", "--regions", "3", "--shard-size", "2"]
        return run(cli, ["extract-regions", "-w", str(root), "--device", "cpu", *settings, *options])

    assert extract(whole.root) == 0
    assert extract(parts.root, "--shard", "1/2") == 0
    assert "this was part 1/2; `itmkit merge`" in capsys.readouterr().out
    assert run(cli, ["merge", "-w", str(parts.root)]) == 2
    assert "part 0/2 is missing" in capsys.readouterr().err
    assert run(cli, ["status", "-w", str(parts.root)]) == 0
    assert "part" in capsys.readouterr().out
    assert extract(parts.root, "--shard", "0/2") == 0
    assert run(cli, ["merge", "-w", str(parts.root)]) == 0
    assert "9 rows in 5 shards, of 2 parts" in " ".join(capsys.readouterr().out.split())
    assert files(parts.cache("regions")) == files(whole.cache("regions"))
    assert run(cli, ["merge", "-w", str(parts.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert extract(parts.root, "--shard", "0/2") == 0
    assert "nothing to do" in capsys.readouterr().out
    # without options, as it was begun
    assert run(cli, ["extract-regions", "-w", str(parts.root)]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_cache_folder_may_be_a_link_to_another_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "work" / "caches").mkdir(parents=True)
    (tmp_path / "work" / "caches" / "regions").symlink_to(tmp_path / "disk")
    for index in (0, 1):
        write(tmp_path / "work" / "caches" / "regions", Part(index, 2))
    assert run(cli, ["merge", "-w", str(tmp_path / "work")]) == 0
    assert "22 rows in 6 shards, of 2 parts" in " ".join(capsys.readouterr().out.split())


def test_bad_shards(
    tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make(tmp_path / "work", kind="scenes")
    command = ["extract-regions", "-w", str(work.root), "--device", "cpu"]
    for shard in ("2/2", "x", "1/0"):
        assert run(cli, [*command, "--shard", shard]) == 2
        assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(cli, [*command, "--shard", "0/2"]) == 2
    assert "both divide the work" in capsys.readouterr().err

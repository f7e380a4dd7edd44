from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from tests.import_features.feature_files import data_set, drawn, write_npz, write_tsv
from tests.import_features.scan_folder import write_scan


def test_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "scan", "train")
    write_scan(tmp_path / "scan", "dev", repeat=True)
    command = ["import-features", "scan", str(tmp_path / "scan"), "-w", str(tmp_path / "work")]
    assert run(cli, command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "8 pictures (train 4 with 20 captions, val 4 with 20 captions), 40 captions, 3 regions x 6" in shown
    assert "with boxes, sizes, scores, tags" in shown
    assert "16 of 24 rows repeated an earlier row" in shown
    assert run(cli, command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(cli, [*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"] == {"train": 4, "val": 4}
    assert run(cli, ["status", "-w", str(tmp_path / "work")]) in (0, 1, 2)


def test_captions_that_may_not_belong_to_their_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "scan", "train")
    write_scan(tmp_path / "scan", "dev", caps=["a", "b", "c", "d"])
    assert run(cli, ["import-features", "scan", str(tmp_path / "scan"), "-w", str(tmp_path / "work")]) == 0
    told = capsys.readouterr()
    assert "train 4 with 20 captions, val 4 with 4 captions" in " ".join(told.out.split())
    assert "val 1 (4 captions). Do those of val belong to its pictures?" in " ".join(told.err.split())


def test_problems_are_listed_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "scan", caps=["a"] * 19, ims=np.full((4, 3, 6), np.nan, np.float32))
    command = ["import-features", "scan", str(tmp_path / "scan"), "-w", str(tmp_path / "work")]
    assert run(cli, command) == 2
    shown = capsys.readouterr().err
    assert "19 captions for 4 rows" in shown and "NaN" in shown and "2 problems" in shown and "Traceback" not in shown
    assert run(cli, [*command, "--split-map", "train"]) == 2
    assert "NAME=SPLIT" in capsys.readouterr().err
    assert run(cli, [*command, "--tags", "verb"]) == 2
    assert run(cli, ["import-features", "scan", str(tmp_path / "nothing"), "-w", str(tmp_path / "work")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert run(cli, ["import-features", "tsv2"]) == 2


def test_bottom_up_and_npz(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_set(tmp_path / "work", [str(k) for k in range(30)])
    files = [str(write_tsv(tmp_path / f"{k}.tsv", [drawn(str(k)), drawn(f"other{k}")])) for k in range(2)]
    command = ["import-features", "bottom-up", *files, "-w", str(tmp_path / "work")]
    assert run(cli, command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 pictures (found by id), up to 3 regions x 6 with boxes, sizes" in shown
    assert "2 pictures of the files are not in the data set" in shown
    assert "28 pictures of the data set skipped" in shown and "and 8 more" in shown
    assert run(cli, command) == 0
    assert "nothing to do" in capsys.readouterr().out
    write_npz(tmp_path / "npz", drawn("4"))
    command = ["import-features", "npz", str(tmp_path / "npz"), "-w", str(tmp_path / "work")]
    assert run(cli, command) == 2
    assert "--force" in capsys.readouterr().err
    assert run(cli, [*command, "--force", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["images"] == 1 and "pickled" in told.err
    assert run(cli, ["import-features", "bottom-up", "gone.tsv", "-w", str(tmp_path / "work")]) == 2
    assert "gone.tsv: no such file" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "scan")
    (tmp_path / "work").mkdir(mode=0o500)
    assert run(cli, ["import-features", "scan", str(tmp_path / "scan"), "-w", str(tmp_path / "work")]) == 2
    assert "no permission" in capsys.readouterr().err

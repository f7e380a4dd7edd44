"""Files of scores."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from itmkit.commands.console import run
from itmkit.commands.evaluate import command
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.evaluation.measures import Measures, Wanted
from itmkit.evaluation.protocols import PROTOCOLS, Protocol, protocol
from itmkit.evaluation.results import Table
from itmkit.evaluation.score_files import evaluate_files
from itmkit.scoring.metrics import chance_of
from itmkit.scoring.stored import InMemory, save_scores
from itmkit.workspace import Workspace

IMAGES = [
    ImageRecord(f"i{k}", "test", tuple(Caption(f"c{k}-{n}", f"caption {n} of {k}") for n in range(2)))
    for k in range(12)
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    write_dataset(tmp_path / "dataset.jsonl", IMAGES, kind="jsonl", settings={})
    return Workspace(tmp_path)


def scores_of(path: Path, images: list[ImageRecord] = IMAGES, seed: int = 0) -> Path:
    captions = [caption.id for image in images for caption in image.captions]
    drawn = np.random.default_rng(seed).normal(size=(len(images), len(captions))).astype(np.float32)
    save_scores(path, InMemory(drawn), [image.id for image in images], captions, "a test")
    return path


def test_one_file_twice_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    file, link = scores_of(tmp_path / "a.h5"), tmp_path / "b.h5"
    os.link(file, link)
    for given in ({"files": [file, file]}, {"files": [file], "against": file}, {"files": [link], "against": file}):
        with pytest.raises(ItmkitError, match="--scores .*: named twice; .*needs different files"):
            evaluate_files(workspace, **given)  # type: ignore[arg-type]


def test_a_row_has_one_matrix_a_fold() -> None:
    table, scores = Table(Measures(Wanted(), IMAGES, protocol("test"))), InMemory(np.eye(12, dtype=np.float32))
    table.add("a", "single", scores, np.arange(12), fold=0)
    table.add("a", "single", scores, np.arange(12), fold=1)
    with pytest.raises(ItmkitError, match="a: two rows of the table would have this name"):
        table.add("a", "single", scores, np.arange(12), fold=1)


def test_chance_is_that_of_these_captions_fold_by_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "tiny", Protocol("tiny", "test", 12, 2, "two folds of six"))
    uneven = [
        replace(image, captions=tuple(Caption(f"c{k}-{n}", "a caption") for n in range(1 + 5 * (k % 4 == 0))))
        for k, image in enumerate(IMAGES)
    ]
    write_dataset(tmp_path / "dataset.jsonl", uneven, kind="jsonl", settings={})
    found = evaluate_files(Workspace(tmp_path), [scores_of(tmp_path / "a.h5", uneven)], split="tiny")
    folds = [np.repeat(np.arange(6), counts) for counts in ([6, 1, 1, 1, 6, 1], [1, 1, 6, 1, 1, 1])]
    assert found.chance_rsum == pytest.approx(np.mean([chance_of(fold) for fold in folds]))


def test_a_protocol_wants_scores_of_all_its_images(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PROTOCOLS, "tiny", Protocol("tiny", "test", 12, 4, "four folds of three"))
    whole, part = scores_of(tmp_path / "whole.h5"), scores_of(tmp_path / "part.h5", IMAGES[:6])
    assert evaluate_files(workspace, [whole], split="tiny").images == 12
    with pytest.raises(ItmkitError, match=r"part.h5: has scores of 6 of the 12 images of tiny; .*Use --split test"):
        evaluate_files(workspace, [whole, part], split="tiny")
    assert run(command, ["-w", str(tmp_path), "--scores", str(part)]) == 0
    assert "6 images of the split have no scores in these files and are left out" in capsys.readouterr().out


def test_options_of_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--precision", "bfloat16", "--device", "cuda:7", "--compare-paper", "--split", "coco1k"]
    assert run(command, ["-w", str(tmp_path), "--scores", "a.h5", *given]) == 2
    told = capsys.readouterr().err
    assert all(f"{option}: a file of scores" in told for option in ("--precision", "--device", "--compare-paper"))

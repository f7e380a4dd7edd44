"""Files of scores."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.evaluation.measures import Measures, Wanted
from itmkit.evaluation.protocols import protocol
from itmkit.evaluation.results import Table
from itmkit.evaluation.score_files import evaluate_files
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

"""Rows of pictures and captions become images, whatever file they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.datasets.pairs import prepare_jsonl
from itmkit.datasets.parquet import prepare_parquet
from itmkit.workspace import Workspace
from tests.datasets.packed_files import picture
from tests.workspaces import save_picture


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


def test_keys_of_json_in_capitals(tmp_path: Path, work: Workspace) -> None:
    save_picture(tmp_path / "a.jpg")
    (tmp_path / "t.jsonl").write_text('{"Image": "a.jpg", "Caption": "A", "Split": "test", "Labels": ["dog"]}\n')
    prepare_jsonl(work, tmp_path / "t.jsonl")
    (image,) = work.dataset().images
    assert (image.split, image.labels) == ("test", ("dog",))


def test_empty_labels_are_none_and_the_others_stripped(tmp_path: Path, work: Workspace) -> None:
    save_picture(tmp_path / "a.jpg")
    row = {"image": "a.jpg", "caption": "A", "split": "test", "labels": ["", "dog", " dog", " "]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    prepare_jsonl(work, tmp_path / "t.jsonl")
    assert work.dataset().images[0].labels == ("dog",)


def test_labels_of_parquet_that_are_null(tmp_path: Path, work: Workspace) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    row = {"jpg": picture(), "caption": "A", "labels": ["dog", None]}
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "t.parquet")
    prepare_parquet(work, [tmp_path / "t.parquet"], split="test")
    assert work.dataset().images[0].labels == ("dog",)

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from itmkit import dataset, workspace
from itmkit.dataset_index import DatasetFacts, index_path
from itmkit.status import status
from itmkit.workspace import Workspace
from tests.workspaces import make_dataset


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every reading of a dataset.jsonl from its first line to its last."""
    found: list[Path] = []

    def counted(path: Path) -> dataset.Dataset:
        found.append(path)
        return dataset.read_dataset(path)

    monkeypatch.setattr(workspace, "read_dataset", counted)
    return found


def first_row(root: Path) -> tuple[str, str]:
    row = status(Workspace(root))[0]
    return row.state, row.detail


def test_a_workspace_reads_its_data_set_once(tmp_path: Path, reads: list[Path]) -> None:
    work = make_dataset(tmp_path)
    assert work.dataset() is work.dataset() and len(reads) == 1
    old = work.dataset_path.stat()
    changed = work.dataset_path.read_bytes().replace(b"picture 1", b"picture 9")
    work.dataset_path.write_bytes(changed)  # of the same length
    os.utime(work.dataset_path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert "picture 9" in str(work.dataset().images[1].captions) and len(reads) == 2
    work.dataset_info_path.unlink()
    assert work.dataset().kind == "hand-made"


def test_status_answers_from_the_index(tmp_path: Path, reads: list[Path]) -> None:
    work = make_dataset(tmp_path)
    before = first_row(tmp_path)
    assert before[0] == "done" and len(reads) == 1
    assert first_row(tmp_path) == before and len(reads) == 1
    assert work.dataset_facts() == DatasetFacts.of(work.dataset())


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 9}', "\0" * 9, None])
def test_a_damaged_index_is_no_index(tmp_path: Path, reads: list[Path], content: str | None) -> None:
    work = make_dataset(tmp_path)
    before = first_row(tmp_path)
    path = index_path(work.dataset_path)
    if content is None:
        record = json.loads(path.read_text())
        record["counts"] = {"train": 7}
        content = json.dumps(record)
    path.write_text(content)
    assert first_row(tmp_path) == before and len(reads) == 2
    assert first_row(tmp_path) == before and len(reads) == 2  # it was put right


def test_an_index_of_other_files_counts_for_nothing(tmp_path: Path, reads: list[Path]) -> None:
    """Whatever their size and time."""
    work = make_dataset(tmp_path)
    first_row(tmp_path)
    old = work.dataset_path.stat()
    text = work.dataset_path.read_text()
    work.dataset_path.write_text(text.replace('"split": "val"', '"split": "vax"'))
    os.utime(work.dataset_path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert first_row(tmp_path)[0] == "damaged"
    work.dataset_path.write_text(text)
    assert first_row(tmp_path)[0] == "done" and len(reads) == 2  # the very content it was of
    work.dataset_info_path.write_text("[]")
    assert first_row(tmp_path)[0] == "damaged"
    work.dataset_path.unlink()
    assert first_row(tmp_path)[0] == "missing"


def test_an_index_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path)

    def refused(path: Path, value: object) -> None:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr("itmkit.dataset_index.write_json", refused)
    assert first_row(tmp_path)[0] == "done"

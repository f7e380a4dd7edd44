"""The made data set on disk: counts, files, sameness, what a killed run leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from itmkit.dataset import read_dataset
from itmkit.errors import ItmkitError
from itmkit.scenes import make_scenes
from itmkit.scenes.make import split_pictures
from itmkit.workspace import Workspace

COUNTS: dict[str, Any] = {"train": 6, "val": 3, "test": 7}


def contents(root: Path) -> dict[str, str]:
    files = [p for p in root.rglob("*") if p.is_file()]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    make_scenes(Workspace(root), **COUNTS, seed=3)
    return root


def test_counts_ids_and_pictures(made: Path) -> None:
    data = read_dataset(Workspace(made).dataset_path)
    assert data.kind == "scenes"
    assert {split: c["images"] for split, c in data.info["counts"].items()} == COUNTS
    ids = {"train": "scene-0", "val": "scene-1", "test": "scene-2"}
    for split, count in COUNTS.items():
        records = data.split(split)
        assert [r.id for r in records] == [f"{ids[split]}{k:05d}" for k in range(count)]
    for record in data.images:
        with Image.open(made / str(record.file)) as picture:
            assert picture.size == (record.width, record.height) and picture.mode == "RGB"
        content = (made / str(record.file)).read_bytes()
        assert record.bytes == len(content) and record.sha256 == hashlib.sha256(content).hexdigest()
        assert [c.id for c in record.captions] == [f"{record.id}#{k}" for k in range(5)]
        assert list(record.labels) == sorted(set(record.labels))


def test_truth_and_trees_lie_beside_the_pictures(made: Path) -> None:
    records = {r.id: r for r in read_dataset(Workspace(made).dataset_path).images}
    truth = [json.loads(line) for line in (made / "scenes" / "truth.jsonl").read_text().splitlines()]
    assert [t["id"] for t in truth] == list(records)
    groups = defaultdict(list)
    for t in truth:
        record = records[t["id"]]
        assert sorted(set(t["tags"])) == list(record.labels)
        assert len(t["boxes"]) == len(t["tags"]) == len(t["attributes"]) == len(t["visible"])
        for x1, y1, x2, y2 in t["boxes"]:
            assert 0 <= x1 < x2 <= record.width and 0 <= y1 < y2 <= record.height
        groups[t["group"]].append(t)
    for name, members in groups.items():
        kinds = [Counter(t["tags"]) for t in members]
        colours = [Counter(colour for colour, _, _ in t["attributes"]) for t in members]
        assert all(k == kinds[0] for k in kinds) and all(c == colours[0] for c in colours)
        assert [t["sibling"] for t in members].count("base") == 1
        if not name.startswith("train"):
            assert len(members) >= 3 and {"colours", "relation"} <= {t["sibling"] for t in members}

    blocks = (made / "scenes" / "trees.conllu").read_text().strip().split("\n\n")
    captions = {c.id: c.text for r in records.values() for c in r.captions}
    assert len(blocks) == len(captions)
    for block, (caption_id, text) in zip(blocks, captions.items(), strict=True):
        lines = block.split("\n")
        assert lines[0] == f"# sent_id = {caption_id}" and lines[1] == f"# text = {text}"
        rows = [line.split("\t") for line in lines[2:]]
        assert [row[0] for row in rows] == [str(i) for i in range(1, len(rows) + 1)]
        rebuilt = "".join(row[1] + ("" if row[9] == "SpaceAfter=No" else " ") for row in rows)
        assert rebuilt.rstrip() == text


def test_the_same_seed_gives_the_same_files(made: Path, tmp_path: Path) -> None:
    make_scenes(Workspace(tmp_path), **COUNTS, seed=3)
    assert contents(tmp_path) == contents(made)
    make_scenes(Workspace(tmp_path), **COUNTS, seed=3)  # again, in the same place
    assert contents(tmp_path) == contents(made)


def test_a_split_does_not_depend_on_the_others(made: Path, tmp_path: Path) -> None:
    make_scenes(Workspace(tmp_path), train=0, val=0, test=COUNTS["test"], seed=3)
    assert read_dataset(Workspace(tmp_path).dataset_path).split("test") == read_dataset(
        Workspace(made).dataset_path
    ).split("test")


def test_another_seed_replaces_everything(made: Path, tmp_path: Path) -> None:
    make_scenes(Workspace(tmp_path), **COUNTS, seed=4)
    before = read_dataset(Workspace(tmp_path).dataset_path)
    make_scenes(Workspace(tmp_path), **COUNTS, seed=3)
    assert contents(tmp_path) == contents(made)
    assert before.images_digest != read_dataset(Workspace(made).dataset_path).images_digest


def test_a_killed_run_is_completed_by_the_next(made: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from itmkit.workspace import Workspace; from itmkit.scenes import make_scenes;"
        f"make_scenes(Workspace(sys.argv[1]), **{COUNTS!r}, seed=3)"
    )
    for after in (1, 7):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("images/*.jpg"))) < after and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        for picture in tmp_path.glob("images/*.jpg"):
            picture_bytes = picture.read_bytes()
            assert picture_bytes == (made / "images" / picture.name).read_bytes()
        for picture in list(tmp_path.glob("images/*.jpg"))[1:]:
            picture.unlink()  # so that the next one, too, is killed at work
    make_scenes(Workspace(tmp_path), **COUNTS, seed=3)
    assert contents(tmp_path) == contents(made)


@pytest.mark.parametrize("count", range(1, 24))
def test_no_group_of_a_test_split_is_too_small(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itmkit.scenes.make._group", lambda split, group, size, seed: [group] * size)
    sizes = Counter(split_pictures("test", count, 0)).values()
    assert sum(sizes) == count
    assert min(sizes) >= 3 or count < 3


def test_impossible_counts_are_all_named() -> None:
    with pytest.raises(ItmkitError) as caught:
        make_scenes(Workspace("/nowhere"), train=-1, val=0, test=200_000, seed=-5)
    assert len(caught.value.problems) == 3
    with pytest.raises(ItmkitError, match="nothing to make"):
        make_scenes(Workspace("/nowhere"), train=0, val=0, test=0)

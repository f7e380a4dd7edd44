from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from itmkit.dataset import write_dataset
from itmkit.errors import ItmkitError
from itmkit.files import write_json
from itmkit.index.store import IndexFacts
from itmkit.inspection.captions import inspect_caption
from itmkit.inspection.report import Report
from itmkit.inspection.rows import inspect_image, inspect_row
from itmkit.inspection.what import inspect
from itmkit.scoring.stored import InMemory, save_scores
from itmkit.workspace import Workspace
from tests.workspaces import TEXT, make_dataset, make_graphs, make_regions, make_run, make_text


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_dataset(tmp_path_factory.mktemp("work"))
    make_regions(workspace)
    make_text(workspace)
    make_graphs(workspace)
    make_run(workspace)
    return workspace


def facts(report: Report) -> dict[str, str]:
    return dict(report.facts)


def rows(report: Report, title: str) -> list[tuple[str, ...]]:
    return next(list(table.rows) for table in report.tables if table.title.startswith(title))


def test_a_cache(shared: Workspace) -> None:
    report = inspect(shared.cache("regions"))
    found = facts(report)
    assert report.kind == "cache" and found["made by"] == "itmkit extract-regions"
    assert (found["rows"], found["state"], found["skipped"]) == ("4", "complete", "1")
    assert found["settings.width"] == "8" and found["made from images"] == shared.dataset().images_digest
    columns = {row[0]: row[1:] for row in rows(report, "columns")}
    assert columns["boxes"] == ("float32", "2 x 4 a row", "x1 y1 x2 y2 in pixels of the upright picture")
    assert rows(report, "string tables") == [("tags", "2", "dog, ball"), ("attributes", "1", "red")]
    assert [row[:2] for row in rows(report, "shards")] == [
        ("shard-00000.h5", "1"),
        ("shard-00001.h5", "2"),
        ("shard-00002.h5", "1"),
    ]
    assert rows(report, "skipped") == [("1", "truncated")]
    assert report.to_json()["facts"]["rows"] == "4"


def test_an_unfinished_cache(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    report = inspect(make_regions(workspace, finish=False), verify=True)
    assert facts(report)["state"] == "unfinished, 2 of 5" and facts(report)["verified"] == "1 files, all as written"


def test_verify_finds_one_changed_byte(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    folder = make_regions(workspace)
    assert inspect(folder, verify=True).problems == []
    assert inspect(tmp_path, verify=True).problems == []
    shard = folder / "shard-00001.h5"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    (folder / "shard-00002.h5").unlink()
    for path in (folder, tmp_path):
        report = inspect(path, verify=True)
        assert len(report.problems) == 2
        assert "shard-00001.h5: its content is not what was written" in report.problems[0]
        assert "shard-00002.h5: missing" in report.problems[1]
    assert len(inspect(shard, verify=True).problems) == 1
    assert inspect(folder / "shard-00000.h5", verify=True).problems == []
    assert [row[-1] for row in rows(inspect(folder), "shards")] == ["whole", "whole", "missing"]


def test_a_shard(shared: Workspace) -> None:
    report = inspect(shared.cache("regions") / "shard-00001.h5")
    assert report.kind == "shard of a cache" and facts(report)["shard"] == "2 of 3, made by itmkit extract-regions"
    assert ("/boxes", "data", "(2, 2, 4)", "float32") in [row[:4] for row in rows(report, "objects")]


def test_an_index(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    make_regions(workspace)
    folder = tmp_path / "index"
    IndexFacts(
        "runs/first", "vsepp", {"regions": "abc"}, "float16", 8, [], chunks=[3, 2], dead=[1], captions=[10]
    ).write(folder)
    (folder / "chunk-00000").mkdir()
    for path in (folder, folder / "manifest.json"):
        report = inspect(path, verify=True)
        found = facts(report)
        assert report.kind == "index" and report.problems == []
        assert (found["method"], found["images"], found["captions"]) == ("vsepp", "4", "10")
        assert found["made from regions"] == "abc" and found["verified"].startswith("nothing")
    assert facts(inspect_image(folder, "2"))["size"] == "30 x 20 pixels"  # of the workspace it lies in
    with pytest.raises(ItmkitError, match="so it is no cache"):
        inspect_row(folder, "2")
    write_json(folder / "manifest.json", {"schema": 1})
    with pytest.raises(ItmkitError, match="run `itmkit index --force`"):
        inspect(folder)


def test_scores_of_evaluate(tmp_path: Path) -> None:
    path = tmp_path / "scores-test.h5"
    save_scores(path, InMemory(np.arange(6, dtype=np.float32).reshape(2, 3)), ["a", "b"], ["1", "2", "3"], "made")
    report = inspect(path, verify=True)
    assert report.kind == "scores of itmkit evaluate" and report.problems == []
    assert report.facts[1:] == [("images x captions", "(2, 3)"), ("verified", "1 files, all as written")]
    with h5py.File(path, "r+") as file:
        file["scores"][1, 2] = 9
    assert inspect(path).problems == []
    report = inspect(path, verify=True)
    assert "its content is not what was written" in report.problems[0] and "verified" not in facts(report)
    with h5py.File(path, "r+") as file:
        del file.attrs["sha256"]
    assert facts(inspect(path, verify=True))["verified"].startswith("nothing")


def test_a_row_of_regions(shared: Workspace) -> None:
    for report in (inspect_row(shared.cache("regions"), "2"), inspect_image(shared.root, "2")):
        assert facts(report)["size"] == "30 x 20 pixels"
        assert rows(report, "regions") == [
            ("0", "red dog", "0.900", "1 2 11 12"),
            ("1", "ball", "0.250", "0 0 30 20"),
        ]
        assert ("features", "float16", "2 x 8", "0.5", "0.5", "0.5") in rows(report, "columns")
    with pytest.raises(ItmkitError, match="image '1' was skipped: truncated"):
        inspect_image(shared.cache("regions"), "1")
    with pytest.raises(ItmkitError, match="no row for 1 of 1 ids"):
        inspect_image(shared.root, "no such image")


def test_nothing_made_yet(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    with pytest.raises(ItmkitError, match="run `itmkit extract-regions` first"):
        inspect_image(tmp_path, "1")
    with pytest.raises(ItmkitError, match="run `itmkit parse-text` first"):
        inspect_caption(tmp_path, TEXT)
    with pytest.raises(ItmkitError, match="so it is no cache"):
        inspect_row(tmp_path, "1")
    assert [row[1] for row in rows(inspect(workspace.root), "stages")] == ["done", *["missing"] * 4]
    with pytest.raises(ItmkitError, match="is no workspace"):
        inspect_image(Path("/"), "1")


def test_a_data_set_and_its_pictures(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    report = inspect(workspace.dataset_path, verify=True)
    assert report.problems == [] and facts(report)["kind"] == "made"
    assert rows(report, "splits") == [("train", "3", "6"), ("val", "1", "2"), ("test", "1", "2")]
    assert report.lines[0] == "first image: 0  images/0.png  30 x 20"
    (tmp_path / "images" / "1.png").write_bytes(b"changed")
    (tmp_path / "images" / "2.png").unlink()
    problems = inspect(workspace.dataset_path, verify=True).problems
    assert len(problems) == 2 and "no such file" in problems[1]


def test_verify_says_what_it_compared(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    first, second, *rest = workspace.dataset().images
    bare = replace(first, file=None, width=None, height=None, sha256=None)
    write_dataset(workspace.dataset_path, [bare, replace(second, sha256=None), *rest], kind="made", settings={})
    report = inspect(workspace.dataset_path, verify=True)
    assert report.lines[0] == "first image: 0  without a picture  of unknown size"
    assert facts(report)["verified"] == (
        "3 pictures, 0 NOT as prepared; 2 images have no picture with a recorded digest"
    )


def test_a_damaged_cache_hides_no_other(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    folder = make_regions(workspace)
    make_text(workspace)
    for path in (folder / "manifest.json", workspace.cache("text") / "shard-00000.h5"):
        path.write_bytes(path.read_bytes()[:-3])
    report = inspect(workspace.root, verify=True)
    assert [name for name in ("regions", "text") if any(f"caches/{name}/" in one for one in report.problems)] == [
        "regions",
        "text",
    ]
    assert facts(report)[str(folder)] == "not verified: cannot be read"


def test_a_damaged_file_of_a_run_hides_no_other(tmp_path: Path) -> None:
    folder = make_run(make_dataset(tmp_path))
    (folder / "eval-test.json").write_text("{")
    (folder / "metrics.jsonl").write_text("{\n")
    report = inspect(folder, verify=True)
    assert ["eval-test" in report.problems[0], "metrics" in report.problems[1]] == [True, True]
    assert len(report.problems) == 2 and facts(report)["method"] == "vsepp"


def test_what_an_import_does_not_know_is_no_zero(tmp_path: Path) -> None:
    folder = make_regions(make_dataset(tmp_path), notes={"boxes": False, "scores": False}, size=(0, 0))
    report = inspect_row(folder, "2")
    assert facts(report)["size"] == "not known"
    assert rows(report, "regions") == [("0", "red dog", "", ""), ("1", "ball", "", "")]


def test_a_run(shared: Workspace) -> None:
    report = inspect(shared.run("first"))
    assert report.kind == "run" and facts(report)["method"] == "vsepp"
    assert ("loss", "0.5", "0.25", "0.5", "0.25") in rows(report, "metrics.jsonl")
    assert [row[0] for row in rows(report, "files")] == ["metrics.jsonl", "run.json"]
    assert inspect(shared.run("first") / "metrics.jsonl").facts == [("lines", "2")]
    write_json(
        shared.run("first") / "eval-test.json",
        {
            "split": "test",
            "results": [
                {"name": "a", "kind": "single", "rsum": 360, **{way: {f"R@{k}": 60.04 for k in (1, 5, 10)} for way in
                 ("i2t", "t2i")}},
            ],
        },
    )  # fmt: skip
    report = inspect(shared.run("first"))
    assert rows(report, "eval-test.json: results") == [("a", "single", *["60.0"] * 6, "360.0")]
    assert [list(one.rows) for one in report.tables if one.title == "eval-test.json"] == [[("split", "test")]]
    wanted = ["method", "recipe", "other settings", "epochs done", "evaluated on"]
    assert [name for name, _ in report.facts] == wanted and facts(report)["epochs done"] == "2 of 2"
    assert facts(report)["evaluated on"] == "test" and report.tables[0].title == "eval-test.json: results"
    assert "captions" in dict(report.details) and {"captions", "caches.regions"} <= report.to_json()["facts"].keys()
    verified = facts(inspect(shared.run("first") / "run.json", verify=True))["verified"]
    assert verified.startswith("nothing")


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": np.zeros((3, 4), np.float16), "b": np.zeros((), np.float32)}, path, {"made": "today"})
    report = inspect(path)
    assert facts(report)["tensors"] == "2" and facts(report)["numbers"] == "13"
    assert facts(report)["metadata made"] == "today"
    assert set(rows(report, "tensors")) == {("w", "F16", "3 x 4", "12"), ("b", "F32", "1", "1")}
    whole = path.read_bytes()
    for damaged in (
        whole[:-3],
        b"",
        b"1234",
        struct.pack("<Q", 1 << 60) + whole[8:],
        struct.pack("<Q", 8) + b"[1,2,3] ",
        whole[:40],
    ):
        path.write_bytes(damaged)
        with pytest.raises(ItmkitError, match="safetensors"):
            inspect(path)


@pytest.mark.parametrize("name", ["no", "folder", "a.txt", "bad.jsonl", "bad.json"])
def test_other_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "bad.jsonl").write_text("{}\n{\n")
    (tmp_path / "bad.json").write_text("{")
    expected = {"no": "no such file", "bad.jsonl": "line 2: column 2: not JSON", "bad.json": "not JSON"}
    with pytest.raises(ItmkitError, match=expected.get(name, "known are a workspace, a cache folder")):
        inspect(tmp_path / name)

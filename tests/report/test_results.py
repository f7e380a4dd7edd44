from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.files import write_text
from itmkit.report.results import comparison, course, evaluation
from itmkit.workspace import Workspace
from tests.report import files


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_course_of_an_ensemble(workspace: Workspace) -> None:
    files.metrics(workspace, "a", {"ensemble": [30, 60], "t2i": [12, 24], "i2t": [36, 48]})
    lines, images = course(workspace, "a")
    assert list(lines) == ["t2i", "i2t", "ensemble"] and images == 200
    assert lines["t2i"]["epoch"] == [1, 2] and lines["t2i"]["stage"] == ["", ""]
    assert lines["t2i"]["rsum"] == [12, 24] and lines["t2i"]["loss"] == [1, 0.5]
    assert lines["i2t"]["i2t R@1"] == [3.6, 4.8] and lines["i2t"]["t2i R@1"] == [3, 4]
    assert np.isnan(lines["ensemble"]["loss"]).all()


def test_course_of_stages_and_of_a_method_without_training(workspace: Workspace) -> None:
    staged = [{"epoch": 1, "stage": "text", "pairs_per_second": 3.0, "global": {"loss": 2.5}}]
    staged.append({"epoch": 2, "validation_images": 50, "global": files.member(60, 0.5)})
    write_text(workspace.run("scl") / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in staged))
    lines, images = course(workspace, "scl")
    assert lines["global"]["stage"] == ["text", ""] and lines["global"]["loss"] == [2.5, 0.5] and images == 50
    assert math.isnan(lines["global"]["rsum"][0]) and lines["global"]["rsum"][1] == 60
    dual = {"epoch": 0, "validation_images": 9, "cosine": files.member(70, 0.0)}
    write_text(workspace.run("dual") / "metrics.jsonl", json.dumps(dual) + "\n")
    lines, _ = course(workspace, "dual")
    assert lines["cosine"]["epoch"] == [0] and math.isnan(lines["cosine"]["loss"][0])


def test_a_last_line_that_a_kill_cut_is_left_out(workspace: Workspace) -> None:
    path = files.metrics(workspace, "a", {"global": [10, 20, 30]})
    whole = path.read_text()
    write_text(path, whole[:-20])
    assert course(workspace, "a")[0]["global"]["rsum"] == [10, 20]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["{", '{"epoch": 1'], ["line 1: column 2: not JSON", "line 2: column 12: not JSON"]),
        (["[]"], ["line 1"]),
        (['{"epoch": -1, "a": {"loss": 1}}'], ["line 1: epoch: "]),
        (['{"epoch": 1, "a": {"loss": NaN}}'], ["line 1: not JSON (NaN"]),
        (['{"epoch": 1, "a": {"i2t": {"R@1": 101}}}'], ["line 1: a.i2t.R@1: "]),
        (['{"epoch": 1, "a": {"i2t": {}}}'], ["line 1: a.i2t.R@1: Field required"]),
        (['{"epoch": 1, "loss": 0.5}'], ["line 1: has no member"]),
        (['{"epoch": 2, "a": {"loss": 1}}', '{"epoch": 2, "a": {"loss": 1}}'], ["line 2: epoch 2 after epoch 2"]),
        ([], ["no epoch is finished yet; `itmkit train --run a` goes on"]),
    ],
)
def test_lines_that_are_not_of_training(workspace: Workspace, lines: list[str], told: list[str]) -> None:
    path = workspace.run("a") / "metrics.jsonl"
    write_text(path, "".join(line + "\n" for line in lines))
    with pytest.raises(ItmkitError) as error:
        course(workspace, "a")
    assert len(error.value.problems) == len(told)
    for problem, words in zip(error.value.problems, told, strict=True):
        assert problem.startswith(f"{path}: ") and words in problem


def test_missing_files_name_the_command(workspace: Workspace) -> None:
    with pytest.raises(ItmkitError, match=r"a/metrics\.jsonl: no such file; `itmkit train --run a`"):
        course(workspace, "a")
    with pytest.raises(ItmkitError, match=r"a/eval-val\.json: no such file; run `itmkit evaluate --run a --split val`"):
        evaluation(workspace, "a", "val")
    with pytest.raises(ItmkitError, match=r"x-val\.json: no such file; `itmkit compare .* --prefix x --split val`"):
        comparison(workspace, "x", "val")
    files.comparison(workspace, {"a": [1.0]}, prefix="mine")
    with pytest.raises(ItmkitError, match="--comparison may be mine"):
        comparison(workspace, "x", "val")


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("results", 0, "curves", "i2t", "cmc", 3), "12", "results[0].curves.i2t.cmc[3]: "),
        (("results", 0, "curves", "t2i", "eleven"), [1.0] * 10, "results[0].curves.t2i.eleven: "),
        (("results", 0, "curves", "t2i"), None, "results[0].curves.t2i: "),
        (("results", 0, "slices", 2, "figures", "R@1", "low"), True, "results[0].slices[2].figures.R@1.low: "),
        (("results", 0, "slices", 2, "side"), "both", "results[0].slices[2].side: "),
        (("results", 0, "by_label", "i2t", 1, "R@1"), 1e20, "results[0].by_label.i2t[1].R@1: "),
        (("results", 0, "by_label"), {"i2t": []}, "results[0].by_label: "),
        (("images",), 1.5, "images: "),
        (("results",), [], "results: "),
    ],
)
def test_what_is_wrong_in_an_evaluation_is_told_with_its_place(
    workspace: Workspace, place: tuple[Any, ...], value: Any, told: str
) -> None:
    path = files.evaluation(workspace, "a", [files.result("a", 20)])
    facts = json.loads(path.read_text())
    assert evaluation(workspace, "a", "val") == facts
    inner = facts
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    write_text(path, json.dumps(facts))
    with pytest.raises(ItmkitError) as error:
        evaluation(workspace, "a", "val")
    (problem,) = error.value.problems
    assert problem.startswith(f"{path}: {told}") and "run `itmkit evaluate --run a --split val` again" in problem


def test_a_comparison_that_is_none(workspace: Workspace) -> None:
    path = files.comparison(workspace, {"a": [1.0, 2.0]})
    assert comparison(workspace, "compare", "val") == json.loads(path.read_text())
    write_text(path, '{"rows": [{"name": "a", "kind": "single", "values": {"rsum": []}}], "seeds": [0]}')
    with pytest.raises(ItmkitError) as error:
        comparison(workspace, "compare", "val")
    told = "\n".join(error.value.problems)
    for words in ("rows[0].values.rsum: ", "images: Field required", "chance_rsum: Field required"):
        assert f"{path}: {words}" in told

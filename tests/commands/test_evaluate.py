from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from itmkit.commands.console import run
from itmkit.commands.evaluate import command
from itmkit.commands.evaluation_tables import tables
from itmkit.evaluation.protocols import PROTOCOLS, Protocol
from itmkit.evaluation.results import Evaluation, EvaluationRow
from itmkit.methods.reported import not_comparable, reported
from itmkit.runs.settings import resolve
from itmkit.scoring.metrics import Direction, Retrieval
from itmkit.training.train import train
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = make_workspace(tmp_path_factory.mktemp("evaluate"))
    for seed in (0, 1):
        config = resolve("vsepp", settings={**FAST["vsepp"], **FAST_TRAINING, "epochs": 1, "seed": seed})
        train(workspace, config, run=f"seed{seed}")
    return workspace.root


def test_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["-w", str(root), "--run", "seed0", "--run", "seed1"]) == 0
    told = capsys.readouterr().out
    lines = [line for line in told.splitlines() if "seed" in line]
    assert len(lines) == 3  # a run, the other, both; no line is broken in two
    assert "single" in lines[0] and "single" in lines[1] and "ensemble of 2" in lines[2]
    assert "seed0 + seed1" in lines[2]
    assert "the test split: 6 images, 12 captions" in told and "chance: rsum " in told
    record = json.loads((root / "runs" / "seed0" / "eval-test.json").read_text())
    result = record["results"][0]
    shown = [result[side][key] for side in ("i2t", "t2i") for key in ("R@1", "R@5", "R@10")]
    for value in (*shown, result["rsum"], result["mR"]):
        assert f" {value:.1f} " in lines[0]


def test_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["-w", str(root), "--run", "seed0", "--run", "seed1", "--split", "val", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["split"] == "val" and record["images"] == 6
    assert [(row["name"], row["kind"]) for row in record["results"]] == [
        ("seed0", "single"),
        ("seed1", "single"),
        ("seed0 + seed1", "ensemble of 2"),
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--run", "seed0", "--split", "nonsense"], "--split 'nonsense': no such split or protocol"),
        (["--run", "seed0", "--split", "coco1k"], "needs 5,000 images"),
        (["--run", "seed7"], "no such run, nor the folder of one; there are seed0, seed1"),
        ([], "--run NAME says which run to evaluate; there are seed0, seed1"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_what_is_refused(arguments: list[str], told: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["-w", str(root), *arguments]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_the_only_run_needs_no_name(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(root, tmp_path / "work")
    shutil.rmtree(tmp_path / "work" / "runs" / "seed1")
    assert run(command, ["-w", str(tmp_path / "work"), "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["results"]] == ["seed0"]
    shutil.rmtree(tmp_path / "work" / "runs")
    assert run(command, ["-w", str(tmp_path / "work")]) == 2
    assert "run `itmkit train --method mpsm` first" in capsys.readouterr().err


def test_too_little_memory_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["-w", str(root), "--run", "vsepp", "--memory", "0.01"]) == 2
    assert "GB are in use before anything is read; give at least" in capsys.readouterr().err


def test_intervals_and_another_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-w", str(root), "--run", "seed0", "--against", "seed1", "--intervals", "--slices", "--curves"]
    assert run(command, arguments) == 0
    told = capsys.readouterr().out
    for heading in ("seed0 less seed1, on the same images", "95% intervals over images", "seed0: parts of the queries"):
        assert heading in told
    assert "words below 8" in told and "regions below 10" in told and "i2t meanr" in told
    assert run(command, [*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["against"]["first"] == "seed0" and set(record["against"]["figures"]) >= {"rsum", "t2i R@10"}
    for row in record["results"]:
        assert row["intervals"]["rsum"]["value"] == pytest.approx(row["rsum"])
        assert len(row["curves"]["i2t"]["cmc"]) == 100 and row["slices"]


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_other_forms(form: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["-w", str(root), "--run", "seed0", "--format", form]) == 0
    told = capsys.readouterr().out
    begin = {"markdown": "the test split", "latex": "% the test split", "csv": "run,kind,i2t R@1"}[form]
    assert told.startswith(begin) and "seed0" in told and "chance" not in told
    assert run(command, ["-w", str(root), "--run", "seed0", "--intervals", "--format", form]) == 0
    assert "95% intervals over images" in capsys.readouterr().out


def test_what_papers_report_stands_beside(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(command, ["-w", str(root), "--run", "seed0", "--compare-paper"]) == 2
    assert "papers report on flickr1k, coco1k, coco5k; figures on --split test are not" in capsys.readouterr().err
    monkeypatch.setitem(PROTOCOLS, "flickr1k", Protocol("flickr1k", "test", 6, 1, "Flickr30K: the 1,000 test images"))
    assert run(command, ["-w", str(root), "--run", "seed0", "--split", "flickr1k", "--compare-paper"]) == 0
    told = capsys.readouterr().out
    paper = next(line for line in told.splitlines() if "VSE++" in line)
    assert "reported, " in paper and "52.9" in paper
    assert run(command, ["-w", str(root), "--run", "seed0", "--split", "flickr1k", "--compare-paper", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["reported"][0]["figures"]["i2t R@1"] == 52.9 and record["reported"][0]["source"]
    assert record["not_comparable"] == []


def test_rows_of_papers_that_do_not_compare_stand_below() -> None:
    recalls = Retrieval(Direction(1, 2, 3, 4, 5), Direction(1, 2, 3, 4, 5), images=6, captions=30)
    row = EvaluationRow("mefn", "single", recalls, "mefn")
    result = Evaluation(PROTOCOLS["flickr1k"], [row], 6, 30, 0, 0.1, "")
    table, below = tables(result, reported("mefn", "flickr1k"), not_comparable("mefn"))
    assert len(table.rows) == 1  # of the run alone
    assert "direction and number of test images are not said" in below.title
    assert ["MEFN (Liu and Fan, table 1)", "Flickr30K", "R@1 82.5, R@5 94.3, mAP 76.2"] in below.rows
    (with_papers,) = tables(result, reported("chan", "flickr1k"))
    assert [cells[1] for cells in with_papers.rows] == ["single", *["reported, single, chosen on dev"] * 2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--ratings", "experts=x"], "--ratings experts=x: is written expert=FILE or crowdflower=FILE or cxc=FILE"),
        (["--ratings", "expert=a", "--ratings", "expert=b"], "--ratings expert=b: expert has another file already"),
        (["--tokens", "a"], "--tokens: for --ratings expert=FILE and crowdflower=FILE"),
        (["--scan-order"], "--scan-order: how captions are found for --judgements"),
        (["--coco-captions", "a", "--scan-order", "--judgements", "b"], "two ways to find captions"),
        (["--trec-depth", "100"], "--trec-depth: how long the rankings of --trec are"),
        (["--labels"], "the images of this split have no labels"),
        (["--judgements", "nowhere"], "original_caption_to_image.json"),
        (["--run", "seed1", "--against", "seed1"], "named twice"),
        (["--map", "--ks", "1,x"], "'1,x' is no list such as 1,5,10"),
        (["--map", "--ks", "5,0"], "0 is not from 1 to 1e+06"),
        (["--alpha", "0.5,nan"], "nan is not from 0 to 1"),
        (["--alpha", "0.5,0.5"], "names a number twice"),
    ],
)
def test_further_figures_that_cannot_be(
    arguments: list[str], told: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = arguments if "--run" in arguments else ["--run", "seed0", *arguments]
    assert run(command, ["-w", str(root), *arguments]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_map_and_rankings(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-w", str(root), "--run", "seed0", "--map", "--ks", "1,4", "--trec", str(tmp_path / "trec")]
    assert run(command, arguments) == 0
    told = capsys.readouterr().out
    assert "i2t, its own captions, or image, count as right: 6 queries" in told
    assert all(name in told for name in ("mAP", "P@4", "hits/min(4,R)"))
    assert {path.name for path in (tmp_path / "trec").iterdir()} == {
        f"own-{side}.{kind}" for side in ("i2t", "t2i") for kind in ("run", "qrels")
    }
    assert len((tmp_path / "trec" / "own-t2i.run").read_text().splitlines()) == 12 * 6


def test_what_search_gives_up_stands_beside_all_pairs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["-w", str(root), "--run", "seed0", "--rerank", "12", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["results"][0]
    for side in ("i2t", "t2i"):  # one vector each: its product is the score, and all are candidates
        assert row["rerank"][side]["two_stages"] == {key: row[side][key] for key in ("R@1", "R@5", "R@10")}
        assert row["rerank"][side]["found"] == 100
    assert run(command, ["-w", str(root), "--run", "seed0", "--run", "seed1", "--rerank", "2"]) == 0
    told = capsys.readouterr().out
    assert told.count("candidates alone") == told.count("best 2 scored") == told.count("all scored") == 2
    assert "t2i in 2" in told and "answers among the best 2 candidates" in told
    assert run(command, ["-w", str(root), "--scores", "a.h5", "--rerank", "2"]) == 2
    assert "give the run with --run" in capsys.readouterr().err

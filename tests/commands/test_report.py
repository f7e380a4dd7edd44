from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.workspace import Workspace
from tests.report.html.parsed import parsed

pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def home(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(shutil.copytree(trained.root, tmp_path_factory.mktemp("report") / "work"))


def test_one_run_from_scoring_to_a_page(
    home: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(cli, ["evaluate", "-w", str(home.root), "--run", "mpsm", "--slices"]) == 0
    evaluation = json.loads((home.run("mpsm") / "eval-test.json").read_text(encoding="utf-8"))
    assert run(cli, ["report", "mpsm", "-w", str(home.root), "--queries", "2", "--json"]) == 0
    told = capsys.readouterr()
    assert "no scores of test are kept" in told.err and (home.run("mpsm") / "scores-test.h5").is_file()
    again = json.loads((home.run("mpsm") / "eval-test.json").read_text(encoding="utf-8"))
    assert again["results"] == evaluation["results"]  # with its slices
    printed = json.loads(told.out[told.out.index("{") :])
    page = parsed(Path(printed["report"]))
    data = page.data
    rows = {row["name"]: row for row in data["results"]}
    for row in evaluation["results"]:
        assert all(rows[row["name"]][key] == row[key] for key in ("i2t", "t2i", "rsum", "kind"))
    assert rows["mpsm"]["intervals"] == evaluation["results"][-1]["intervals"]
    assert data["slices"]["mpsm"] == evaluation["results"][-1]["slices"]
    for one in data["slices"]["mpsm"]:
        if one["queries"]:
            assert f"{one['name']} ({one['queries']}) {one['figures']['R@1']['value']:.1f}" in page.text
    lines = [json.loads(line) for line in (home.run("mpsm") / "metrics.jsonl").read_text().splitlines()]
    assert data["courses"]["mpsm"]["ensemble"]["rsum"] == [line["ensemble"]["rsum"] for line in lines]
    facts = json.loads((home.run("mpsm") / "run.json").read_text(encoding="utf-8"))
    assert data["made"]["caches"] == {"mpsm": facts["caches"]} and all(x in page.text for x in facts["caches"].values())
    assert data["made"]["command"] == "itmkit report mpsm --split test --queries 2"
    assert "Xie et al., UAI 2022" in page.text and "no figure here may be set against one above" in page.text
    shown = data["queries"]["t2i"][0]
    assert {"head", "relation", "importance"} <= shown["words"][0].keys() and "det of" in str(
        page.all("svg", role="img")
    )
    found = [layer for each in shown["shown"] for layer in each["layers"]["attention"]]
    assert found and all(len(row) == 3 and row[0][1] >= row[-1][1] for row in found)
    first = Path(printed["report"]).read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it is scored again")

    monkeypatch.setattr("itmkit.report.html.scored.evaluate", never)
    assert run(cli, ["report", "mpsm", "-w", str(home.root), "--queries", "2"]) == 0
    assert "mpsm-test.html" in capsys.readouterr().out and Path(printed["report"]).read_bytes() == first


def test_kept_scores_of_an_earlier_run_do_not_count(home: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["report", "dual", "-w", str(home.root), "--queries", "3"]) == 0
    told = capsys.readouterr().err
    assert "no scores of test are kept" in told and "compares whole pictures" in told
    (home.run("dual") / "eval-test.json").unlink()  # as training anew does
    assert run(cli, ["report", "dual", "-w", str(home.root), "--queries", "3"]) == 0
    assert "no scores of test are kept" in capsys.readouterr().err
    (home.run("dual") / "scores-test.h5").write_bytes(b"cut")
    assert run(cli, ["report", "dual", "-w", str(home.root), "--queries", "3"]) == 0
    assert "no scores of test are kept" in capsys.readouterr().err


def test_everything_that_is_wrong_is_told_at_once(
    home: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.html").write_text("mine")
    wrong = ["mpms", "glfn", "glfn", "--split", "coco1k", "--scores", "x=y.h5", "--scores", "glfn=no.h5"]
    wrong += ["--images", str(tmp_path / "none"), "-o", str(tmp_path / "mine.html")]
    assert run(cli, ["report", *wrong, "-w", str(home.root)]) == 2
    told = capsys.readouterr()
    for says in (
        "mpms: no such run; there are",
        "did you mean 'mpsm'",
        "glfn: named twice",
        "coco1k: compares within 5 folds",
        "'x' is none of the runs",
        "no.h5: no such file",
        "none: no such folder",
        "mine.html: is there already and is not a report",
    ):
        assert says in told.err, says
    assert told.out == "" and "Traceback" not in told.err
    for arguments, says in (
        (["mpsm", "--scores", "mpsm"], "is written RUN=FILE"),
        (["mpsm", "--split", "tset"], "no such split or protocol"),
        (["../mpsm"], "error: run '../mpsm': a run's name is one folder name"),
        (["a/b", "--scores", f"a/b={tmp_path / 'mine.html'}"], "one folder name"),
        (["mpsm", "--scores", f"mpsm={tmp_path / 'mine.html'}"], "cannot be read as HDF5"),
    ):
        assert run(cli, ["report", *arguments, "-w", str(home.root)]) == 2
        assert says in capsys.readouterr().err
    many = [f"a-run-of-a-long-name-{number}" for number in range(20)]
    assert run(cli, ["report", *many, "-w", str(home.root)]) == 2
    told = capsys.readouterr()
    assert "-o names a shorter one" in told.err and "21 problems" in told.err  # no such runs, too
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run(cli, ["report", "glfn", "-w", str(home.root)]) == 2
    assert "pip install 'itmkit[report]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]
    assert not (home.run("glfn") / "scores-test.h5").exists()

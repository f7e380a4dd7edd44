from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from itmkit.errors import ItmkitError
from itmkit.files import write_text
from itmkit.report import plots as plots_module
from itmkit.report.figure import MOST
from itmkit.report.plots import plot
from itmkit.workspace import Workspace
from tests.report import files

pytest.importorskip("matplotlib")

OF_FILES = ["epochs", "compare", "cmc", "precision", "slices", "labels", "alpha", "categories"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A run with everything, an ensemble of two with everything, and a run that was evaluated plainly."""
    workspace = Workspace(tmp_path)
    write_text(workspace.dataset_info_path, '{"kind": "scenes"}')
    files.metrics(workspace, "one", {"global": [100, 120]})
    files.metrics(workspace, "both", {"t2i": [90, 95], "i2t": [91, 96], "ensemble": [99, 101]})
    files.evaluation(workspace, "one", [files.result("one", 20)])
    members = [files.result("both/t2i", 24), files.result("both/i2t", 25)]
    files.evaluation(workspace, "both", [*members, files.result("both", 30, kind="ensemble of 2")])
    files.evaluation(workspace, "plain", [files.result("plain", 20, asked=False)])
    files.comparison(workspace, {"scan": [300, 310], "vsepp": [200, 210]})
    return workspace


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not drawn, which takes most of the time: for tests of what they would show."""
    monkeypatch.setattr(plots_module, "save", lambda figure, path, **options: None)


def test_everything_of_a_workspace(workspace: Workspace) -> None:
    plots = plot(workspace, OF_FILES, split="val")
    names = ["epochs", "compare-compare-val", "cmc-val", "precision-val", "slices-val", "labels-val", "alpha-val"]
    names += ["categories-val"]
    assert [one.path for one in plots] == [workspace.root / "plots" / f"{name}.svg" for name in names]
    both = ["both (ensemble of 2)", "one (single)"]
    assert [one.series for one in plots] == [both, ["scan", "vsepp"], *[both] * 6]
    for one in plots:
        written = one.path.read_text(encoding="utf-8")
        told = [one.title] if len(one.title) <= 56 else one.title.replace(": ", ":|").split("|")
        assert all(f">{line}<" in written for line in told)
        for name in one.series:
            assert f">{name}<" in written
    assert [one.title.split(": ") for one in plots] == [
        ["runs over epochs", "scenes, val, 200 images, singles and ensembles"],
        ["rsum by method", "scenes, val, 100 images; mean of 2 seeds"],
        ["R@k for every k", "scenes, val, 100 images, singles and ensembles"],
        ["precision over recall", "scenes, val, 100 images, singles and ensembles"],
        ["R@1 of parts of the queries", "scenes, val, 100 images, singles and ensembles"],
        ["R@1 by label", "scenes, val, 100 images, singles and ensembles"],
        ["R@1 by weight of the members", "scenes, val, 100 images, singles and ensembles"],
        ["R@K by super-category", "scenes, val, 100 images, singles and ensembles"],
    ]
    again = plot(workspace, ["compare", "slices"], split="val", out=workspace.root / "again")  # curves: test_figure.py
    assert [one.path.read_bytes() for one in again] == [plots[at].path.read_bytes() for at in (1, 4)]


@pytest.mark.parametrize(("kind", "name"), [("flickr8k", "flickr8k"), ("csv", "photos")])
def test_the_title_names_the_data_set(tmp_path: Path, unsaved: None, kind: str, name: str) -> None:
    workspace = Workspace(tmp_path / "photos")
    write_text(workspace.dataset_info_path, json.dumps({"kind": kind}))
    files.metrics(workspace, "one", {"global": [100, 120]})
    (one,) = plot(workspace, ["epochs"])
    assert one.title == f"one over epochs: {name}, val, 200 images, single"


def test_a_run_keeps_its_colour_in_every_figure(workspace: Workspace) -> None:
    def colour(path: Path, run: str) -> str:
        """The stroke that precedes the name of a run in the legend, from the last line drawn before it."""
        before = path.read_text(encoding="utf-8").partition(f">{run}<")[0]
        return re.findall(r"stroke: (#[0-9a-f]{6}); stroke-width: 1[.\d]*; stroke-linecap", before)[-1]

    (both,) = plot(workspace, ["cmc"], split="val", runs=["both", "one"])
    first = {run: colour(both.path, f"{run} ({kind})") for run, kind in (("both", "ensemble of 2"), ("one", "single"))}
    assert first["both"] != first["one"]
    files.evaluation(workspace, "earlier", [files.result("earlier", 30)])
    (alone,) = plot(workspace, ["cmc"], split="val", runs=["one"], out=workspace.root / "elsewhere")
    assert colour(alone.path, "one") == first["one"]
    (epochs,) = plot(workspace, ["epochs"], runs=["one"])
    assert colour(epochs.path, "one") == first["one"]
    kept = json.loads((workspace.root / "plots" / "colours.json").read_text())
    assert kept == {"both": 0, "one": 1, "plain": 2, "earlier": 3}
    shutil.rmtree(workspace.run("both"))
    plot(workspace, ["epochs"], runs=["one"])
    assert json.loads((workspace.root / "plots" / "colours.json").read_text()) == {"one": 1, "plain": 2, "earlier": 3}
    write_text(workspace.root / "plots" / "colours.json", '["one"]')
    with pytest.raises(ItmkitError, match=r"colours\.json: .*not what `itmkit plot` writes; delete it"):
        plot(workspace, ["epochs"])


def test_what_all_have_in_common_stands_in_the_title(workspace: Workspace, unsaved: None) -> None:
    (one,) = plot(workspace, ["cmc"], runs=["both"], split="val")
    assert one.title.endswith(", val, 100 images, ensemble of 2") and one.series == ["both"]
    files.evaluation(workspace, "one", [files.result("one", 20)], images=90)
    (one,) = plot(workspace, ["cmc"], runs=["one", "both"], split="val")
    assert one.title.endswith(", val, different numbers of images, singles and ensembles")
    assert one.series == ["one (90 images, single)", "both (100 images, ensemble of 2)"]
    (one,) = plot(workspace, ["epochs"], runs=["both"])
    assert one.title.startswith("both over epochs: ") and one.series == ["t2i", "i2t", "ensemble"]


def test_validation_on_different_images_is_said(workspace: Workspace, unsaved: None) -> None:
    files.metrics(workspace, "one", {"global": [100, 120]}, images=1000)
    (one,) = plot(workspace, ["epochs"])
    assert one.title.endswith("not comparable") and one.series[1] == "one (1,000 images, single)"


def test_members(workspace: Workspace, unsaved: None) -> None:
    cmc, bars = plot(workspace, ["cmc", "compare"], runs=["both"], split="val", members=True)
    assert cmc.series == ["both/t2i (single)", "both/i2t (single)", "both (ensemble of 2)"]
    assert bars.series == ["scan", "vsepp", "scan/t2i"]


def test_a_file_for_every_figure_of_a_comparison(workspace: Workspace) -> None:
    (one,) = plot(workspace, ["compare"], split="val", figure="t2i R@1", out=workspace.root / "out", format="png")
    assert one.path == workspace.root / "out" / "compare-compare-val-t2i-r1.png" and one.path.exists()
    with pytest.raises(ItmkitError, match="--figure 'R@1': the comparison has rsum, t2i R@1"):
        plot(workspace, ["compare"], split="val", figure="R@1")


def test_slices_begin_with_all_queries_and_labels_are_counted(workspace: Workspace) -> None:
    slices, labels = plot(workspace, ["slices", "labels"], runs=["one"], split="val", labels=2)
    written = slices.path.read_text(encoding="utf-8")
    assert ">all (100)<" in written and ">all (500)<" in written and ">words 8-9 (120)<" in written
    assert "words below 8" not in written and "animal" not in written  # which categories draws
    assert labels.title.endswith("val, 100 images, single; the 2 labels of 3 with the most queries")


def test_all_queries_have_the_interval_of_the_evaluation(workspace: Workspace) -> None:
    def label(run: str, **more: Any) -> str:
        files.evaluation(workspace, run, [files.result(run, 20) | more])
        (one,) = plot(workspace, ["slices"], runs=[run], split="val")
        written = one.path.read_text(encoding="utf-8")
        said = re.search(r">(R@1 \(%\) and its 95% interval[^<]*)<", written)
        assert said
        return said[1]

    assert label("one") == "R@1 (%) and its 95% interval, where it has one"
    known = {f"{side} R@1": {"value": 20.0, "low": 18.0, "high": 23.0} for side in ("i2t", "t2i")}
    slices = [one for one in files.result("one", 20)["slices"] if one["name"] != "one"]
    assert label("one", intervals=known, slices=slices) == "R@1 (%) and its 95% interval"


def test_curves_by_labels(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: dict[str, Any] = {}
    monkeypatch.setattr(plots_module, "save", lambda figure, path, **options: figures.update({path.name: figure}))
    with pytest.raises(ItmkitError, match=r"no run has curves by labels of split 'val'; run `.*--split val --labels`"):
        plot(workspace, ["cmc"], split="val", by="labels")
    curve = {"cmc": [10.0, 30.0, 60.0], "eleven": [50.0 - 4 * k for k in range(11)]}
    files.evaluation(workspace, "one", [files.result("one", 20) | {"labels": {"i2t": curve, "t2i": curve}}])
    both = plot(workspace, ["cmc", "precision"], split="val", by="labels", runs=["one"])
    assert [one.path.name for one in both] == ["cmc-val-labels.svg", "precision-val-labels.svg"]
    assert both[1].title == "precision over recall by shared labels: scenes, val, 100 images, single"
    for name, key in (("cmc-val-labels.svg", "cmc"), ("precision-val-labels.svg", "eleven")):
        assert [axis.lines[0].get_ydata().tolist() for axis in figures[name].axes] == [curve[key]] * 2
    flat = curve | {"eleven": [40.0] * 11}
    files.evaluation(workspace, "one", [files.result("one", 20) | {"labels": {"i2t": flat, "t2i": flat}}])
    plot(workspace, ["precision"], split="val", by="labels", runs=["one"])
    assert figures["precision-val-labels.svg"].axes[0].get_xlabel() == "recall (%)"  # not that each has one answer


def test_categories_are_the_slices_of_super_categories(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plots_module, "save", lambda figure, path, **options: figures.append(figure))
    plot(workspace, ["categories"], split="val", runs=["one"])
    assert [[bar.get_width() for bar in axis.patches] for axis in figures[0].axes] == [[50.0, 40.0, 20.0]] * 2
    slices = [one for one in files.result("one", 20)["slices"] if "animal" not in one["name"]]
    files.evaluation(workspace, "one", [files.result("one", 20) | {"slices": slices}])
    with pytest.raises(ItmkitError, match=r"one/eval-val\.json: has no slices by super-category; .* with --instances"):
        plot(workspace, ["categories"], split="val", runs=["one"])


def test_without_data_nothing_is_drawn_and_the_command_is_named(workspace: Workspace) -> None:
    with pytest.raises(ItmkitError) as error:
        plot(workspace, ["epochs", "cmc", "slices", "labels"], runs=["plain", "none"], split="val")
    told = error.value.problems
    plain = workspace.run("plain") / "eval-val.json"
    for key, option in (("curves", "--curves"), ("slices", "--slices"), ("by_label", "--labels")):
        assert f"{plain}: has no {key}; run `itmkit evaluate --run plain --split val {option}`" in told
    assert f"{workspace.run('plain') / 'metrics.jsonl'}: no such file" in told[0]
    assert sum("runs/none/" in problem for problem in told) == 4
    assert not (workspace.root / "plots").exists()


def test_an_empty_workspace(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError) as error:
        plot(Workspace(tmp_path), [*OF_FILES, "scores", "retrieved"], split="val")
    told = "\n".join(error.value.problems)
    asks = ("--curves`", "--slices`", "--labels`", "--save-scores", "--instances")
    for words in ("itmkit train", "itmkit compare", *asks):
        assert words in told
    # cmc and precision want the same, and so do scores and retrieved
    assert len(error.value.problems) == len(OF_FILES) + 2 - 2


@pytest.mark.parametrize(
    ("what", "runs", "split", "told"),
    [
        (["pie"], [], "val", "'pie': no such plot; there are epochs, compare, cmc"),
        ([], [], "val", "nothing to draw is named"),
        (["cmc"], ["one", "one"], "val", "--run one: named twice"),
        (["cmc"], ["one"], "nonsense", "--split 'nonsense': no such split or protocol"),
        (["cmc"], ["../one"], "val", "a run's name is one folder name"),
    ],
)
def test_what_is_asked_wrongly(workspace: Workspace, what: list[str], runs: list[str], split: str, told: str) -> None:
    with pytest.raises(ItmkitError) as error:
        plot(workspace, what, runs=runs, split=split)
    assert any(told in problem for problem in error.value.problems)


def test_a_renamed_run_and_too_many_runs(workspace: Workspace) -> None:
    files.evaluation(workspace, "renamed", [files.result("one", 20)])
    with pytest.raises(ItmkitError, match=r"renamed/eval-val\.json: has no result of renamed itself"):
        plot(workspace, ["cmc"], split="val")
    for number in range(MOST):
        files.metrics(workspace, f"run{number}", {"global": [1]})
    with pytest.raises(ItmkitError, match=f"{MOST + 2} series: more than {MOST} cannot be told apart"):
        plot(workspace, ["epochs"])


def test_a_damaged_file_is_told_though_others_are_well(workspace: Workspace) -> None:
    write_text(workspace.run("one") / "eval-val.json", "{}")
    with pytest.raises(ItmkitError, match=r"one/eval-val\.json: images: Field required"):
        plot(workspace, ["cmc"], split="val")

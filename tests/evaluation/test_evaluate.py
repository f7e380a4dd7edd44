from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.evaluation.measures import Wanted
from itmkit.evaluation.protocols import PROTOCOLS, Protocol
from itmkit.evaluation.score_files import evaluate_files
from itmkit.evaluation.trec import Trec
from itmkit.inputs import Inputs
from itmkit.runs.open import open_run
from itmkit.scoring.engine import Scoring
from itmkit.scoring.matrix import score_matrix
from itmkit.scoring.metrics import retrieval
from itmkit.scoring.stored import InMemory, ScoreFile, save_scores
from itmkit.typed import write_sealed
from itmkit.workspace import Workspace
from tests.workspaces import largest_file

# Whether `auto` rounds products depends on the processor.
WHOLE = Scoring(precision="float32")


def matrices(workspace: Workspace, run: str) -> tuple[dict[str, np.ndarray], Inputs]:
    opened = open_run(workspace, run, device=torch.device("cpu"))
    inputs = Inputs(workspace, workspace.dataset().split("test"), opened.vocabulary, opened.needs)
    return score_matrix(opened.members, inputs), inputs


def test_single_and_ensemble_are_told_apart(workspace: Workspace) -> None:
    found = evaluate(workspace, ["mpsm", "vsepp"], scoring=WHOLE)
    assert [(row.name, row.kind) for row in found.rows] == [
        ("mpsm/distance", "single"),
        ("mpsm/direction", "single"),
        ("mpsm", "ensemble of 2"),
        ("vsepp", "single"),
        ("mpsm + vsepp", "ensemble of 3"),
    ]
    mpsm, inputs = matrices(workspace, "mpsm")
    vsepp, _ = matrices(workspace, "vsepp")
    both = (mpsm["distance"] + mpsm["direction"]) / 2
    for row, scores in zip(
        found.rows, [*mpsm.values(), both, vsepp["global"], (both + vsepp["global"]) / 2], strict=True
    ):
        assert row.result == retrieval(scores, inputs.image_of), row.name


def test_pictures_without_features_are_counted(workspace: Workspace) -> None:
    found = evaluate(workspace, ["vsepp"])
    assert (found.images, found.captions, found.left_out) == (5, 10, 1)


def test_everything_is_written_beside_the_run(workspace: Workspace) -> None:
    together = evaluate(workspace, ["mpsm", "vsepp"]).to_json()
    alone = json.loads((workspace.run("mpsm") / "eval-test.json").read_text())
    assert [row["name"] for row in alone["results"]] == ["mpsm/distance", "mpsm/direction", "mpsm"]
    written = json.loads((workspace.run("mpsm") / "eval-test+vsepp.json").read_text())
    assert written == together | {key: written[key] for key in ("scores_of", "sha256")}
    assert [row["kind"] for row in json.loads((workspace.run("vsepp") / "eval-test.json").read_text())["results"]] == [
        "single"
    ]
    for key in ("split", "folds", "left_out", "images", "captions", "chance_rsum"):
        assert key in alone
    assert evaluate(workspace, ["mpsm"], split="val").to_json()["split"] == "val"


def test_a_plain_evaluation_keeps_what_a_fuller_one_has_measured(workspace: Workspace) -> None:
    path = workspace.run("vsepp") / "eval-test.json"
    evaluate(workspace, ["vsepp"], wanted=Wanted(curves=True, slices=True))
    full = json.loads(path.read_text())
    plain = evaluate(workspace, ["vsepp"])
    assert json.loads(path.read_text()) == full and set(full["results"][0]) >= {"curves", "slices"}
    assert plain.notes == (
        f"{path}: keeps what was measured before with --curves, --intervals, --slices, of the same weights and data",
    )
    assert "curves" not in plain.rows[0].to_json()  # and tells only what was asked for
    evaluate(workspace, ["vsepp"], wanted=Wanted(intervals=True))
    assert set(json.loads(path.read_text())["results"][0]) == {*full["results"][0], "intervals"}
    del full["sha256"]
    write_sealed(path, full | {"scores_of": "other weights"})
    (note,) = evaluate(workspace, ["vsepp"]).notes
    assert (
        "has lost what was measured before with --curves, --intervals, --slices: weights, data or precision changed"
        in note
    )
    assert "curves" not in json.loads(path.read_text())["results"][0]


def test_the_precision_is_that_of_the_products_of_each_run(workspace: Workspace) -> None:
    rounded = Scoring(precision="bfloat16")
    evaluate(workspace, ["vsepp"], wanted=Wanted(curves=True), scoring=WHOLE)
    together = evaluate(workspace, ["mpsm", "vsepp"], scoring=rounded)
    told = {run: json.loads((workspace.run(run) / "eval-test.json").read_text()) for run in ("mpsm", "vsepp")}
    assert together.precision == told["mpsm"]["precision"] == "bfloat16" and told["vsepp"]["precision"] == "float32"
    assert "curves" in told["vsepp"]["results"][0]  # one product of vectors is not rounded: the same scores as before
    assert evaluate(workspace, ["vsepp"], scoring=rounded).precision == "float32"


def test_what_was_changed_by_hand_is_not_kept(workspace: Workspace) -> None:
    path = workspace.run("vsepp") / "eval-test.json"
    evaluate(workspace, ["vsepp"], wanted=Wanted(curves=True))
    path.write_text(path.read_text().replace('"cmc"', '"cmd"', 1))
    (note,) = evaluate(workspace, ["vsepp"]).notes
    assert "content is not what was written; it is written anew, without what was measured before" in note
    assert "curves" not in json.loads(path.read_text())["results"][0]


def test_folds_are_scored_apart_and_averaged(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol like coco1k in small: two folds of three training images."""
    monkeypatch.setitem(PROTOCOLS, "tiny", Protocol("tiny", "train", 12, 4, "four folds of three"))
    found = evaluate(workspace, ["vsepp"], split="tiny")
    opened = open_run(workspace, "vsepp", device=torch.device("cpu"))
    inputs = Inputs(workspace, workspace.dataset().split("train"), opened.vocabulary, opened.needs)
    whole = score_matrix(opened.members, inputs)["global"]
    parts = [
        retrieval(whole[start : start + 3, 2 * start : 2 * start + 6], np.repeat(np.arange(3), 2))
        for start in range(0, 12, 3)
    ]
    result = found.rows[0].result
    assert result.rsum == pytest.approx(np.mean([part.rsum for part in parts]))
    assert result.t2i.medr == pytest.approx(np.mean([part.t2i.medr for part in parts]))
    assert (result.images, result.captions) == (12, 24)


def mean_average_precision(scores: np.ndarray, image_of: np.ndarray) -> dict[str, dict[str, float]]:
    """mAP and P@2 of own captions and of the own image, item by item; a tie counts against the query."""
    found: dict[str, dict[str, float]] = {}
    own = image_of == np.arange(len(scores))[:, None]
    for side, matrix, right in (("i2t", scores, own), ("t2i", scores.T, own.T)):
        each = []
        for row, hits in zip(matrix, right, strict=True):
            order = [hits[k] for k in sorted(range(len(row)), key=lambda k: (-row[k], hits[k]))]
            at = [sum(order[: r + 1]) / (r + 1) for r, hit in enumerate(order) if hit]
            each.append((np.mean(at), sum(order[:2]) / 2))
        found[side] = dict(zip(("mAP", "P@2"), 100 * np.mean(each, axis=0), strict=True))
    return found


def test_map_of_own_captions_is_averaged_over_folds(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "tiny", Protocol("tiny", "train", 12, 4, "four folds of three"))
    with pytest.raises(ItmkitError, match="--ks: says where figures of --map, --labels and --judgements are cut"):
        evaluate(workspace, ["vsepp"], wanted=Wanted(ks=(2,)))
    trec = Trec(workspace.root / "trec", None)
    (row,) = evaluate(workspace, ["vsepp"], split="tiny", wanted=Wanted(own=True, ks=(2,), trec=trec)).to_json()[
        "results"
    ]
    opened = open_run(workspace, "vsepp", device=torch.device("cpu"))
    whole = score_matrix(
        opened.members, Inputs(workspace, workspace.dataset().split("train"), opened.vocabulary, opened.needs)
    )["global"]
    folds = [
        mean_average_precision(whole[start : start + 3, 2 * start : 2 * start + 6], np.repeat(np.arange(3), 2))
        for start in range(0, 12, 3)
    ]
    for side, queries in (("i2t", 12), ("t2i", 24)):
        assert row["own"][side]["queries"] == queries
        for name in ("mAP", "P@2"):
            assert row["own"][side][name] == pytest.approx(np.mean([fold[side][name] for fold in folds]))
        # The rankings of all folds are in one file, each among the items of its fold.
        lines = (trec.folder / f"own-{side}.run").read_text().splitlines()
        assert len(lines) == queries * (6 if side == "i2t" else 3)


def test_other_weights_of_the_members_need_no_training(workspace: Workspace, tmp_path: Path) -> None:
    wanted = Wanted(alphas=(0.0, 0.25, 1.0))
    found = evaluate(workspace, ["mpsm"], wanted=wanted, scoring=WHOLE).to_json()["results"]
    assert [row["name"] for row in found if "alpha" in row] == ["mpsm"]
    sweep = found[-1]["alpha"]
    assert sweep["weight_of"] == "direction" and [one["alpha"] for one in sweep["values"]] == [0, 0.25, 1]
    both, inputs = matrices(workspace, "mpsm")
    for one, alpha in zip(sweep["values"], (0, 0.25, 1), strict=True):
        expected = retrieval((1 - alpha) * both["distance"] + alpha * both["direction"], inputs.image_of)
        assert {key: one[key] for key in ("i2t", "t2i", "rsum")} == {
            key: expected.to_json()[key] for key in ("i2t", "t2i", "rsum")
        }
    assert [sweep["values"][place]["rsum"] for place in (0, 2)] == [row["rsum"] for row in found[:2]]
    kept = evaluate(workspace, ["mpsm"], scoring=WHOLE).notes
    assert "keeps what was measured before with --alpha" in kept[0]
    with pytest.raises(ItmkitError, match="--alpha: weighs one of two members against the other, and run vsepp has 1"):
        evaluate(workspace, ["vsepp"], wanted=wanted)
    with pytest.raises(ItmkitError, match="--alpha: a file of scores does not have those of each member"):
        evaluate_files(workspace, [tmp_path / "scores.h5"], wanted=wanted)


def test_what_cannot_be_evaluated(workspace: Workspace) -> None:
    with pytest.raises(ItmkitError, match="no such run, nor the folder of one; there are mpsm, vsepp"):
        evaluate(workspace, ["mspm"])
    with pytest.raises(ItmkitError, match="no run named"):
        evaluate(workspace, [])
    with pytest.raises(ItmkitError, match="--run vsepp: named twice"):
        evaluate(workspace, ["vsepp", "mpsm", "vsepp"])
    with pytest.raises(ItmkitError, match="no such split or protocol"):
        evaluate(workspace, ["vsepp"], split="tset")
    with pytest.raises(ItmkitError, match="coco5k: needs 5,000 images"):
        evaluate(workspace, ["vsepp"], split="coco5k")
    (workspace.run("vsepp") / "best-global.safetensors").unlink()
    with pytest.raises(ItmkitError, match=r"best-global\.safetensors: no such file; run `itmkit train`"):
        evaluate(workspace, ["vsepp"])


def test_stale_caches_are_refused(workspace: Workspace) -> None:
    text = workspace.dataset_path.read_text()
    workspace.dataset_path.write_text(text.replace("there", "here"))
    with pytest.raises(ItmkitError, match=r"caches/text is stale .*run `itmkit parse-text --force`"):
        evaluate(workspace, ["vsepp"])


def test_a_saved_matrix_evaluates_to_the_same(workspace: Workspace, tmp_path: Path) -> None:
    file, other = tmp_path / "mpsm.h5", tmp_path / "vsepp.h5"
    mpsm, vsepp = evaluate(workspace, ["mpsm"], save=file), evaluate(workspace, ["vsepp"], save=other)
    again = evaluate_files(workspace, [file])
    assert again.rows[0].kind == "scores of a file" and again.rows[0].result == mpsm.rows[-1].result
    assert (again.images, again.captions, again.left_out) == (5, 10, 1)
    both = evaluate_files(workspace, [file, other], save=tmp_path / "mean.h5")
    assert [row.result for row in both.rows[:2]] == [mpsm.rows[-1].result, vsepp.rows[0].result]
    assert both.rows[2].kind == "mean of 2 files"
    assert both.rows[2].result == evaluate(workspace, ["mpsm", "vsepp"]).rows[-1].result
    assert evaluate_files(workspace, [tmp_path / "mean.h5"]).rows[0].result == both.rows[2].result


def test_saving_scores_destroys_no_other_file(workspace: Workspace, tmp_path: Path) -> None:
    before = workspace.dataset_path.read_bytes()
    for other in (workspace.dataset_path, workspace.root, workspace.cache("regions") / "shard-00000.h5"):
        with pytest.raises(ItmkitError, match=r"is there already and is not a file of scores|is a folder"):
            evaluate(workspace, ["vsepp"], save=other)
    assert workspace.dataset_path.read_bytes() == before
    file = tmp_path / "scores.h5"
    file.write_text("something else")
    evaluate(workspace, ["vsepp"], save=file, force=True)
    evaluate(workspace, ["vsepp"], save=file)  # over scores
    with pytest.raises(ItmkitError, match="is one of the files of --scores"):
        evaluate_files(workspace, [file], save=file)


def test_a_disk_that_is_full_of_scores(tmp_path: Path) -> None:
    path, scores = tmp_path / "scores.h5", InMemory(np.ones((200, 100), np.float32))
    with largest_file(20_000), pytest.raises(OSError, match="scores.h5"):
        save_scores(path, scores, list(map(str, range(200))), list(map(str, range(100))), "a test")
    assert list(tmp_path.iterdir()) == []
    save_scores(path, scores, list(map(str, range(200))), list(map(str, range(100))), "a test")
    assert ScoreFile(path).shape == (200, 100)


def test_a_saved_matrix_in_folds(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "tiny", Protocol("tiny", "train", 12, 4, "four folds of three"))
    with pytest.raises(ItmkitError, match=r"--save-scores: tiny compares within 4 folds only.*--split train"):
        evaluate(workspace, ["vsepp"], split="tiny", save=tmp_path / "s.h5")
    evaluate(workspace, ["vsepp"], split="train", save=tmp_path / "s.h5")
    found = evaluate_files(workspace, [tmp_path / "s.h5"], split="tiny").rows[0].result
    assert found.rsum == pytest.approx(evaluate(workspace, ["vsepp"], split="tiny").rows[0].result.rsum)
    with pytest.raises(ItmkitError, match="has scores of none of the 6 images of split 'val'"):
        evaluate_files(workspace, [tmp_path / "s.h5"], split="val")

"""Methods that train in several stages, and one that does not train at all, through the whole loop."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from itmkit.commands.console import run
from itmkit.commands.train import command
from itmkit.dataset import write_dataset
from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.runs.settings import RunConfig, resolve
from itmkit.status import status
from itmkit.training import epochs as loop
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.test_resume import interrupt, results
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace

WAYS: dict[str, dict[str, Any]] = {
    "frozen words": {"words": "bert"},
    "learned words": {},
    "pooled": {"inputs": "pooled"},
    "joint": {"text_epochs": 0, "image_epochs": 0, "freeze_encoders": False},
}
STEPS = 3  # 24 captions in batches of 8, an epoch of each stage


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("rich") / "work", tags=True, words=True, vectors=True).root


@pytest.fixture
def workspace(rich: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(rich, tmp_path / "work")
    return Workspace(tmp_path / "work")


def configured(way: str = "frozen words", **settings: Any) -> RunConfig:
    plain = {**FAST["scl"], **FAST_TRAINING, "epochs": 1, "captions_per_image": 2, "checkpoint_steps": 2}
    return resolve("scl", settings=plain | {"dropout": 0.2, "warmup_steps": 0} | WAYS[way] | settings)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(rich: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    found = {}
    for way in ("frozen words", "pooled"):
        root = tmp_path_factory.mktemp("undisturbed") / "work"
        shutil.copytree(rich, root)
        found[way] = results(train(Workspace(root), configured(way)).run)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_every_stage_is_trained_and_the_last_one_validated(way: str, workspace: Workspace) -> None:
    result = train(workspace, configured(way))
    lines = lines_of(result.run)
    if way == "joint":
        assert len(lines) == 1
    else:
        assert [line.get("stage") for line in lines] == ["text", "image", None]
        assert all(line["global"]["loss"] > 0 and "rsum" not in line["global"] for line in lines[:2])
    assert result.epochs == len(lines) and result.best["global"]["epoch"] == len(lines)
    assert 0 <= lines[-1]["global"]["rsum"] <= 600
    (row,) = evaluate(workspace, ["scl"], split="val").rows
    assert row.result.rsum == pytest.approx(result.best["global"]["rsum"])


@pytest.mark.parametrize("way", ["frozen words", "pooled"])
def test_tags_of_regions_say_what_is_alike_beside_any_cache(way: str, workspace: Workspace, tmp_path: Path) -> None:
    """Labels that no two images share: without tags, other weights of the image stage."""
    records = [replace(image, labels=(str(n),)) for n, image in enumerate(workspace.dataset().images)]
    write_dataset(workspace.dataset_path, records, kind="made", settings={})
    weights = {}
    for by in ("labels", "tags"):
        folder = train(workspace, configured(way, alike_by=by, label_overlap=0.3), run=by).run
        assert ("regions" in json.loads((folder / "run.json").read_text())["caches"]) or by == "labels"
        weights[by] = (folder / "best-global.safetensors").read_bytes()
    assert weights["labels"] != weights["tags"]
    # Scores need no tags.
    other = make_workspace(tmp_path / "other", words=True, vectors=True)
    if way == "pooled":
        shutil.rmtree(other.cache("regions"))
        assert evaluate(other, [str(workspace.run("tags"))]).rows
    plain = make_workspace(tmp_path / "plain", words=True, vectors=True)
    with pytest.raises(ItmkitError, match="its regions have no tags, which --alike-by tags reads"):
        train(plain, configured(way, alike_by="tags"))


@pytest.mark.parametrize("way", ["frozen words", "pooled"])
def test_labels_reach_the_text_stage(way: str, workspace: Workspace) -> None:
    records = [replace(image, labels=(str(n % 2),)) for n, image in enumerate(workspace.dataset().images)]
    write_dataset(workspace.dataset_path, records, kind="made", settings={})
    losses = []
    for kind in ("image", "labels"):
        (text, *_) = lines_of(train(workspace, configured(way, text_positives=kind), run=kind).run)
        losses.append(text["global"]["loss"])
    assert abs(losses[1] - losses[0]) > 0.05
    train(workspace, configured(way, text_positives="labels", captions_per_image=1))  # no two of one image needed


def test_a_run_with_other_labels_is_not_continued(workspace: Workspace) -> None:
    """Unless the labels are of images that are not trained on, or nothing reads them."""

    def label(split: str, each: str) -> None:
        records = [replace(i, labels=(each,)) if i.split == split else i for i in workspace.dataset().images]
        write_dataset(workspace.dataset_path, records, kind="made", settings={})

    label("train", "a")
    config = configured("pooled")
    run = train(workspace, config).run
    train(workspace, configured("joint"), run="joint")
    label("test", "b")
    assert train(workspace, config).did_nothing
    label("train", "b")
    with pytest.raises(ItmkitError, match="the labels of the training images have changed"):
        train(workspace, config)
    assert train(workspace, configured("joint"), run="joint").did_nothing
    facts = json.loads((run / "run.json").read_text())
    del facts["labels"]  # as an older version wrote it
    (run / "run.json").write_text(json.dumps(facts))
    assert train(workspace, config).did_nothing


@pytest.mark.parametrize("backup", [True, False])
def test_a_finished_stage_is_left_alone(backup: bool, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved after each epoch: a stage changes its own weights, and no others."""
    states: list[dict[str, Tensor]] = []
    real = loop.save_state

    def kept(path: Path, members: dict[str, torch.nn.Module], *rest: Any) -> None:
        states.append({name: value.clone() for name, value in members["global"].state_dict().items()})
        real(path, members, *rest)

    monkeypatch.setattr(loop, "save_state", kept)
    train(workspace, configured(backup=backup, checkpoint_steps=100, backup_decay=0.5))
    assert len(states) == 3
    for before, after, moves in (
        (states[0], states[1], ("encoders.image.", "backups.image.")),
        (states[1], states[2], ("maps.",)),
    ):
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {name for name in before if name.startswith(moves)}
    assert any(name.startswith("backups.") for name in states[0]) == backup


# Where stages meet, and within each; what else may happen to a run is in `test_resume.py`.
MOMENTS = [
    ("step", 3, False),  # within the text stage, after a saved state
    ("save_state", 2, False),  # the text stage is done, but its state not saved
    ("save_state", 2, True),  # between two stages
    ("step", STEPS + 3, False),  # within the image stage
    ("save_state", 4, True),
    ("step", 2 * STEPS + 3, False),  # within the last stage
]


@pytest.mark.parametrize(
    ("way", "name", "call", "after"),
    [*(("frozen words", *moment) for moment in MOMENTS), *(("pooled", *moment) for moment in MOMENTS[2:4])],
)
def test_a_run_killed_in_any_stage_ends_like_an_undisturbed_one(
    way: str,
    name: str,
    call: int,
    after: bool,
    workspace: Workspace,
    undisturbed: dict[str, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, name, call, after=after)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured(way))
    assert results(train(workspace, configured(way)).run) == undisturbed[way]


def test_a_cache_of_patches_may_have_any_name(workspace: Workspace) -> None:
    with pytest.raises(ItmkitError, match=r"missing: run `itmkit extract-patches --cache dinov2 --model MODEL`"):
        train(workspace, configured(images="dinov2"))
    with pytest.raises(ItmkitError, match=r"--captions-per-image 1: the text stage"):
        configured(captions_per_image=1)


# --- dual: nothing to train ---


def dual(**settings: Any) -> RunConfig:
    return resolve("dual", settings={**FAST["dual"], **settings})


def test_dual_is_scored_and_not_trained(workspace: Workspace) -> None:
    result = train(workspace, dual())
    assert result.epochs == 0 and result.best["global"]["epoch"] == 0 and not result.did_nothing
    assert result.config.matcher.vectors_cache == "tiny"
    (line,) = lines_of(result.run)
    assert line["epoch"] == 0 and line["global"]["rsum"] == result.best["global"]["rsum"] > 450  # chance: 383
    rows = evaluate(workspace, ["dual"], split="val").rows
    assert [row.name for row in rows] == ["dual"] and rows[0].result.rsum == pytest.approx(line["global"]["rsum"])
    assert train(workspace, dual()).did_nothing
    (state,) = [row for row in status(workspace) if row.stage == "run dual"]
    assert state.state == "done" and state.detail.startswith("dual, recipe small, 0 of 0 epochs, best val rsum")


@pytest.mark.parametrize(
    ("name", "call", "after"), [("save_weights", 1, True), ("write", 1, True), ("write", 1, False)]
)
def test_dual_interrupted(
    name: str, call: int, after: bool, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = results(train(workspace, dual()).run)
    with monkeypatch.context() as patch:
        interrupt(patch, name, call, after=after)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, dual(), force=True)
    assert results(train(workspace, dual()).run) == plain


def test_dual_says_what_it_did(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-w", str(workspace.root), "--method", "dual"]
    assert run(command, arguments) == 0
    told = capsys.readouterr()
    assert "dual has nothing to train: val rsum global" in told.err and "val rsum" in told.out
    assert run(command, [*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["epochs"] == 0 and record["best"]["global"]["epoch"] == 0
    shutil.rmtree(workspace.cache("vectors-tiny/texts"))
    assert run(command, [*arguments, "--run", "other"]) == 2
    assert "run `itmkit embed --cache tiny`" in " ".join(capsys.readouterr().err.split())


def test_dual_scores_what_scl_begins_with(workspace: Workspace) -> None:
    """The last stage of SCL on pooled vectors, not taught anything, has dual's ranks."""
    settings = {"text_epochs": 0, "image_epochs": 0, "learning_rate": 1e-12, "embed": 16}
    begun = train(workspace, configured("pooled", **settings)).best["global"]["rsum"]
    assert begun == pytest.approx(train(workspace, dual()).best["global"]["rsum"])

from __future__ import annotations

import json
import math
import re
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from itmkit import matchers
from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.inputs import Sizes
from itmkit.matchers import vsepp
from itmkit.progress import SILENT, Advance
from itmkit.runs.checkpoint import load_state, load_weights, save_weights
from itmkit.runs.settings import RunConfig, resolve
from itmkit.scoring.metrics import retrieval
from itmkit.training import feeding, step
from itmkit.training.collapse import CollapseWatch, advice
from itmkit.training.train import TrainResult, train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace


def configured(method: str = "mpsm", **settings: Any) -> RunConfig:
    return resolve(method, settings={**FAST[method], **FAST_TRAINING} | settings)


class Notes:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps = 0

    def task(
        self, description: str, total: int | None = None, *, done: int = 0, unit: str = ""
    ) -> AbstractContextManager[Advance]:
        return SILENT.task(description, total)

    def note(self, text: str) -> None:
        self.notes.append(text)


# --- what a run leaves behind ---


@dataclass
class Finished:
    workspace: Workspace
    result: TrainResult
    notes: Notes


@pytest.fixture(scope="module")
def finished(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """A run of each of two methods. Tests only read."""
    workspace = Workspace(tmp_path_factory.mktemp("finished") / "work")
    shutil.copytree(template, workspace.root)
    found = {}
    for method in ("mpsm", "vsepp"):
        notes = Notes()
        result = train(workspace, configured(method, minimum_count=4), progress=notes)
        found[method] = Finished(workspace, result, notes)
    return found


@pytest.mark.parametrize("method", ["mpsm", "vsepp"])
def test_files_of_a_run(method: str, finished: dict[str, Finished]) -> None:
    workspace, result, notes = vars(finished[method]).values()
    assert result.run == workspace.run(method) and result.epochs == 3 and not result.did_nothing
    members = ["distance", "direction"] if method == "mpsm" else ["global"]
    assert sorted(path.name for path in result.run.iterdir()) == sorted(
        [
            ".lock",
            "config.toml",
            "made",
            "run.json",
            "metrics.jsonl",
            "vocabulary.json",
            "last",
            *(f"best-{m}.safetensors" for m in members),
        ]
    )
    facts = json.loads((result.run / "run.json").read_text())
    assert facts["finished"] and facts["epochs_done"] == 3 and list(facts["members"]) == members
    assert set(facts["caches"]) == set(matchers.method(method).needs(matchers.method(method).Config()).caches)
    lines = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert sum(note.startswith("epoch ") for note in notes.notes) == 3
    for line in lines:
        assert line["validation_images"] == 6 and line["collapsed"] == [] and line["pairs_per_second"] > 0
        assert line["learning_rate"] == 0.01
        for member in members:
            assert math.isfinite(line[member]["loss"]) and 0 <= line[member]["rsum"] <= 600
            assert set(line[member]["t2i"]) == {"R@1", "R@5", "R@10", "medr", "meanr"}
        assert ("ensemble" in line) == (len(members) > 1)
    for member in members:
        best = max(lines, key=lambda line: line[member]["rsum"])  # the first of equals
        assert result.best[member] == {"epoch": best["epoch"], "rsum": best[member]["rsum"]}


def test_best_weights_score_what_the_metrics_say(finished: dict[str, Finished]) -> None:
    mpsm = finished["mpsm"]
    rows = {row.name: row.result for row in evaluate(mpsm.workspace, ["mpsm"], split="val").rows}
    for member, best in mpsm.result.best.items():
        assert rows[f"mpsm/{member}"].rsum == pytest.approx(best["rsum"])


def test_vocabulary_is_that_of_the_training_captions(finished: dict[str, Finished]) -> None:
    workspace = finished["mpsm"].workspace
    words = json.loads((workspace.run("mpsm") / "vocabulary.json").read_text())["word2idx"]
    counted: dict[str, int] = {}
    for image in workspace.dataset().split("train"):
        for caption in image.captions:
            for word in caption.text.split():
                counted[word] = counted.get(word, 0) + 1
    assert min(counted.values()) < 4  # something is left out
    often = {word for word, count in counted.items() if count >= 4}
    assert often == set(words) - {"<pad>", "<start>", "<end>", "<unk>"}


def test_negatives_and_learning_rate_follow_the_plan(workspace: Workspace) -> None:
    settings = {"negatives": "hardest", "warmup_epochs": 2, "epochs": 4, "decay_epoch": 3, "validation_images": 4}
    run = train(workspace, configured("vsepp", **settings)).run
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["negatives"] for line in lines] == ["all", "all", "hardest", "hardest"]
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.01, 0.01, 0.01, 0.001])
    assert {line["validation_images"] for line in lines} == {4}


def test_a_member_trained_alone_is_the_one_trained_beside_the_other(workspace: Workspace) -> None:
    both = train(workspace, configured(dropout=0.3, epochs=1), run="both")
    for member in ("distance", "direction"):
        alone = train(workspace, configured(dropout=0.3, epochs=1, similarities=member), run=member)
        name = f"best-{member}.safetensors"
        beside, by_itself = (load_file(run / name) for run in (both.run, alone.run))  # the headers name the runs
        assert beside.keys() == by_itself.keys() and all(torch.equal(beside[key], by_itself[key]) for key in beside)
        assert both.best[member] == alone.best[member]


def test_two_runs_are_the_same_and_another_seed_is_not(workspace: Workspace) -> None:
    weights = [
        (
            train(workspace, configured("vsepp", epochs=1, seed=seed), run=name).run / "best-global.safetensors"
        ).read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert weights[0] == weights[1] != weights[2]


# --- what stops a run ---


def test_stale_and_missing_caches_are_refused_with_the_command_to_run(workspace: Workspace) -> None:
    shutil.rmtree(workspace.cache("graphs/texts"))
    lines = workspace.dataset_path.read_text()
    workspace.dataset_path.write_text(lines.replace("there", "here"))
    with pytest.raises(ItmkitError) as error:
        train(workspace, configured())
    told = "\n".join(error.value.problems)
    assert re.search(r"caches/text is stale \(captions changed since\): run `itmkit parse-text --force`", told)
    assert re.search(r"caches/graphs/texts is missing: run `itmkit build-graphs --only texts`", told)
    assert len(error.value.problems) == 2 and not (workspace.root / "runs").exists()


def test_a_run_on_other_caches_is_not_continued(workspace: Workspace) -> None:
    run = train(workspace, configured("vsepp", epochs=1)).run
    facts = json.loads((run / "run.json").read_text())
    facts["caches"]["regions"], facts["captions"] = "0" * 8, "0" * 8
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ItmkitError, match="cache regions has changed") as error:
        train(workspace, configured("vsepp", epochs=1))
    assert "the captions have changed" in str(error.value) and "--force" in error.value.problems[-1]
    with pytest.raises(ItmkitError, match=r"--run vsepp: trained on other caches \(regions changed since\)"):
        evaluate(workspace, ["vsepp"], split="val")


def test_features_that_are_no_numbers_name_the_image(workspace: Workspace) -> None:
    with h5py.File(workspace.cache("regions") / "shard-00000.h5", "r+") as file:
        file["features"][3, 0, 0] = np.nan
    (workspace.cache("regions") / "manifest.json").touch()  # not changed since, as far as the reader can tell
    with pytest.raises(ItmkitError, match="the features of image 'image03' hold NaN"):
        train(workspace, configured())


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("many"), train=24, val=2, test=1).root


@pytest.fixture
def collapsing(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """VSE++ that gives every pair the same score from its second epoch on; an epoch has 24 steps."""
    real, seen = vsepp.Matcher.views, 0

    def views(self: Any, images: dict[str, torch.Tensor], texts: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        nonlocal seen
        seen += 1
        found = real(self, images, texts)
        return found if seen <= 24 else tuple(view * 0 + 0.5 for view in found)

    monkeypatch.setattr(vsepp.Matcher, "views", views)
    shutil.copytree(many, tmp_path / "collapsing")
    return Workspace(tmp_path / "collapsing")


@pytest.mark.parametrize(
    ("settings", "way_out"),
    [
        ({"negatives": "hardest", "warmup_epochs": 1}, "--negatives soft"),
        ({"negatives": "hardest", "warmup_epochs": 2}, "lower --learning-rate, or train with --negatives soft"),
    ],
    ids=str,
)
def test_a_collapse_is_noticed_within_an_epoch(settings: dict[str, Any], way_out: str, collapsing: Workspace) -> None:
    with pytest.raises(ItmkitError, match="member 'global' has collapsed in epoch 2") as error:
        train(collapsing, configured("vsepp", batch_size=2, **settings))
    assert way_out in str(error.value) and "--stop-on-collapse false" in str(error.value)
    lines = (collapsing.run("vsepp") / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["collapsed"] for line in lines] == [[], ["global"]]


def test_a_collapse_can_be_waved_through(collapsing: Workspace) -> None:
    notes = Notes()
    config = configured("vsepp", batch_size=2, epochs=3, stop_on_collapse=False)
    assert train(collapsing, config, progress=notes).epochs == 3
    assert sum("has collapsed" in note for note in notes.notes) == 2


def test_when_a_collapse_is_one() -> None:
    """Equal scores and a loss that rests at their price, for an epoch or a hundred steps in a row."""
    equal, spread = torch.full((3, 6), 0.5), torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    watch = CollapseWatch()
    watch.step(spread, 2.4, 2.4)  # the loss may pass that value on its way
    assert watch.count == 0
    for _ in range(30):
        watch.step(equal, 2.4, 2.4)
    assert watch.collapsed(30) and not watch.collapsed(31)
    assert not CollapseWatch(19).collapsed(1)  # an epoch of few steps says nothing
    watch.step(equal, 1.2, 2.4)
    assert watch.count == 0
    for _ in range(100):
        watch.step(equal, 2.4, 2.4)
    assert watch.collapsed(5000) and CollapseWatch(watch.count).collapsed(5000)


def test_what_is_said_of_a_collapse() -> None:
    """With hardest negatives it may be a plateau, so the recipes of the papers go on."""
    assert "--negatives soft" in advice("global", 2, "all")
    assert "lower --learning-rate" in advice("global", 2, "soft")
    told = advice("distance", 2, "hardest")
    assert "may end by itself after several epochs (7 to 13" in told and "--warmup-epochs" in told
    assert "7 to 13" not in advice("distance", 2, "soft")
    for name in ("sgraf", "mpsm", "scan", "mefn"):
        assert not any(resolve(name, recipe=recipe).training.stop_on_collapse for recipe in ("paper", "coco"))
        assert resolve(name).training.stop_on_collapse


def test_a_member_that_never_told_pairs_apart_has_more_time() -> None:
    """A healthy matcher begins with equal scores too."""
    equal, watch = torch.full((3, 6), 0.5), CollapseWatch()
    for _ in range(119):
        watch.step(equal, 2.4, 2.4)
    assert not watch.collapsed(3)
    watch.step(equal, 2.4, 2.4)
    assert watch.collapsed(3)


def test_a_loss_that_is_not_finite_stops_the_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second epoch, first step; every state before it is kept."""
    steps_of_first_epoch = 3
    real, seen = feeding.pair_batch, 0

    def spoiled(inputs: Any, captions: np.ndarray, **ways: Any) -> Any:
        nonlocal seen
        seen += 1
        batch = real(inputs, captions, **ways)
        if seen == steps_of_first_epoch + 1:
            batch.images.features[0] = torch.inf
            spoiled_ids.extend(sorted({inputs.images[k].id for k in inputs.image_of[captions]}))
        return batch

    spoiled_ids: list[str] = []
    monkeypatch.setattr(feeding, "pair_batch", spoiled)
    with pytest.raises(ItmkitError, match=r"the loss of member 'global' is not finite in epoch 2, step 0") as error:
        train(workspace, configured("vsepp"))
    run = workspace.run("vsepp")
    told = json.loads((run / "not-finite.json").read_text())
    assert told == {"member": "global", "what": "loss", "epoch": 2, "step": 0, "images": spoiled_ids}
    assert str(run / "not-finite.json") in str(error.value) and "--learning-rate" in str(error.value)
    matcher = vsepp.Matcher(
        vsepp.Config(**FAST["vsepp"]), member="global", sizes=Sizes(feature=8, vocabulary=_words(run))
    )
    facts = load_state(run / "last" / "state.safetensors", {"global": matcher}, torch.optim.Adam(matcher.parameters()))
    assert (facts["epoch"], facts["step"]) == (1, 0)
    assert all(torch.isfinite(value).all() for value in matcher.state_dict().values())


def _words(run: Path) -> int:
    return len(json.loads((run / "vocabulary.json").read_text())["word2idx"])


def test_a_gradient_that_is_not_finite_stops_the_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss may be finite and its gradient not: no step is taken, no state saved."""

    def rooted(scores: torch.Tensor, image_of: torch.Tensor, **settings: Any) -> torch.Tensor:
        return (scores * 0).sum().sqrt()  # 0, with an infinite slope

    monkeypatch.setattr(step, "triplet_loss", rooted)
    with pytest.raises(ItmkitError, match=r"the gradient of member 'global' is not finite in epoch 1, step 0"):
        train(workspace, configured("vsepp", checkpoint_steps=1))
    assert not (workspace.run("vsepp") / "last" / "state.safetensors").exists()


# --- weights ---


def test_files_that_hold_no_weights_of_this_matcher(workspace: Workspace, tmp_path: Path) -> None:
    config = vsepp.Config(**FAST["vsepp"])
    matcher = vsepp.Matcher(config, member="global", sizes=Sizes(feature=8, vocabulary=9))
    path = tmp_path / "weights.safetensors"
    save_weights(path, matcher, {"epoch": 3})
    assert load_weights(path, matcher) == {"epoch": 3}
    other = vsepp.Matcher(config, member="global", sizes=Sizes(feature=8, vocabulary=10))
    with pytest.raises(
        ItmkitError, match=r"does not hold the weights of this configuration \(words.embedding.weight\)"
    ):
        load_weights(path, other)
    with pytest.raises(ItmkitError, match="run `itmkit train` first"):
        load_weights(tmp_path / "nothing", matcher)
    torch.save(matcher.state_dict(), path)
    with pytest.raises(ItmkitError, match="not weights written by itmkit"):
        load_weights(path, matcher)


def test_validation_uses_the_ranks_of_the_metrics(finished: dict[str, Finished]) -> None:
    """rsum of metrics.jsonl is that of `retrieval` on the scores of the validation split."""
    from itmkit.inputs import Inputs
    from itmkit.runs.open import open_run
    from itmkit.scoring.matrix import score_matrix

    workspace, result = finished["vsepp"].workspace, finished["vsepp"].result
    opened = open_run(workspace, "vsepp", device=torch.device("cpu"))
    inputs = Inputs(workspace, workspace.dataset().split("val"), opened.vocabulary, opened.needs)
    scores = score_matrix(opened.members, inputs)["global"]
    assert retrieval(scores, inputs.image_of).rsum == pytest.approx(result.best["global"]["rsum"])

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from itmkit.errors import ItmkitError
from itmkit.matchers import Parameters, Stage
from itmkit.runs.settings import resolve
from itmkit.studies import compare
from itmkit.training import estimate as module
from itmkit.training.estimate import Estimate, StageEstimate, estimate
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING


@pytest.mark.parametrize(("name", "workers"), [("mpsm", 1), ("scl", 0)])
def test_of_a_few_steps(name: str, workers: int, workspace: Workspace) -> None:
    settings = {**FAST[name], **FAST_TRAINING, "workers": workers, "ema": 0.9, "captions_per_image": 2}
    if name == "scl":
        settings |= {"words": "learned", "images": "regions"}
    config = resolve(name, settings=settings)
    found = estimate(workspace, config)
    assert not (workspace.root / "runs").exists()  # nothing is written
    assert [(stage.name, stage.epochs) for stage in found.stages] == [(s.name, s.epochs) for s in config.stages]
    assert all(
        stage.step > 0 < stage.core and 0 <= stage.waiting < 1 and stage.pairs_per_second > 0 for stage in found.stages
    )
    assert found.steps == 3 and found.memory > 50e6 and found.validation > 0 < found.validation_core
    run = train(workspace, resolve(name, settings={**settings, "epochs": 1, "workers": 0})).run
    for member, count in found.parameters.items():
        stored = load_file(run / f"best-{member}.safetensors")
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        stored = {key: value for key, value in stored.items() if not key.endswith(statistics)}
        slow = sum(value.numel() for key, value in stored.items() if key.startswith("backups."))
        assert bool(slow) == (name == "scl")
        assert count.trained == count.scoring == sum(value.numel() for value in stored.values()) - slow


def test_what_stays_as_it_begins_is_not_trained(workspace: Workspace) -> None:
    """In a dry run and in the table of a comparison. Adam has moments of it all the same."""
    config = resolve("vsepp", settings={**FAST["vsepp"], **FAST_TRAINING, "epochs": 1, "text_rate": 0})
    found = estimate(workspace, config)
    stored = load_file(train(workspace, config).run / "best-global.safetensors")
    counts = {part: sum(v.numel() for k, v in stored.items() if k.startswith(part)) for part in ("regions", "words")}
    assert found.parameters["global"] == compare._parameters(workspace, "vsepp")
    assert found.parameters["global"] == Parameters(trained=counts["regions"], scoring=sum(counts.values()))
    assert found.disk == 4 * 4 * sum(counts.values())  # weights, best weights and two moments


def test_the_longest_captions_are_tried(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = module.Learner.step

    def step(self, batch, *args, **keywords):  # type: ignore[no-untyped-def]
        seen.append(batch.texts.mask.shape[1])
        return real(self, batch, *args, **keywords)

    monkeypatch.setattr(module.Learner, "step", step)
    estimate(workspace, resolve("vsepp", settings={**FAST["vsepp"], **FAST_TRAINING, "batch_size": 2}))
    images = workspace.dataset().split("train")
    assert seen[0] == max(len(caption.text.split()) for image in images for caption in image.captions)


@pytest.mark.parametrize(("name", "tries"), [("scan", ["hardest", "all"]), ("vsepp", ["hardest"])])
def test_a_warm_up_on_all_negatives_is_tried_where_it_takes_longer(
    name: str, tries: list[str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = module.Learner.step

    def step(self, batch, stage, negatives, *args, **keywords):  # type: ignore[no-untyped-def]
        seen.append(negatives)
        return real(self, batch, stage, negatives, *args, **keywords)

    monkeypatch.setattr(module.Learner, "step", step)
    settings = {**FAST[name], **FAST_TRAINING, "negatives": "hardest", "warmup_epochs": 2, "epochs": 5}
    (stage,) = estimate(workspace, resolve(name, settings=settings), steps=2).stages
    assert list(dict.fromkeys(seen)) == tries
    assert stage.warmup_epochs == (2 if "all" in tries else 0) and bool(stage.warmup_core) == ("all" in tries)


def test_missing_caches_are_told_as_by_training(workspace: Workspace) -> None:
    shutil.rmtree(workspace.cache("regions"))
    with pytest.raises(ItmkitError, match="caches/regions is missing"):
        estimate(workspace, resolve("vsepp", settings=FAST["vsepp"]))


def test_sums() -> None:
    stages = [StageEstimate("text", 2, 0.5, 2.0, 0.0, 10.0), StageEstimate("shared", 3, 1.0, 3.0, 0.0, 10.0)]
    found = Estimate("cpu", "float32", {"m": Parameters(trained=5, scoring=7)}, 10, stages, 4.0, 5.0, 100, 200)
    assert found.epoch == 14 and found.seconds == 2 * 5 + 3 * 14
    assert found.core_seconds == 2 * 20 + 3 * 35
    assert replace(found, stages=stages[:1]).epoch == 9
    warm = replace(found, stages=[stages[0], replace(stages[1], warmup_epochs=2, warmup_step=2.0, warmup_core=5.0)])
    assert warm.seconds == found.seconds + 2 * 10 and warm.core_seconds == found.core_seconds + 2 * 20
    once = warm.for_stages([Stage("text", 2), Stage("shared", 1)])  # ends before the warm-up
    assert once.seconds == 2 * 5 + 20 + 4 and once.core_seconds == 2 * 20 + 50 + 5
    assert found.to_json()["parameters"] == {"m": {"trained": 5, "scoring": 7}}
    assert found.to_json()["seconds"] == found.seconds and found.to_json()["stages"][0]["name"] == "text"

"""The gradients of a batch are the same whole, in parts, and shared by two processes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from itmkit.cache import WHOLE, Part
from itmkit.inputs import Inputs, Sizes
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import build, method, preset
from itmkit.matchers.parts.losses import triplet_loss
from itmkit.matchers.parts.pooling import MeanQueryPooling
from itmkit.training.batches import pair_batch
from itmkit.training.gradients import add_gradients
from itmkit.training.together import add_up, processes
from itmkit.workspace import Workspace
from tests.training.processes import run_two
from tests.training.tiny import FAST, FEATURES, GRAPHS, THINGS, make_workspace

VOCABULARY = Vocabulary.build([*THINGS, "a", "left"], minimum=1)
CPU = torch.device("cpu")
# Dropout is drawn part by part, so it must be out of the way to compare.
SETTINGS: dict[str, dict[str, Any]] = {
    "mpsm": {"dropout": 0.0},
    "sgraf": {"sgr_dropout": 0.0, "saf_dropout": 0.0},
    "scan": {},
    "mefn": {"words": "gru", "mfe_weight": 0.5},
    "cmfg": {"words": "gru"},
    "vsepp": {},
    "scl": {"words": "learned", "images": "regions", "dropout": 0.0},
}


def matchers(name: str, **more: Any) -> dict[str, nn.Module]:
    settings: dict[str, Any] = {**preset(name), **FAST[name], **SETTINGS[name], **more}
    config = method(name).Config(**settings)
    built = build(name, config, sizes=Sizes(feature=FEATURES, vocabulary=len(VOCABULARY)), seed=0)
    for module in (module for matcher in built.values() for module in matcher.modules()):
        if isinstance(module, MeanQueryPooling) and module.published:
            module.dropout.p = 0.0
    return built


def gradients(
    name: str,
    workspace: Workspace,
    *,
    parts: int = 1,
    part: Part = WHOLE,
    global_negatives: bool = True,
    stage: str = "",
    **settings: Any,
) -> dict[str, Tensor]:
    """Of every weight, and the running statistics after the step; summed over the processes."""
    records = workspace.dataset().split("train")
    inputs = Inputs(workspace, records, VOCABULARY, replace(GRAPHS, images="regions"))
    captions = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:14].numpy()
    batch = pair_batch(inputs, captions, part=part, global_negatives=global_negatives)
    triplet = partial(triplet_loss, image_of=batch.image_of, margin=0.2, negatives="soft")
    found: dict[str, Tensor] = {}
    for member, matcher in matchers(name, **settings).items():
        matcher.double().train()  # float32 would leave open whether a difference is rounding
        sides = double(batch.images), double(batch.texts), batch.image_of
        ways: dict[str, Any] = {"seed": 3, "parts": parts, "together": batch.together}
        total = add_gradients(matcher, *sides, triplet, stage, **ways).total
        add_up(parameter.grad for parameter in matcher.parameters() if parameter.grad is not None)
        if batch.together is None:
            add_up([total])
        found[f"{member}: loss"] = total
        found |= {f"{member}: {key}": p.grad for key, p in matcher.named_parameters() if p.grad is not None}
        found |= {f"{member}: {key}": value for key, value in matcher.named_buffers() if "running" in key}
    return found


def double(batch: Any) -> Any:
    values = {key: value for key, value in vars(batch).items() if value is not None}
    return replace(batch, **{key: value.double() for key, value in values.items() if value.is_floating_point()})


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9, msg=key)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("gradients"))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_batch_encoded_in_parts_has_the_gradients_of_the_whole(name: str, workspace: Workspace) -> None:
    whole = gradients(name, workspace)
    assert any(value.abs().max() > 1e-3 for value in whole.values())
    for parts in (2, 5, 100):  # of 12 images at most, and 14 captions
        close(gradients(name, workspace, parts=parts), whole)


def test_dropout_is_the_same_both_times_a_part_is_encoded(workspace: Workspace) -> None:
    """Else the way back would not be that of the way there: twice the same call, twice the same gradients."""
    SETTINGS["vsepp"]["dropout"] = 0.5
    try:
        one, two = gradients("vsepp", workspace, parts=3), gradients("vsepp", workspace, parts=3)
    finally:
        SETTINGS["vsepp"].pop("dropout")
    for key, value in one.items():
        assert torch.equal(value, two[key])


PUBLISHED = {"pooling": "published"}
Ways = dict[str, tuple[str, dict[str, Any]]]  # what to compute, under a name: a method, and arguments of `gradients`


def _one_of_two(index: int, root: Path, ways: Ways) -> None:
    with processes(Part(index, 2), CPU):
        found = {key: gradients(name, Workspace(root), part=Part(index, 2), **own) for key, (name, own) in ways.items()}
        torch.save(found, root / f"{index}.pt")


@pytest.fixture(scope="module")
def by_two(workspace: Workspace) -> dict[str, dict[str, Tensor]]:
    """What two processes compute together, all in one pair of them: starting them takes longest."""
    ways: Ways = {name: (name, {}) for name in ("mpsm", "sgraf", "scan", "mefn", "scl")}
    ways["sgraf with published pooling"] = ("sgraf", PUBLISHED)
    ways |= {"mpsm in parts": ("mpsm", {"parts": 3}), "own negatives": ("vsepp", {"global_negatives": False})}
    assert run_two(_one_of_two, workspace.root, ways) == [0, 0]
    first, second = (torch.load(workspace.root / f"{index}.pt", weights_only=True) for index in range(2))
    for key, found in first.items():
        assert all(torch.equal(value, second[key][name]) for name, value in found.items())  # both take the same step
    return first  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["mpsm", "sgraf", "scan", "mefn", "scl", "mpsm in parts"])
def test_two_processes_with_all_negatives_have_the_gradients_of_one(
    way: str, workspace: Workspace, by_two: dict[str, dict[str, Tensor]]
) -> None:
    close(by_two[way], gradients(way.split()[0], workspace))


def test_published_pooling_has_one_set_of_statistics_for_two_processes(
    workspace: Workspace, by_two: dict[str, dict[str, Tensor]]
) -> None:
    found = by_two["sgraf with published pooling"]
    close(found, gradients("sgraf", workspace, **PUBLISHED))
    assert any("image_pooling.query_norm.running_mean" in key for key in found)


def test_without_them_each_process_compares_its_own(workspace: Workspace, by_two: dict[str, dict[str, Tensor]]) -> None:
    """The sum of the losses of the two halves, each a batch of its own."""
    inputs = Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, replace(GRAPHS, images="regions"))
    captions = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:14].numpy()
    halves = [pair_batch(inputs, captions, part=Part(index, 2)) for index in range(2)]
    assert sum(len(half.texts.mask) for half in halves) == 14 and halves[0].pairs == halves[1].pairs
    (matcher,) = matchers("vsepp").values()
    matcher.double().train()
    expected = torch.zeros((), dtype=torch.float64)
    for half in halves:
        triplet = partial(triplet_loss, image_of=half.image_of, margin=0.2, negatives="soft")
        sides = double(half.images), double(half.texts), half.image_of
        expected += add_gradients(matcher, *sides, triplet, "", seed=3).total
    found = by_two["own negatives"]
    torch.testing.assert_close(found["global: loss"], expected)
    for key, parameter in matcher.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[f"global: {key}"], parameter.grad, rtol=1e-9, atol=1e-9)

"""The gradients of a batch are the same whole and in parts. (Shared by two processes: `test_together.py`.)"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from itmkit.cache import WHOLE, Part
from itmkit.inputs import Inputs, Sizes
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import Encoded, build, method, pairs, preset
from itmkit.matchers.parts.losses import Negatives, triplet_loss
from itmkit.matchers.parts.pooling import MeanQueryPooling
from itmkit.training import few_pairs
from itmkit.training.batches import pair_batch
from itmkit.training.gradients import add_gradients
from itmkit.training.together import add_up
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FEATURES, GRAPHS, REGIONS, THINGS, make_workspace

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
    built = build(name, config, sizes=Sizes(feature=FEATURES, regions=REGIONS, vocabulary=len(VOCABULARY)), seed=0)
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
    negatives: Negatives = "soft",
    few: bool = False,
    **settings: Any,
) -> dict[str, Tensor]:
    """Of every weight, and the running statistics after the step; summed over the processes."""
    records = workspace.dataset().split("train")
    inputs = Inputs(workspace, records, VOCABULARY, replace(GRAPHS, images="regions"))
    captions = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:14].numpy()
    batch = pair_batch(inputs, captions, part=part, global_negatives=global_negatives)
    triplet = partial(triplet_loss, image_of=batch.image_of, margin=0.2, negatives=negatives)
    found: dict[str, Tensor] = {}
    for member, matcher in matchers(name, **settings).items():
        matcher.double().train()  # float32 would leave open whether a difference is rounding
        sides = double(batch.images), double(batch.texts), batch.image_of
        ways: dict[str, Any] = {"seed": 3, "parts": parts, "together": batch.together, "few": few}
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
    for parts in (3, 100):  # of 12 images at most, and 14 captions
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


@pytest.mark.parametrize("name", ["sgraf", "scan", "mefn", "cmfg", "mpsm"])
def test_pairs_that_do_not_count_need_no_gradients(
    name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradients of the hardest negatives are the same whether all pairs have gradients or those that count."""
    settings: dict[str, Any] = {"srgr": False} if name == "mpsm" else {}
    whole = gradients(name, workspace, negatives="hardest", **settings)
    compared = dict.fromkeys((True, False), 0)

    def pairs_counted(matcher: nn.Module, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        compared[torch.is_grad_enabled()] += len(images["mask"]) * len(texts["mask"])
        return pairs(matcher, images, texts)

    monkeypatch.setattr(few_pairs, "pairs", pairs_counted)
    monkeypatch.setattr(few_pairs, "TOGETHER", 1)
    for parts in (1, 3):
        close(gradients(name, workspace, negatives="hardest", few=True, parts=parts, **settings), whole)
    assert 0 < compared[True] < compared[False] / 2


def test_where_pairs_depend_on_each_other_all_have_gradients(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(few_pairs, "pairs")
    close(
        gradients("mpsm", workspace, negatives="hardest", few=True), gradients("mpsm", workspace, negatives="hardest")
    )


def test_a_batch_without_a_violation_has_no_gradients(workspace: Workspace) -> None:
    """Each image beside its own captions alone: there is no negative."""
    records = workspace.dataset().split("train")
    inputs = Inputs(workspace, records, VOCABULARY, replace(GRAPHS, images="regions"))
    batch = pair_batch(inputs, np.arange(1), part=WHOLE, global_negatives=False)
    triplet = partial(triplet_loss, image_of=batch.image_of, margin=0.2, negatives="hardest")
    (matcher, *_) = matchers("scan").values()
    found = add_gradients(matcher, batch.images, batch.texts, batch.image_of, triplet, "", seed=1, few=True)
    assert found.total == 0 and not any(parameter.grad.any() for parameter in matcher.parameters())

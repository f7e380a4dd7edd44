"""Encoders of words and of regions learn at their own rates: exactly as without them where a rate is 1."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.matchers import build
from itmkit.runs.settings import Training, resolve
from itmkit.training.rates import FACTOR, parameter_groups
from itmkit.workspace import Workspace
from tests.matchers.batches import SIZES
from tests.matchers.settings import config_of
from tests.training.test_step import floats, learner_of


def moved(workspace: Workspace, **settings: Any) -> dict[str, torch.Tensor]:
    """How far each weight of VSE++ goes in one step."""
    learner, step = learner_of(workspace, "vsepp", **settings)
    matcher = next(iter(learner.members.values()))
    before = floats(matcher)
    step(0)
    return {name: value - before[name] for name, value in floats(matcher).items()}


def test_a_part_moves_by_its_factor(workspace: Workspace) -> None:
    plain = moved(workspace)
    assert {name.partition(".")[0] for name in plain} == {"regions", "words"}
    slower = moved(workspace, text_rate=0.25, region_rate=2)
    for name, value in slower.items():
        factor = 0.25 if name.startswith("words") else 2
        torch.testing.assert_close(value, plain[name] * factor, atol=1e-6, rtol=1e-3)
    still = moved(workspace, text_rate=0)
    assert not any(value.any() for name, value in still.items() if name.startswith("words"))
    assert all(torch.equal(still[name], plain[name]) for name in plain if name.startswith("regions"))


@pytest.mark.parametrize("name", ["mpsm", "rcar", "laps"])
def test_each_parameter_is_in_one_group_and_with_rates_of_1_there_is_one(name: str) -> None:
    members = build(name, config_of(name), sizes=SIZES, seed=0)
    every = [parameter for matcher in members.values() for parameter in matcher.parameters()]
    (one,) = parameter_groups(members, Training())
    assert one[FACTOR] == 1 and all(a is b for a, b in zip(one["params"], every, strict=True))
    groups = parameter_groups(members, Training(text_rate=0.1, region_rate=0.5))
    assert {group[FACTOR] for group in groups} == {0.1, 0.5, 1.0}
    assert sorted(id(parameter) for group in groups for parameter in group["params"]) == sorted(map(id, every))


def test_a_method_without_such_encoders_says_so() -> None:
    members = build("scl", resolve("scl", settings={"embed": 8, "width": 8, "heads": 2}).matcher, sizes=SIZES, seed=0)
    with pytest.raises(ItmkitError) as error:
        parameter_groups(members, Training(text_rate=0.1, region_rate=2))
    assert [problem.partition(":")[0] for problem in error.value.problems] == ["--text-rate 0.1", "--region-rate 2"]

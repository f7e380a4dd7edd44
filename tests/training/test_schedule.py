from __future__ import annotations

import math
from itertools import pairwise

import pytest

from itmkit.matchers import Stage
from itmkit.runs.settings import Training
from itmkit.training.schedule import learning_rate, negatives_of, stage_of


def test_stages_one_after_the_other() -> None:
    stages = (Stage("text", 2), Stage("shared", 3))
    found = [stage_of(stages, epoch) for epoch in range(1, 6)]
    assert [(stage.name, within) for stage, within in found] == [
        ("text", 1), ("text", 2), ("shared", 1), ("shared", 2), ("shared", 3),
    ]  # fmt: skip
    with pytest.raises(ValueError):
        stage_of(stages, 6)


def test_the_learning_rate_rises_and_falls() -> None:
    settings = Training(learning_rate=1.0, warmup_steps=4, decay_epoch=2, decay=0.5)
    rates = [learning_rate(settings, epoch, step, epochs=5, steps=3) for epoch in range(1, 6) for step in range(3)]
    assert rates[:6] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rates[6:] == [0.5] * 6 + [0.25] * 3
    assert learning_rate(Training(learning_rate=0.1, decay_epoch=0), 1000, 0, epochs=1000, steps=3) == 0.1


def test_the_learning_rate_falls_to_zero_at_the_end() -> None:
    for schedule, half in (("linear", 0.5), ("cosine", 0.5)):
        settings = Training(learning_rate=1.0, schedule=schedule, decay_epoch=1)  # type: ignore[arg-type]
        rates = [
            learning_rate(settings, epoch, step, epochs=4, steps=50) for epoch in range(1, 5) for step in range(50)
        ]
        assert rates[0] == 1.0 and rates[100] == pytest.approx(half) and 0 < rates[-1] < 0.01
        assert all(later < earlier for earlier, later in pairwise(rates))
    straight, curved = (
        learning_rate(Training(learning_rate=1.0, schedule=schedule), 1, 25, epochs=1, steps=100)
        for schedule in ("linear", "cosine")
    )
    assert straight == 0.75 and curved == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    warming = Training(learning_rate=1.0, schedule="linear", warmup_steps=10)
    assert learning_rate(warming, 1, 4, epochs=1, steps=100) == pytest.approx(0.5 * 0.96)


def test_hardest_negatives_warm_up() -> None:
    assert [negatives_of(Training(warmup_epochs=2), epoch) for epoch in (1, 2, 3)] == ["all", "all", "hardest"]
    assert negatives_of(Training(negatives="soft", warmup_epochs=2), 1) == "soft"

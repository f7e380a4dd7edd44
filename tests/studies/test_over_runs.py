"""Intervals and tests of means over runs, against those of one run and against drawing images by hand."""

from __future__ import annotations

import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.scoring.metrics import QueryRanks
from itmkit.statistics.bootstrap import differences, intervals
from itmkit.studies.over_runs import FIGURES, mean_differences, mean_intervals


def drawn(seed: int, *, images: int = 120, hard: np.ndarray | None = None) -> list[QueryRanks]:
    """Ranks that depend on the image (`hard`) and on the seed."""
    random = np.random.default_rng(seed)
    image_of = np.repeat(np.arange(images), 3)
    hard = np.random.default_rng(99).gamma(1.0, 6.0, images) if hard is None else hard
    return [QueryRanks(random.poisson(hard), random.poisson(hard[image_of]), image_of)]


def test_one_run_has_the_intervals_of_evaluate() -> None:
    run, other = drawn(0), drawn(1)
    assert mean_intervals([run]) == {name: intervals(run)[name] for name in FIGURES}
    assert mean_differences([run], [other]) == {name: differences(run, other)[name] for name in FIGURES}


def test_the_same_run_three_times_is_no_more_certain() -> None:
    run, other = drawn(0), drawn(1)
    once, thrice = mean_intervals([run]), mean_intervals([run] * 3)
    apart, still = mean_differences([run], [other]), mean_differences([run] * 3, [other] * 2)
    for name in FIGURES:
        for one, three in ((once[name], thrice[name]), (apart[name], still[name])):
            assert (three.value, three.low, three.high) == pytest.approx((one.value, one.low, one.high))
        assert still[name].p == pytest.approx(apart[name].p, abs=0.002)  # ties are counted to the last bit


def test_the_width_is_that_of_drawing_images_by_hand() -> None:
    runs = [drawn(seed) for seed in range(3)]
    captions = [[np.flatnonzero(one.image_of == image) for image in range(120)] for (one,) in runs]
    random, sums = np.random.default_rng(0), []
    for _ in range(600):
        chosen = random.integers(0, 120, 120)
        total = 0.0
        for (one,), captions_of in zip(runs, captions, strict=True):
            texts = np.concatenate([captions_of[image] for image in chosen])
            total += sum(
                100 * (ranks < k).mean() for ranks in (one.of_images[chosen], one.of_texts[texts]) for k in (1, 5, 10)
            )
        sums.append(total / 3)
    low, high = np.quantile(sums, (0.025, 0.975))
    found = mean_intervals(runs)["rsum"]
    assert found.high - found.low == pytest.approx(high - low, rel=0.12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_a_difference_of_means_and_its_chance() -> None:
    hard = np.random.default_rng(99).gamma(1.0, 6.0, 120)
    ours, theirs = [drawn(k, hard=hard) for k in range(3)], [drawn(k, hard=hard * 1.6) for k in range(3, 5)]
    found = mean_differences(ours, theirs)
    means = [np.mean([run[0].retrieval().rsum for run in runs]) for runs in (ours, theirs)]
    assert found["rsum"].value == pytest.approx(means[0] - means[1])
    assert found["rsum"].low > 0 and found["rsum"].p < 0.01
    same = mean_differences(ours[:2], [drawn(k, hard=hard) for k in (7, 8)])["rsum"]
    assert same.low < same.value < same.high and same.p > 0.05


def test_nothing_to_tell() -> None:
    all_right = [QueryRanks(np.zeros(4, int), np.zeros(8, int), np.repeat(np.arange(4), 2))] * 1
    found = mean_intervals([all_right, all_right])["rsum"]
    assert found.value == 600 and np.isnan(found.low) and np.isnan(found.high)
    with pytest.raises(ItmkitError, match="different images or captions"):
        mean_differences([drawn(0), drawn(1)], [drawn(0, images=100, hard=np.ones(100))])

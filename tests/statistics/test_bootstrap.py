from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.errors import ItmkitError
from itmkit.scoring.metrics import QueryRanks, mean_over
from itmkit.statistics import resampling
from itmkit.statistics.bootstrap import (
    Difference,
    Interval,
    differences,
    direction_intervals,
    intervals,
    mean_intervals,
)
from itmkit.statistics.resampling import Queries


def drawn(seed: int, images: int, typical: float = 1.0, captions: tuple[int, ...] = (1, 5, 5, 7)) -> QueryRanks:
    """Ranks of images that are hard or easy, with all their captions; captions in any order."""
    random = np.random.default_rng(seed)
    image_of = random.permutation(np.repeat(np.arange(images), random.choice(captions, images)))
    hard = random.normal(size=images)
    of_images = np.exp(typical + hard + random.normal(size=images)).astype(np.int64)
    of_texts = np.exp(typical + hard[image_of] + 0.5 * random.normal(size=len(image_of))).astype(np.int64)
    return QueryRanks(of_images, of_texts, image_of)


def chosen(ranks: QueryRanks, images: np.ndarray) -> QueryRanks:
    """The ranks of some images, each as often as it is named, with all their captions."""
    texts = [np.flatnonzero(ranks.image_of == image) for image in images]
    image_of = np.repeat(np.arange(len(images)), [len(mine) for mine in texts])
    return QueryRanks(ranks.of_images[images], ranks.of_texts[np.concatenate(texts)], image_of)


# --- what it is computed from ---


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_resampled_figures_are_those_of_the_images_drawn(seed: int, images: int, folds: int) -> None:
    """Means too: with as many captions for every image a figure is a sum over images."""
    random = np.random.default_rng(seed)
    parts = [drawn(seed + fold, images, captions=(3,)) for fold in range(folds)]
    draws = [[random.integers(0, images, images) for _ in range(folds)] for _ in range(5)]
    counts = np.array([np.concatenate([np.bincount(one, minlength=images) for one in draw]) for draw in draws])
    expected = [
        mean_over([chosen(part, one).retrieval() for part, one in zip(parts, draw, strict=True)]).figures()
        for draw in draws
    ]
    whole = mean_over([part.retrieval() for part in parts]).figures()
    for side in ("i2t", "t2i"):
        queries = Queries.of(parts, side)
        assert queries.medr(counts).tolist() == pytest.approx([one[f"{side} medr"] for one in expected])
        for name, values in queries.values().items():
            assert queries.per_image(values).mean() == pytest.approx(whole[f"{side} {name}"])
            found = whole[f"{side} {name}"] + counts @ queries.influence(values) / queries.n
            assert found.tolist() == pytest.approx([one[f"{side} {name}"] for one in expected])


def test_medr_is_found_wherever_it_lies() -> None:
    """Also of resamples whose median is far from that of the data."""
    ranks = drawn(0, 40)
    queries = Queries.of([ranks], "t2i")
    order = np.argsort(ranks.of_images)
    for images in (order[:1], order[-1:], order[:20], order[20:], order):
        draw = np.resize(images, 40)
        counts = np.bincount(draw, minlength=40)[None]
        assert queries.medr(counts)[0] == chosen(ranks, draw).retrieval().t2i.medr


def test_the_error_of_a_resample_is_that_of_its_images() -> None:
    """t of each draw, computed from the images drawn one by one."""
    ranks = drawn(1, 30, captions=(4,))
    queries = Queries.of([ranks], "t2i")
    influence = queries.influence(queries.values()["R@5"])
    t, _ = resampling.resampled({"R@5": influence}, {}, queries=120, resamples=50, seed=3)
    images = np.random.default_rng([3, 0]).integers(0, 30, (50, 30))
    of_each = influence[images]
    expected = of_each.mean(axis=1) / (of_each.std(axis=1) / 30**0.5)
    np.testing.assert_allclose(t["R@5"], expected, rtol=1e-9)


# --- intervals ---


def test_values_are_the_figures_and_names_are_theirs() -> None:
    folds = [drawn(seed, 20) for seed in range(3)]
    for parts in (folds[0], folds):
        figures = mean_over([part.retrieval() for part in (parts if isinstance(parts, list) else [parts])]).figures()
        found = intervals(parts, resamples=100)
        assert list(found) == list(figures)
        for name, interval in found.items():
            assert interval.value == pytest.approx(figures[name])
            assert interval.low <= interval.value <= interval.high


def test_a_recall_of_independent_queries_has_the_interval_of_the_textbook() -> None:
    random = np.random.default_rng(0)
    ranks = np.where(random.random(2000) < 0.4, 0, 99)
    found = direction_intervals(ranks, np.arange(2000))["R@1"]
    share = found.value / 100
    half = 196 * (share * (1 - share) / 2000) ** 0.5
    assert found.low == pytest.approx(found.value - half, abs=0.15)
    assert found.high == pytest.approx(found.value + half, abs=0.15)


def test_captions_that_do_the_same_as_their_image_tell_no_more_than_the_image() -> None:
    ranks = drawn(2, 300)
    copied = np.repeat(np.arange(300), 5)
    same = intervals(QueryRanks(ranks.of_images, ranks.of_images[copied], copied))
    for name in ("R@1", "R@5", "R@10", "medr", "meanr"):
        assert same[f"t2i {name}"].low == pytest.approx(same[f"i2t {name}"].low)
        assert same[f"t2i {name}"].high == pytest.approx(same[f"i2t {name}"].high)
    alone = direction_intervals(ranks.of_images[copied], np.arange(1500))["R@1"]
    whole = same["t2i R@1"]
    assert alone.high - alone.low < 0.5 * (whole.high - whole.low)  # drawn one by one: far too sure


def test_a_seed_gives_the_same_interval_and_another_nearly_the_same() -> None:
    ranks = drawn(3, 200)
    assert intervals(ranks, seed=1) == intervals(ranks, seed=1)
    one, other = intervals(ranks, seed=1)["rsum"], intervals(ranks, seed=2)["rsum"]
    assert one != other and one.low == pytest.approx(other.low, abs=0.1 * (one.high - one.low))


def test_what_is_in_memory_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks, other = drawn(4, 50), drawn(4, 50, 1.2)
    whole = intervals(ranks, resamples=200), differences(ranks, other, resamples=200)
    monkeypatch.setattr(resampling, "NUMBERS", 2000)
    assert intervals(ranks, resamples=200) == whole[0]
    parted = differences(ranks, other, resamples=200)
    assert {name: one.value for name, one in parted.items()} == {name: one.value for name, one in whole[1].items()}


@pytest.mark.parametrize(("hits", "low", "high"), [(0, 0, 27.75), (10, 72.25, 100), (5, 23.66, 76.34)])
def test_recalls_of_few_images_have_wilsons_interval(hits: int, low: float, high: float) -> None:
    """The values of published tables for 0, 10 and 5 of 10."""
    found = direction_intervals(np.where(np.arange(10) < hits, 0, 50), np.arange(10))["R@1"]
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_a_hundred_percent_is_not_certain() -> None:
    perfect = QueryRanks(np.zeros(100, np.int64), np.zeros(500, np.int64), np.repeat(np.arange(100), 5))
    found = intervals(perfect)
    assert found["t2i R@1"].low == pytest.approx(100 * 100 / (100 + 1.96**2), abs=0.01)  # 100 images, not 500
    assert found["rsum"].high == 600 and found["rsum"].low == pytest.approx(6 * found["t2i R@1"].low)
    assert found["mR"].low == pytest.approx(found["t2i R@1"].low)
    assert found["i2t medr"] == Interval(1, 1, 1)
    assert found["i2t meanr"].value == 1 and np.isnan(found["i2t meanr"].low) and np.isnan(found["i2t meanr"].high)


def test_figures_stay_what_they_can_be() -> None:
    ranks = QueryRanks(np.array([0] * 30 + [400] * 2), np.array([0] * 20 + [900] * 12), np.arange(32))
    for name, interval in intervals(ranks).items():
        highest = 600 if name == "rsum" else np.inf if name.endswith("r") else 100
        assert (1 if name.endswith("r") else 0) <= interval.low <= interval.value <= interval.high <= highest


def test_one_image_says_nothing_of_others() -> None:
    found = intervals(QueryRanks(np.array([3]), np.array([0, 7]), np.array([0, 0])), resamples=20)
    assert np.isnan(found["i2t meanr"].low) and np.isnan(found["t2i medr"].high)
    assert found["i2t meanr"].to_json() == {"value": 4.0, "low": None, "high": None}
    assert found["i2t R@5"].high == 100 and found["i2t R@5"].low < 25


def test_means_over_queries_have_the_intervals_of_recalls_where_they_are_recalls() -> None:
    ranks = drawn(5, 100)
    hits = np.where(ranks.of_texts < 5, 100.0, 0.0)
    found = mean_intervals({"R@5": hits, "half": hits / 2}, ranks.image_of, seed=7)
    expected = direction_intervals(ranks.of_texts, ranks.image_of, seed=7)["R@5"]
    assert found["R@5"] == expected
    assert found["half"].high == pytest.approx(expected.high / 2)


# --- two runs ---


def test_a_run_does_not_differ_from_itself() -> None:
    ranks = drawn(6, 40)
    for difference in differences(ranks, ranks, resamples=50).values():
        assert difference == Difference(0, 0, 0, 1)


def test_the_other_way_round_is_the_opposite() -> None:
    one, other = drawn(7, 60, captions=(5,)), drawn(8, 60, captions=(5,))
    other = QueryRanks(other.of_images, other.of_texts, one.image_of)
    there, back = differences(one, other, resamples=300), differences(other, one, resamples=300)
    for name, difference in there.items():
        assert back[name].value == pytest.approx(-difference.value) and back[name].p == difference.p
        if "medr" not in name:
            assert (back[name].low, back[name].high) == pytest.approx((-difference.high, -difference.low))


@pytest.mark.parametrize("folds", [1, 2])
def test_p_is_the_share_of_swaps_that_differ_as_much(folds: int) -> None:
    """All 256 ways to swap eight images of two runs, each evaluated."""
    random = np.random.default_rng(9)
    image_of = np.repeat(np.arange(8 // folds), random.integers(1, 4, 8 // folds))

    def run() -> list[QueryRanks]:
        of = [(random.integers(0, 14, 8 // folds), random.integers(0, 14, len(image_of))) for _ in range(folds)]
        return [QueryRanks(images, texts, image_of) for images, texts in of]

    def gains(a: list[QueryRanks], b: list[QueryRanks]) -> dict[str, float]:
        one, other = (mean_over([part.retrieval() for part in run]).figures() for run in (a, b))
        return {name: one[name] - other[name] for name in one}

    def mixed(a: list[QueryRanks], b: list[QueryRanks], take: np.ndarray) -> list[QueryRanks]:
        return [
            QueryRanks(
                np.where(mine, x.of_images, y.of_images), np.where(mine[image_of], x.of_texts, y.of_texts), image_of
            )
            for x, y, mine in zip(a, b, np.split(take, folds), strict=True)
        ]

    first, second = run(), run()
    measured = gains(first, second)
    swaps = [np.array(one, bool) for one in product((False, True), repeat=8)]
    each = [gains(mixed(first, second, take), mixed(second, first, take)) for take in swaps]
    found = differences(first, second, resamples=4000)
    for name, value in measured.items():
        exact = np.mean([abs(one[name]) >= abs(value) - 1e-9 for one in each])
        assert found[name].value == pytest.approx(value)
        assert found[name].p == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 4000) ** 0.5 + 1e-3)


def test_runs_on_different_captions_cannot_be_compared() -> None:
    one = drawn(10, 20)
    for other in (drawn(11, 20), drawn(10, 21), [one, one]):
        with pytest.raises(ItmkitError, match="different images or captions"):
            differences(one, other)


# --- how often they are right; tests/robustness/intervals.py does it at length ---

TIMES = 100


def test_intervals_hold_the_truth() -> None:
    """95 percent but for the chance error of 100 draws (2.2); with captions drawn one by one, far less."""
    truth = drawn(10**6, 300_000).retrieval().figures()
    held = dict.fromkeys(truth, 0)
    one_by_one = 0
    for seed in range(TIMES):
        ranks = drawn(seed, 150)
        for name, interval in intervals(ranks, resamples=300, seed=seed).items():
            held[name] += interval.low <= truth[name] <= interval.high
        alone = direction_intervals(ranks.of_texts, np.arange(len(ranks.of_texts)), resamples=100, seed=seed)["R@1"]
        one_by_one += alone.low <= truth["t2i R@1"] <= alone.high
    for name, count in held.items():
        if " R@" in name or name in ("rsum", "mR"):
            assert count / TIMES >= 0.88, name
        elif "meanr" in name:
            assert count / TIMES >= 0.8, name  # a few images in a thousand decide it
        else:
            assert count / TIMES >= 0.88, name
    assert one_by_one / TIMES < 0.85


def test_equal_runs_differ_five_times_of_a_hundred() -> None:
    alarms: dict[str, int] = {}
    for seed in range(TIMES):
        random = np.random.default_rng(seed)
        hard = random.normal(size=100)
        image_of = np.repeat(np.arange(100), 5)
        one, other = (
            QueryRanks(
                np.exp(1 + hard + 0.5 * random.normal(size=100)).astype(np.int64),
                np.exp(1 + hard[image_of] + 0.5 * random.normal(size=500)).astype(np.int64),
                image_of,
            )
            for _ in range(2)
        )
        for name, difference in differences(one, other, resamples=200, seed=seed).items():
            alarms[name] = alarms.get(name, 0) + (difference.p <= 0.05)
    for name, count in alarms.items():
        assert count / TIMES <= 0.12, name
        if name in ("rsum", "mR") or "meanr" in name:  # of others many swaps differ by exactly as much
            assert count > 0, name

from __future__ import annotations

import numpy as np

from itmkit.report.html.choose import of_one, of_two, outcomes


def test_lists_of_two_runs_are_those_of_a_literal_computation() -> None:
    random = np.random.default_rng(3)
    ours, theirs = (np.minimum(random.geometric(0.15, 300) - 1, 60) for _ in range(2))
    gains, losses, still = of_two(ours, theirs, 30)
    every = range(300)
    factor = [(theirs[q] + 1) / (ours[q] + 1) for q in every]
    literal = sorted((q for q in every if ours[q] < theirs[q]), key=lambda q: (-round(factor[q], 9), ours[q], q))[:10]
    assert gains.queries == literal
    lost = [q for q in every if ours[q] > theirs[q]]
    assert losses.queries == sorted(lost, key=lambda q: (round(factor[q], 9), theirs[q], q))[:10]
    both = [q for q in every if ours[q] > 0 and theirs[q] > 0 and q not in gains.queries + losses.queries]
    assert still.queries == sorted(both, key=lambda q: (-min(ours[q], theirs[q]), q))[:10]
    counted = outcomes(ours, theirs)
    assert counted["ours right, baseline wrong"] == sum(o == 0 and t > 0 for o, t in zip(ours, theirs, strict=True))
    assert sum(counted.values()) == 300


def test_sixty_to_one_counts_more_than_nine_hundred_to_three_hundred() -> None:
    gains, losses, still = of_two(np.array([299, 0, 0, 5]), np.array([899, 59, 0, 5]), 3)
    assert gains.queries == [1] and losses.queries == [] and still.queries == [0]
    assert of_two(np.array([299, 0]), np.array([899, 59]), 6)[0].queries == [1, 0]


def test_lists_of_one_run_share_no_query_and_are_bounded() -> None:
    ranks = np.array([0, 7, 0, 2, 1, 0, 40, 0, 3, 0, 9])
    worst, near, right = of_one(ranks, 7)
    assert worst.queries == [6, 10, 1] and near.queries == [3, 4] and right.queries == [0, 5]
    assert sum(len(each.queries) for each in of_one(ranks, 100)) == len(ranks)
    assert [each.queries for each in of_one(np.zeros(3, int), 1)] == [[], [], []]
    assert [each.queries for each in of_one(np.array([3]), 9)] == [[0], [], []]

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itmkit.evaluation.slices import WORDS, bins, category_slices, image_slices, slices, text_slices
from itmkit.scoring.metrics import Direction, QueryRanks
from itmkit.statistics.bootstrap import direction_intervals

TEXTS = [
    "Two dogs run.",
    "A dog and a cat",
    "A RED bus, parked on the street in front of a shop",
    "people",
    "The 2nd player throws a ball",
    "Children playing with a kite near the sea under a clear blue sky today",
]
RANKS = QueryRanks(np.array([0, 4, 11]), np.array([0, 1, 5, 20, 0, 7]), np.array([0, 0, 1, 1, 2, 2]))


def members(texts: list[str]) -> dict[str, list[int]]:
    """{slice: the captions in it}, told apart by their rank."""
    ranks = QueryRanks(np.zeros(1, np.int64), np.arange(len(texts)), np.zeros(len(texts), np.int64))
    found = {}
    for one in text_slices(ranks, texts, resamples=2):
        total = 0.0 if not one.queries else (one.figures["meanr"].value - 1) * one.queries
        found[one.name] = [one.queries, round(total)]
    return found


def test_captions_are_sliced_by_what_they_say() -> None:
    found = {one.name: one for one in text_slices(RANKS, TEXTS, resamples=50)}
    assert {name: one.queries for name, one in found.items()} == {
        "words below 8": 4,
        "words 8-9": 0,
        "words 10-11": 0,
        "words 12-14": 2,
        "words 15 and more": 0,
        "with colour": 2,
        "without colour": 4,
        "with number": 2,
        "without number": 4,
        "with relation": 3,
        "without relation": 3,
    }
    of = {"with colour": [5, 7], "with number": [0, 0], "with relation": [5, 0, 7], "without relation": [0, 1, 20]}
    for name, ranks in of.items():
        expected = Direction.of(np.array(ranks))
        figures = {key: interval.value for key, interval in found[name].figures.items()}
        assert figures == pytest.approx(
            {
                "R@1": expected.r1,
                "R@5": expected.r5,
                "R@10": expected.r10,
                "medr": expected.medr,
                "meanr": expected.meanr,
            }
        )
    assert found["words 8-9"].figures == {} and found["words 8-9"].to_json()["figures"] == {}
    assert all(one.side == "t2i" for one in found.values())


def test_parts_of_words_are_not_words() -> None:
    found = members(["a redwood tree", "someone atop", "reddish", "the three-legged stool", "5pm", "o'clock's"])
    assert found["with colour"] == [1, 2] and found["with number"] == [2, 3 + 4] and found["with relation"] == [1, 1]


def test_classes_of_words_are_lower_case_and_apart() -> None:
    for name, words in WORDS.items():
        assert words and all(word == word.lower() and word.isalpha() for word in words)
        assert all(words.isdisjoint(other) for key, other in WORDS.items() if key != name)


def test_images_are_sliced_by_their_regions() -> None:
    found = {one.name: one for one in image_slices(RANKS, np.array([36, 3, 100]), resamples=50)}
    assert {name: one.queries for name, one in found.items()} == {
        "regions below 10": 1,
        "regions 10-19": 0,
        "regions 20-35": 0,
        "regions 36 and more": 2,
    }
    assert found["regions 36 and more"].figures["meanr"].value == 6.5 and found["regions below 10"].side == "i2t"


def test_both_directions_by_super_category_of_the_image() -> None:
    found = category_slices(RANKS, [("animal", "vehicle"), ("animal",), ()], resamples=50)
    says = [(one.side, one.name, one.queries, one.figures["R@1"].value, one.figures["R@5"].value) for one in found]
    assert says == [
        ("i2t", "supercategory animal", 2, 50.0, 100.0),
        ("i2t", "supercategory vehicle", 1, 100.0, 100.0),
        ("t2i", "supercategory animal", 4, 25.0, 50.0),
        ("t2i", "supercategory vehicle", 2, 50.0, 100.0),
    ]
    assert category_slices(RANKS, [(), (), ()]) == []


def test_intervals_are_those_of_the_queries_in_the_slice() -> None:
    random = np.random.default_rng(0)
    image_of = np.repeat(np.arange(50), 5)
    ranks, chosen = random.integers(0, 30, 250), random.random(250) < 0.3
    (found,) = slices("t2i", ranks, image_of, {"some": chosen}, seed=3)
    assert found.figures == direction_intervals(ranks[chosen], image_of[chosen], seed=3)
    assert found.figures["R@10"].low < found.figures["R@10"].value < found.figures["R@10"].high


@given(st.lists(st.integers(0, 30), max_size=20), st.sets(st.integers(1, 25), max_size=5))
def test_every_number_is_in_one_bin(numbers: list[int], edges: set[int]) -> None:
    rising = sorted(edges)
    found = bins("words", np.array(numbers, np.int64), rising)
    assert len(found) == len(rising) + 1
    if numbers:
        assert np.sum(list(found.values()), axis=0).tolist() == [1] * len(numbers)
    for place, inside in enumerate(found.values()):
        for number, there in zip(numbers, inside.tolist(), strict=True):
            assert there == (sum(edge <= number for edge in rising) == place)


def test_names_of_bins() -> None:
    assert list(bins("words", np.array([1]), [3, 4, 9])) == [
        "words below 3",
        "words 3",
        "words 4-8",
        "words 9 and more",
    ]
    with pytest.raises(ValueError, match="do not rise"):
        bins("words", np.array([1]), [4, 4])


def test_lengths_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="5 captions"):
        text_slices(RANKS, TEXTS[:5])
    with pytest.raises(ValueError, match="regions of"):
        image_slices(RANKS, np.ones(2))

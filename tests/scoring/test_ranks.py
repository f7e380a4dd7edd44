from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.errors import ItmkitError
from itmkit.scoring import stored
from itmkit.scoring.ranks import image_to_text_ranks, text_to_image_ranks


def naive_image_to_text(scores: np.ndarray, image_of: list[int]) -> list[int]:
    """For each caption of an image: how many captions of other images are at least as good; the best caption counts."""
    found = []
    for image in range(len(scores)):
        mine = [text for text, owner in enumerate(image_of) if owner == image]
        others = [text for text, owner in enumerate(image_of) if owner != image]
        found.append(min(sum(scores[image, other] >= scores[image, text] for other in others) for text in mine))
    return found


def naive_text_to_image(scores: np.ndarray, image_of: list[int]) -> list[int]:
    return [
        sum(scores[image, text] >= scores[owner, text] for image in range(len(scores)) if image != owner)
        for text, owner in enumerate(image_of)
    ]


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """1 to 9 images, 1 to 7 captions each, in any order; few different scores, so nearly every query has a tie."""
    captions = draw(st.lists(st.integers(1, 7), min_size=1, max_size=9))
    image_of = draw(st.permutations([image for image, count in enumerate(captions) for _ in range(count)]))
    levels = draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = random.integers(0, levels, (len(captions), len(image_of))).astype(np.float32) / 4
    return scores, list(image_of)


@given(matrices())
@settings(max_examples=80, deadline=None)
def test_ranks_are_those_of_the_definition(matrix: tuple[np.ndarray, list[int]]) -> None:
    scores, image_of = matrix
    assert image_to_text_ranks(scores, np.array(image_of)).tolist() == naive_image_to_text(scores, image_of)
    assert text_to_image_ranks(scores, np.array(image_of)).tolist() == naive_text_to_image(scores, image_of)


@given(matrices(), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_ranks_do_not_depend_on_how_many_rows_are_compared_at_a_time(
    matrix: tuple[np.ndarray, list[int]], rows: int
) -> None:
    scores, image_of = matrix[0], np.array(matrix[1])
    whole = image_to_text_ranks(scores, image_of), text_to_image_ranks(scores, image_of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "ROWS", rows)
        np.testing.assert_array_equal(image_to_text_ranks(scores, image_of), whole[0])
        np.testing.assert_array_equal(text_to_image_ranks(scores, image_of), whole[1])


def test_large_matrices_take_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 16 million scores no mask of the whole matrix is made."""
    scores = np.zeros((4097, 4097), np.float32)
    np.fill_diagonal(scores, 1)
    scores[5, 6] = 1
    found = image_to_text_ranks(scores, np.arange(4097)), text_to_image_ranks(scores, np.arange(4097))
    assert np.flatnonzero(found[0]).tolist() == [5] and np.flatnonzero(found[1]).tolist() == [6]


def test_a_tie_counts_against_the_query() -> None:
    scores = np.full((3, 6), 0.5)
    image_of = np.array([0, 0, 1, 1, 2, 2])
    assert image_to_text_ranks(scores, image_of).tolist() == [4, 4, 4]  # last of all captions of other images
    assert text_to_image_ranks(scores, image_of).tolist() == [2] * 6


def test_other_captions_of_the_image_are_not_in_the_way() -> None:
    scores = np.array([[0.9, 0.8, 0.85], [0.0, 0.0, 1.0]])
    assert image_to_text_ranks(scores, np.array([0, 0, 1])).tolist() == [0, 0]
    scores[0, 0] = 0.1  # the better of the two captions is now below one of the other image
    assert image_to_text_ranks(scores, np.array([0, 0, 1])).tolist() == [1, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_an_error(bad: float) -> None:
    scores = np.zeros((2, 3))
    scores[1, 2] = bad
    for ranked in (image_to_text_ranks, text_to_image_ranks):
        with pytest.raises(ItmkitError, match=r"image 1 with caption 2"):
            ranked(scores, np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ("shape", "image_of"),
    [((2, 2), [0, 0]), ((2, 3), [0, 1, 2]), ((0, 0), []), ((2, 0), [])],
    ids=["image without caption", "caption without image", "nothing", "no captions"],
)
def test_what_cannot_be_ranked(shape: tuple[int, int], image_of: list[int]) -> None:
    with pytest.raises(ItmkitError):
        image_to_text_ranks(np.zeros(shape), np.array(image_of, np.int64))


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        text_to_image_ranks(np.zeros((2, 3)), np.array([0, 1]))

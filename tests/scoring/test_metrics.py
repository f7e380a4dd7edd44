from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given, settings

from itmkit.dataset import Caption, Dataset, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import PROTOCOLS, folds_of, images_of, protocol
from itmkit.scoring.metrics import Direction, chance_of, mean_over, retrieval
from tests.scoring.test_ranks import matrices, naive_image_to_text, naive_text_to_image


def naive(ranks: list[int]) -> tuple[float, float, float, float, float]:
    recalls = [100 * sum(rank < k for rank in ranks) / len(ranks) for k in (1, 5, 10)]
    return (*recalls, statistics.median(ranks) // 1 + 1, sum(ranks) / len(ranks) + 1)


def figures(found: Direction) -> tuple[float, float, float, float, float]:
    return found.r1, found.r5, found.r10, found.medr, found.meanr


@given(matrices())
@settings(max_examples=60, deadline=None)
def test_figures_are_those_of_the_definition(matrix: tuple[np.ndarray, list[int]]) -> None:
    scores, image_of = matrix
    found = retrieval(scores, np.array(image_of))
    i2t, t2i = naive(naive_image_to_text(scores, image_of)), naive(naive_text_to_image(scores, image_of))
    assert figures(found.i2t) == pytest.approx(i2t) and figures(found.t2i) == pytest.approx(t2i)
    assert found.rsum == pytest.approx(sum(i2t[:3]) + sum(t2i[:3]))
    assert found.mean_recall == pytest.approx(found.rsum / 6)
    assert (found.images, found.captions) == scores.shape


def test_figures_by_hand() -> None:
    found = Direction.of(np.array([0, 4, 5, 9, 10]))
    assert figures(found) == (20, 40, 80, 6, 6.6)
    assert Direction.of(np.array([0, 3])).medr == 2  # the median 1.5 rounded down, counted from 1


def test_json_says_everything() -> None:
    record = retrieval(np.eye(3), np.arange(3)).to_json()
    assert record["rsum"] == 600 and record["mR"] == 100 and record["images"] == record["captions"] == 3
    assert record["i2t"] == {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0, "medr": 1.0, "meanr": 1.0}


def test_not_a_number_is_an_error() -> None:
    with pytest.raises(ItmkitError, match="nan"):
        retrieval(np.array([[np.nan]]), np.array([0]))


@pytest.mark.parametrize(("images", "captions"), [(30, 5), (12, 1), (8, 3), (4, [1, 1, 1, 9])])
def test_chance_is_what_random_scores_reach(images: int, captions: int | list[int]) -> None:
    random, rounds = np.random.default_rng(0), 300
    image_of = np.repeat(np.arange(images), captions)
    found = [retrieval(random.random((images, len(image_of))), image_of).rsum for _ in range(rounds)]
    error = float(np.std(found)) / rounds**0.5
    assert abs(float(np.mean(found)) - chance_of(image_of)) < 4 * error + 1e-9


def test_chance_at_the_sizes_of_the_literature() -> None:
    assert chance_of(np.repeat(np.arange(1000), 5)) == pytest.approx(
        100 * (16 / 1000) + 100 * sum(1 - (1 - 1e-3) ** k for k in (1, 5, 10)), abs=0.1
    )


def test_mean_over_folds() -> None:
    random = np.random.default_rng(0)
    folds = [retrieval(random.random((4, 8)), np.repeat(np.arange(4), 2)) for _ in range(5)]
    mean = mean_over(folds)
    assert mean.i2t.r1 == pytest.approx(np.mean([fold.i2t.r1 for fold in folds]))
    assert mean.t2i.medr == pytest.approx(np.mean([fold.t2i.medr for fold in folds]))
    assert mean.rsum == pytest.approx(np.mean([fold.rsum for fold in folds]))  # of both directions, not six times one
    assert mean.images == 20 and mean.captions == 40


# --- protocols ---


def dataset(test: int, val: int = 2) -> Dataset:
    images = [
        ImageRecord(id=str(n), split="test" if n < test else "val", captions=(Caption(f"{n}#0", "a dog"),))
        for n in range(test + val)
    ]
    return Dataset(images)


def test_coco1k_is_five_contiguous_folds_in_file_order() -> None:
    chosen = protocol("coco1k")
    found = images_of(chosen, dataset(5000))
    assert [image.id for image in found] == [str(n) for n in range(5000)]
    folds = folds_of(chosen, found, found)
    assert [len(fold.images) for fold in folds] == [1000] * 5
    np.testing.assert_array_equal(np.concatenate([fold.images for fold in folds]), np.arange(5000))
    assert len(folds_of(protocol("coco5k"), found, found)) == 1


def test_an_image_that_is_left_out_moves_no_other_to_another_fold() -> None:
    chosen, every = protocol("coco1k"), images_of(protocol("coco1k"), dataset(5000))
    there = [image for k, image in enumerate(every) if k not in (3, 4, 1000)]
    folds = folds_of(chosen, every, there)
    assert [len(fold.images) for fold in folds] == [998, 999, 1000, 1000, 1000]
    assert [fold.ids(there)[0][0] for fold in folds] == ["0", "1001", "2000", "3000", "4000"]
    with pytest.raises(ItmkitError, match="--split coco1k: of the images of fold 2 of 5, none is there"):
        folds_of(chosen, every, every[:1000])


@pytest.mark.parametrize(
    ("name", "needed"), [("coco5k", "5,000"), ("coco1k", "5,000"), ("flickr1k", "1,000"), ("f8k", "1,000")]
)
def test_a_protocol_refuses_another_number_of_images(name: str, needed: str) -> None:
    with pytest.raises(ItmkitError, match=rf"--split {name}: needs {needed} images .* has 3; .*Use --split test"):
        images_of(protocol(name), dataset(3))


def test_splits_that_do_not_exist() -> None:
    with pytest.raises(ItmkitError, match="--split 'tset': no such split or protocol") as error:
        protocol("tset")
    assert all(name in str(error.value) for name in PROTOCOLS)
    with pytest.raises(ItmkitError, match=r"split 'train' has no images .* it has: test \(3\), val \(2\)"):
        images_of(protocol("train"), dataset(3))
    assert len(images_of(protocol("val"), dataset(3))) == 2

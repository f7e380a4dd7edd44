from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from itmkit.dataset import Caption, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.relevance.ratings import Ratings, agreement, read_ratings, scores_of
from itmkit.scoring.stored import InMemory

IMAGES = [
    ImageRecord(f"{name}.jpg", "test", tuple(Caption(f"{name}.jpg#{n}", f"{name} {n}") for n in range(2)))
    for name in ("a", "b", "c")
]
EXPERT = "a.jpg\ta.jpg#0\t4\t4\t3\na.jpg\tb.jpg#1\t1\t2\t1\nc.jpg\ta.jpg#1\t3\t1\t2\nz.jpg\ta.jpg#1\t1\t1\t1\n"
CROWD = "a.jpg\ta.jpg#0\t1\t3\t0\nb.jpg\tc.jpg#0\t0.333333333\t1\t2\nb.jpg\tz.jpg#0\t0\t0\t3\nc.jpg\ta.jpg#1\t0\t0\t3\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_experts_without_the_images_own_captions(tmp_path: Path) -> None:
    file = write(tmp_path / "e.txt", EXPERT)
    found = read_ratings(file, "expert", IMAGES)
    assert found.images.tolist() == [0, 2] and found.captions.tolist() == [3, 1]
    assert found.values.tolist() == [[1, 2, 1], [3, 1, 2]]
    assert (found.rated, found.absent, found.own) == (4, 1, 1)
    assert found.notes() == [
        "expert: 1 of 4 rated pairs have an image or a caption that is not among these",
        "expert: 1 rated pairs are an image and its own caption and left out",
    ]
    with_own = read_ratings(file, "expert", IMAGES, keep_own=True)
    assert with_own.captions.tolist() == [0, 3, 1] and with_own.own == 0


def test_crowdflower_with_the_images_own_captions(tmp_path: Path) -> None:
    file = write(tmp_path / "c.txt", CROWD)
    found = read_ratings(file, "crowdflower", IMAGES)
    assert found.images.tolist() == [0, 1, 2] and found.captions.tolist() == [0, 4, 1]
    assert found.values.tolist() == [[1], [1 / 3], [0]] and (found.absent, found.own) == (1, 0)
    assert read_ratings(file, "crowdflower", IMAGES, keep_own=False).captions.tolist() == [4, 1]


@pytest.mark.parametrize("image_id", ["a", "7"])
def test_images_by_file_name_and_captions_by_the_token_file(tmp_path: Path, image_id: str) -> None:
    images = [ImageRecord(image_id, "test", (Caption("70", "One ."), Caption("71", "Two  .")), file="x/a.jpg")]
    file = write(tmp_path / "e.txt", "a.jpg\ta.jpg#1\t4\t4\t3\n")
    with pytest.raises(ItmkitError, match=r"1 of the images and 0 of the captions .* Name Flickr8k\.token\.txt"):
        read_ratings(file, "expert", images)
    tokens = write(tmp_path / "t.txt", "a.jpg#0\tOne .\na.jpg#1\tTwo .\nother.jpg#0\tTwo .\n")
    found = read_ratings(file, "expert", images, tokens=tokens, keep_own=True)
    assert found.images.tolist() == [0] and found.captions.tolist() == [1]


def test_equal_texts_of_one_image_are_different_captions(tmp_path: Path) -> None:
    images = [ImageRecord("a.jpg", "test", tuple(Caption(str(n), text) for n, text in enumerate(("x", "y", "x"))))]
    tokens = write(tmp_path / "t.txt", "a.jpg#0\tx\na.jpg#1\ty\na.jpg#2\tx\n")
    file = write(tmp_path / "e.txt", "a.jpg\ta.jpg#0\t1\t1\t1\na.jpg\ta.jpg#2\t1\t1\t1\n")
    assert read_ratings(file, "expert", images, tokens=tokens, keep_own=True).captions.tolist() == [0, 2]


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    file = write(tmp_path / "e.txt", "a.jpg\ta.jpg\t1\t1\t1\na.jpg\ta.jpg#0\t1\t5\t1\nx\n" + EXPERT + EXPERT[:15])
    with pytest.raises(ItmkitError) as caught:
        read_ratings(file, "expert", IMAGES)
    lines = [problem.removeprefix(f"{file}: line ") for problem in caught.value.problems]
    assert [line[0] for line in lines] == ["1", "2", "3", "8"]
    assert "expected image, NAME#NUMBER, three ratings from 1 to 4, separated by tabs" in lines[1]
    file = write(
        tmp_path / "c.txt", "a.jpg\ta.jpg#0\t0.5\t3\t0\na.jpg\ta.jpg#1\t0\t0\t0\n" + CROWD + CROWD.split("b.jpg")[0]
    )
    with pytest.raises(ItmkitError) as caught:
        read_ratings(file, "crowdflower", IMAGES)
    assert [problem.removeprefix(f"{file}: line ")[0] for problem in caught.value.problems] == ["1", "2", "7"]
    assert "a.jpg and a.jpg#0 are rated before, in line 3" in caught.value.problems[2]
    assert "share of yes, number of yes, number of no" in caught.value.problems[0]
    with pytest.raises(ItmkitError, match="no such file"):
        read_ratings(tmp_path / "typo", "expert", IMAGES)
    with pytest.raises(ItmkitError) as caught:
        read_ratings(write(tmp_path / "e.txt", EXPERT), "expert", IMAGES, tokens=write(tmp_path / "t", "a.jpg#0 x\n"))
    assert "line 1: expected NAME#NUMBER, a tab and the caption" in str(caught.value)


def test_a_pair_rated_twice_is_a_mistake(tmp_path: Path) -> None:
    line = "a.jpg\tb.jpg#0\t1\t1\t1\n"
    with pytest.raises(ItmkitError, match=r"line 2: a\.jpg and b\.jpg#0 are rated before, in line 1"):
        read_ratings(write(tmp_path / "e.txt", 2 * line), "expert", IMAGES)


def test_scores_of_the_pairs() -> None:
    matrix = np.arange(300 * 7, dtype=np.float32).reshape(300, 7)  # more than one block of rows
    images, captions = np.array([299, 0, 5, 0, 128]), np.array([6, 1, 0, 1, 3])
    ratings = Ratings("crowdflower", images, captions, np.zeros((5, 1)), 5, 0, 0)
    assert scores_of(ratings, InMemory(matrix)).tolist() == matrix[images, captions].tolist()
    with pytest.raises(ItmkitError, match="scores of 299 x 7: the ratings need 300 x 7"):
        scores_of(ratings, InMemory(matrix[:299]))


def test_agreement_is_tau_of_every_single_rating() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    values = random.integers(1, 5, (200, 3)).astype(float)
    scores = values.mean(1) + random.normal(size=200)
    ratings = Ratings("expert", np.zeros(200, int), np.arange(200), values, 200, 0, 0)
    found = agreement(ratings, scores)
    x, y = np.repeat(scores, 3), values.ravel()
    assert found.tau_b == pytest.approx(stats.kendalltau(x, y).statistic)
    assert found.reported == pytest.approx(stats.kendalltau(x, y, variant="c").statistic)
    assert (found.pairs, found.ratings) == (200, 600)
    crowd = Ratings("crowdflower", ratings.images, ratings.captions, values[:, :1] / 4, 200, 0, 0)
    assert agreement(crowd, scores).reported == pytest.approx(stats.kendalltau(scores, values[:, 0]).statistic)
    with pytest.raises(ItmkitError, match=r"\(199,\) scores for 200 rated pairs"):
        agreement(ratings, scores[1:])
    with pytest.raises(ItmkitError, match="all 600 scores are equal"):
        agreement(ratings, np.zeros(200))


def test_real_ratings(test_data: Path) -> None:
    """All 47,830 pairs of CrowdFlower, 721 of them an image and its own caption; the images stand in the file."""
    file = test_data / "flickr8k_judgements/CrowdFlowerAnnotations.txt"
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    names = sorted({line[0] for line in lines} | {line[1].rpartition("#")[0] for line in lines})
    images = [ImageRecord(name, "test", tuple(Caption(f"{name}#{n}", f"{n}") for n in range(5))) for name in names]
    found = read_ratings(file, "crowdflower", images)
    assert (found.rated, found.absent, len(found.images)) == (47_830, 0, 47_830)
    assert read_ratings(file, "crowdflower", images, keep_own=False).own == 721
    at = {name: place for place, name in enumerate(names)}
    assert found.images.tolist() == [at[line[0]] for line in lines]
    assert found.captions.tolist() == [5 * at[line[1][:-2]] + int(line[1][-1]) for line in lines]
    assert np.allclose(found.values[:, 0], [float(line[2]) for line in lines], atol=1e-6)
    assert agreement(found, found.values[:, 0]).reported == pytest.approx(1)
    some = read_ratings(file, "crowdflower", images[:100])
    assert some.absent == 47_830 - len(some.images) > 0 and some.images.max() < 100
    expert = read_ratings(test_data / "flickr8k_judgements/ExpertAnnotations.head.txt", "expert", images)
    assert expert.values.shape[1] == 3 and len(expert.images) + expert.absent + expert.own == 60

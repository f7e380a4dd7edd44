from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.errors import ItmkitError
from itmkit.scoring import stored
from itmkit.scoring.ranks import ranks
from itmkit.scoring.stored import Chosen, InMemory, Mean, ScoreFile, Scores, save_scores

IMAGES, CAPTIONS = ["a", "bé", "c"], ["a0", "a1", "b0", "c0"]
MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4) / 7


def whole(scores: Scores) -> np.ndarray:
    starts, blocks = zip(*scores.blocks(), strict=True)
    assert list(starts) == list(np.cumsum([0, *map(len, blocks)])[:-1])
    return np.concatenate(blocks)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "ROWS", 2)


def test_a_file_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    save_scores(path, InMemory(MATRIX), IMAGES, CAPTIONS, "mpsm")
    found = ScoreFile(path)
    assert found.shape == (3, 4) and found.images == IMAGES and found.captions == CAPTIONS
    np.testing.assert_array_equal(whole(found), MATRIX)
    chosen = found.places(["a", "c"], ["c0", "a0"])
    np.testing.assert_array_equal(whole(chosen), MATRIX[[0, 2]][:, [3, 0]])


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_some_rows_and_columns_of_a_mean(n: int, m: int, count: int, random: object) -> None:
    made = np.random.default_rng([n, m, count])
    parts = [made.random((n, m)) for _ in range(count)]
    weights = made.random(count) + 0.1
    rows = np.sort(made.permutation(n)[: made.integers(1, n + 1)])
    columns = made.permutation(m)[: made.integers(1, m + 1)]
    expected = np.average(parts, axis=0, weights=weights)[np.ix_(rows, columns)]
    found = Chosen(Mean([InMemory(part) for part in parts], list(weights)), rows, columns)
    assert found.shape == expected.shape
    np.testing.assert_allclose(whole(found), expected, rtol=1e-12)


def test_ranks_from_a_file_are_those_of_the_matrix(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).integers(0, 5, (7, 14)).astype(np.float32)
    image_of = np.repeat(np.arange(7), 2)
    save_scores(tmp_path / "s.h5", InMemory(scores), [str(i) for i in range(7)], [str(i) for i in range(14)], "x")
    for found, expected in zip(
        ranks(ScoreFile(tmp_path / "s.h5"), image_of), ranks(InMemory(scores), image_of), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_what_a_file_lacks_is_told(tmp_path: Path) -> None:
    save_scores(tmp_path / "s.h5", InMemory(MATRIX), IMAGES, CAPTIONS, "mpsm")
    found = ScoreFile(tmp_path / "s.h5")
    with pytest.raises(ItmkitError, match=r"s.h5: has no scores of 2 of the captions of this split, such as 'd0'"):
        found.places(["a"], ["a0", "d0", "e0"])
    with pytest.raises(ItmkitError, match="not in the order of the data set"):
        found.places(["c", "a"], ["a0"])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("text", "cannot be read as HDF5"),
        ("missing", "data set 'captions' is missing"),
        ("link", "'scores' is a ExternalLink"),
        ("integers", "no matrix of floating-point numbers"),
        ("sizes", "scores of 3 x 4, but 2 images and 4 captions"),
        ("nothing", "no such file"),
    ],
)
def test_files_that_are_none(spoil: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    save_scores(path, InMemory(MATRIX), IMAGES, CAPTIONS, "mpsm")
    if spoil == "text":
        path.write_text("scores")
    elif spoil == "nothing":
        path.unlink()
    else:
        with h5py.File(path, "a") as file:
            name = {"missing": "captions", "sizes": "images"}.get(spoil, "scores")
            del file[name]
            if spoil == "link":
                file["scores"] = h5py.ExternalLink("other.h5", "/x")
            if spoil == "integers":
                file["scores"] = np.zeros((3, 4), int)
            if spoil == "sizes":
                file["images"] = ["a", "b"]
    with pytest.raises(ItmkitError, match=told):
        ScoreFile(path)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    class Broken:
        shape = (3, 4)

        def blocks(self) -> stored.Blocks:
            yield 0, MATRIX[:2]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_scores(tmp_path / "s.h5", Broken(), IMAGES, CAPTIONS, "x")
    assert not list(tmp_path.iterdir())


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    for name, place, value in (("scores", (2, 1), 0.5), ("images", 0, b"c"), ("captions", 3, b"a0")):
        save_scores(path, InMemory(MATRIX), IMAGES, CAPTIONS, "mpsm")
        with h5py.File(path, "r+") as file:
            file[name][place] = value
        with pytest.raises(ItmkitError, match=r"scores\.h5: its content is not what was written"):
            ScoreFile(path)
        with h5py.File(path, "r+") as file:
            del file.attrs["sha256"]  # as others write it
        ScoreFile(path)

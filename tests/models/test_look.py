"""What a first look at vectors finds, and norms of what a cache holds."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy
from itmkit.errors import ItmkitError
from itmkit.models.look import FirstLook, check_probes
from itmkit.models.norms import facts_of_norms, norms, norms_of
from itmkit.trained.made import Made
from itmkit.trained.usual import norms_of_training, warn_of_others

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
INPUTS = [np.full((2, 2), n) for n in range(3)]
GOOD = list(np.random.default_rng(0).normal(size=(3, 4, 8)).astype(np.float32))


def test_good_vectors_pass_once_and_for_all() -> None:
    look = FirstLook("m", "pictures")
    look.at(NAMES[:1], INPUTS[:1], GOOD[:1])  # one alone tells nothing
    assert not look.done
    look.at(NAMES, INPUTS, GOOD)
    assert look.done
    look.at(NAMES, INPUTS, [GOOD[0]] * 3)


def test_copies_of_a_picture_may_have_equal_vectors() -> None:
    look = FirstLook("m", "pictures")
    look.at(NAMES, [INPUTS[0]] * 3, [GOOD[0]] * 3)
    assert not look.done


@pytest.mark.parametrize(
    ("vectors", "told"),
    [
        ([GOOD[0]] * 3, r"m: gives the same vectors for 3 different pictures \(a\.jpg, b\.jpg, c\.jpg\)"),
        ([one[:1].repeat(4, 0) for one in GOOD], r"one vector for everything in a picture \(a\.jpg\)"),
        ([one * 0 for one in GOOD], "vectors of zeros"),
        ([one * 1e8 for one in GOOD], "norms up to"),
        ([GOOD[0], GOOD[1] * np.nan, GOOD[2]], r"not finite for b\.jpg"),
    ],
)
def test_useless_vectors(vectors: list[np.ndarray], told: str) -> None:
    with pytest.raises(ItmkitError, match=told):
        FirstLook("m", "pictures").at(NAMES, INPUTS, vectors)


def test_probes() -> None:
    first = np.stack(GOOD[:2])
    check_probes("m", first, first + 1e-6)
    for again, told in ((first + 1, "asked twice"), (np.stack([GOOD[0]] * 2), "asked twice")):
        with pytest.raises(ItmkitError, match=told):
            check_probes("m", first, again)
    same = np.stack([GOOD[0]] * 2)
    with pytest.raises(ItmkitError, match="same vectors for two pictures"):
        check_probes("m", same, same)


def test_norms_of_a_cache(tmp_path: Path) -> None:
    """Places past the last region do not count; a matcher that meets other features says so."""
    folder = tmp_path / "caches" / "regions"
    columns = {"features": Column("float16", (3, 4)), "count": Column("int16")}
    features = np.zeros((2, 3, 4), np.float32)
    features[0, 0], features[1, :2] = [3, 4, 0, 0], [0, 0, 6, 8]
    made = MadeBy("extract-regions", {}, None, {})
    with CacheWriter.open(folder, made_by=made, columns=columns, keys=["a", "b"], shard_size=2) as writer:
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                out.append(keys, {"features": features, "count": np.array([1, 2])})
    cache = CacheReader.open(folder)
    found = norms(cache, "features")
    assert found is not None and (found.median, found.zeros, found.count) == (10, 0.5, 3)
    assert facts_of_norms(cache) == [("norms of features", str(found))]
    assert norms_of(np.zeros((0, 4))) is None
    run = Made(tmp_path / "runs" / "one", {"regions": cache.manifest.fingerprint}, {})
    usual = norms_of_training(run, "regions")
    assert usual == found
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_others(usual, features * 2, "regions")
        warn_of_others(None, features * 99, "regions")
    with pytest.warns(UserWarning, match=r"norms around 990, those of training \(regions\) 5\.5 to 10"):
        warn_of_others(usual, features * 99, "regions")
    assert norms_of_training(Made(tmp_path / "runs" / "one", {"regions": "other"}, {}), "regions") is None

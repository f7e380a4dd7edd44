from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itmkit.cache import CacheReader, CacheWriter, MadeBy
from itmkit.cache import tag_phrases as phrases
from itmkit.cache.tag_phrases import TagPhrases, phrase
from itmkit.regions.regions import empty_rows, region_columns

TAGS, ATTRIBUTES = ["dog", "cat", "red car", "car"], ["old", "red", "black"]


def literal(tag: int, attribute: int) -> str:
    return phrase(TAGS[tag] if tag >= 0 else "", ATTRIBUTES[attribute] if attribute >= 0 else "")


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 2)), min_size=1, max_size=30))
def test_every_region_finds_its_phrase(pairs: list[tuple[int, int]]) -> None:
    found = TagPhrases(TAGS, ATTRIBUTES, np.unique(np.array(pairs), axis=0))
    numbers = found.numbers(*np.array(pairs).T)
    for (tag, attribute), number in zip(pairs, numbers.tolist(), strict=True):
        assert (found.phrases[number] if number >= 0 else "") == literal(tag, attribute)
    assert len(set(found.phrases)) == len(found.phrases) and set(numbers.tolist()) - {-1} == set(
        range(len(found.phrases))
    )


def test_phrases_that_read_alike_are_one() -> None:
    found = TagPhrases(TAGS, ATTRIBUTES, np.array([[2, -1], [3, 1], [-1, 0], [-1, -1]]))
    assert found.phrases == ["red car", "old"]  # "red car" and a red "car"
    assert found.numbers(np.array([[2, 3], [-1, -1]]), np.array([[-1, 1], [0, -1]])).tolist() == [[0, 0], [1, -1]]


def test_of_a_region_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrases, "ROWS", 3)
    rng = np.random.default_rng(0)
    rows = empty_rows([4] * 10, [(8, 8)] * 10, 5, 2, features=np.float32)
    rows["tags"][:, :4] = rng.integers(-1, 4, (10, 4))
    rows["attributes"][:, :4] = rng.integers(-1, 3, (10, 4))
    keys, tables = [str(n) for n in range(10)], {"tags": TAGS, "attributes": ATTRIBUTES}
    made = {"made_by": MadeBy("test"), "columns": region_columns(5, 2), "keys": keys, "tables": tables}
    with CacheWriter.open(tmp_path, **made) as writer, writer.shard(0) as out:  # type: ignore[arg-type]
        out.append(keys, rows)
    found = TagPhrases.of(CacheReader.open(tmp_path))
    named = list(zip(rows["tags"].ravel().tolist(), rows["attributes"].ravel().tolist(), strict=True))
    assert set(found.phrases) == {literal(*pair) for pair in named} - {""}
    numbers = found.numbers(rows["tags"], rows["attributes"])
    assert numbers.shape == (10, 5)
    for number, pair in zip(numbers.ravel().tolist(), named, strict=True):
        assert (found.phrases[number] if number >= 0 else "") == literal(*pair)

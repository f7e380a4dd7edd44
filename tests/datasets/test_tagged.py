from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from itmkit.datasets.tagged import Division, read_lists, tags_in

IDS = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=40, unique=True)


@given(IDS, st.integers(0, 20), st.integers(0, 20), st.none() | st.integers(1, 20), st.integers(0, 3), st.randoms())
def test_division_has_the_sizes_asked_for_whatever_the_order(ids, test, val, train, seed, random) -> None:  # type: ignore[no-untyped-def]
    division, problems = Division(test, val, train, seed), []
    splits = division.splits(ids, problems)
    if test + val >= len(ids):
        assert problems and not splits
        return
    rest = len(ids) - test - val
    expected = {"test": test, "val": val, "train": rest if train is None else min(train, rest)}
    assert Counter(splits.values()) == {split: count for split, count in expected.items() if count}
    assert splits == division.splits(random.sample(ids, len(ids)), [])


def test_another_seed_draws_others() -> None:
    ids = [str(number) for number in range(1000)]
    first, second = (Division(500, 0, None, seed).splits(ids, []) for seed in (0, 1))
    same = sum(first[id] == second[id] for id in ids)
    assert 400 < same < 600


def test_val_comes_from_the_database_else_from_train() -> None:
    lists = {"train": list("abcd"), "test": list("ef"), "database": list("abcdghij")}
    splits = Division(None, 2, None, 0).listed(lists, [])
    assert {id for id, split in splits.items() if split == "train"} == set("abcd")
    assert {id for id, split in splits.items() if split == "val"} < set("ghij") and len(splits) == 8
    del lists["database"]
    assert Counter(Division(None, 3, None, 0).listed(lists, []).values()) == {"train": 1, "val": 3, "test": 2}
    problems: list[str] = []
    assert Division(None, 4, None, 0).listed(lists, problems) == {}
    assert problems == ["--val 4: the train list has 4 images to take them from"]


def test_an_image_that_is_a_query_and_trained_on_is_a_query() -> None:
    assert Division(None, 0, None, 0).listed({"train": ["a", "b"], "test": ["b"]}, []) == {"a": "train", "b": "test"}


def test_tags_by_vocabulary_or_count() -> None:
    tags = [["sky", "sea", "sky"], ["sky"], ["sea", "x"], []]
    assert tags_in(tags, ["x", "sky", "never"], None) == ([["sky"], ["sky"], ["x"], []], 3)
    # A tag that one image has twice counts once.
    assert tags_in(tags, None, 2) == ([["sky", "sea"], ["sky"], ["sea"], []], 2)
    assert tags_in([["a", "a"], ["b"], ["b"]], None, 2) == ([[], ["b"], ["b"]], 1)


def test_everything_wrong_with_lists_is_found(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.jpg 0 1\n\nb.jpg 2 1\nc.jpg 0 1 1\n")
    (tmp_path / "test.txt").write_text("x\\d.jpg 0 1\na.jpg 1 1\n")
    problems: list[str] = []
    found = read_lists(tmp_path, problems)
    assert problems == [
        f"{tmp_path / 'train.txt'}: line 3: expected a path and labels that are 0 or 1, found '2'",
        f"{tmp_path / 'train.txt'}: line 4: has 3 labels, most lines 2",
        f"{tmp_path / 'test.txt'}: line 2: a.jpg is listed before, at {tmp_path / 'train.txt'}: line 1",
    ]
    assert [(line.path, line.columns) for line in found["test"]] == [("x/d.jpg", ("0", "1")), ("a.jpg", ("1", "1"))]
    problems.clear()
    assert read_lists(tmp_path / "typo", problems) == {}
    assert problems == [
        f"{tmp_path / 'typo'}: has no list of the train images (TrainImagelist.txt or train.txt)",
        f"{tmp_path / 'typo'}: has no list of the test images (TestImagelist.txt or test.txt)",
    ]

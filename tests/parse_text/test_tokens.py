from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itmkit.parse_text.tokens import LONGEST_SENTENCE, tokenise


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man doesn't ride the dog's bike.", "A man does n't ride the dog 's bike ."),
        ("A dog runs .", "A dog runs ."),
        ("a t-shirt and a co-worker", "a t - shirt and a co-worker"),
        ("I can't; they cannot, we’re gonna", "I ca n't ; they can not , we ’re gon na"),
        ("does n't it 's", "does n't it 's"),
        ("Mr. Smith at 7:30 on the 1st, 1,000 times", "Mr. Smith at 7:30 on the 1st , 1,000 times"),
        ("see http://a.org/x?y=1, or me@b.com.", "see http://a.org/x?y=1 , or me@b.com ."),
        ('O\'Brien said "go!!" ...', 'O\'Brien said " go !! " ...'),
        ("👨‍👩‍👧 waves 👍🏽", "👨‍👩‍👧 waves 👍🏽"),
        ("dogs' bowls, and/or cats", "dogs ' bowls , and / or cats"),
        ("e\u0301te\u0301", "e\u0301te\u0301"),
        ("", ""),
        (" \t\n ", ""),
    ],
)
def test_words(text: str, words: str) -> None:
    assert tokenise(text).words == words.split()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Two dogs run. It is late!", ["Two dogs run .", "It is late !"]),
        ("a dog . a cat .", ["a dog .", "a cat ."]),
        ("A dog runs .", ["A dog runs ."]),
        ("A sign says approx. ten dogs", ["A sign says approx. ten dogs"]),
        ("A file named a.txt is open", ["A file named a.txt is open"]),
        ('"Go." Then he left.', ['" Go . "', "Then he left ."]),
        (". . .", [". . ."]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    tokens = tokenise(text)
    assert [" ".join(tokens.words[a:b]) for a, b in tokens.sentence_bounds()] == sentences


def check(text: str) -> None:
    tokens = tokenise(text)
    end_before = 0
    for word, start, end in zip(tokens.words, tokens.starts, tokens.ends, strict=True):
        assert start >= end_before and word and text[start:end] == word and not word.isspace()
        assert not text[end_before:start].strip()
        end_before = end
    assert not text[end_before:].strip()
    steps = [b - a for a, b in zip([0, *tokens.sentences], tokens.sentences, strict=False)]
    assert all(step in (0, 1) for step in steps) and steps[:1] in ([], [0])
    assert all(b - a <= LONGEST_SENTENCE for a, b in tokens.sentence_bounds())


ODD = ["a", "dog's", "can't", ".", "!", "?", "-", "'", "’", "n't", "Mr.", "e-x", '"', ")", "..", "3.5", ",\n"]


@given(st.text())
def test_offsets_reproduce_any_text(text: str) -> None:
    check(text)


@given(st.lists(st.sampled_from(ODD), max_size=60))
def test_offsets_reproduce_odd_english(pieces: list[str]) -> None:
    check(" ".join(pieces))
    check("".join(pieces))


def test_very_long_captions_are_cut_into_sentences() -> None:
    words = tokenise("dog " * 10_000)
    assert len(words) == 10_000 and words.sentences[-1] == -(-10_000 // LONGEST_SENTENCE) - 1
    check("a dog , " * 1000)
    # A sentence is cut after its last comma, where it has one in its second half.
    tokens = tokenise("dog " * 200 + ", " + "cat " * 100)
    assert tokens.words[tokens.sentence_bounds()[0][1] - 1] == ","

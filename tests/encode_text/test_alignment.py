"""Pieces and words meet by characters, whatever the text and the tokeniser."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.encode_text.alignment import Spans, means, pieces_of_words
from itmkit.encode_text.encoder import LanguageModel
from itmkit.parse_text.tokens import tokenise
from tests.encode_text.tiny_encoders import ENCODERS, tokenizer_of

TOKENIZERS = {kind: tokenizer_of(kind) for kind in ENCODERS if kind != "distilbert"}
ODD = [
    "", " ", "...", "?!,;", "a\tb\nc", "café naïve ﬁne", "e\u0301te\u0301", "👩‍👩‍👧‍👦 and 🇬🇧!", "中文字 a",
    "soft\u00adhyphen zero\u200bwidth", "\u200b", "Ǆ İ ß ſ", "x" * 300, "don't t-shirt cannot",
    "a dog . " * 40, "①②③ ½ ™", "\u0007 bell", "ab\ufeffcd",
]  # fmt: skip


def spans(stretches: list[list[tuple[int, int]]]) -> Spans:
    flat = np.array([pair for one in stretches for pair in one], np.int64).reshape(-1, 2)
    return Spans(np.cumsum([0, *map(len, stretches)]), flat[:, 0], flat[:, 1])


def literal(pieces: list[list[tuple[int, int]]], words: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Character by character."""
    found, word_number = [], 0
    first_piece = np.cumsum([0, *map(len, pieces)])
    for text, own in enumerate(words):
        for start, end in own:
            for number, (begin, stop) in enumerate(pieces[text]):
                if set(range(start, end)) & set(range(begin, stop)):
                    found.append((word_number, int(first_piece[text]) + number))
            word_number += 1
    return found


stretch = st.tuples(st.integers(0, 12), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))
some_texts = st.lists(st.tuples(st.lists(stretch, max_size=6), st.lists(stretch, max_size=6)), min_size=1, max_size=5)


@settings(max_examples=80, deadline=None)
@given(some_texts)
def test_every_pair_that_shares_a_character(texts: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]]) -> None:
    """In any order, overlapping, empty."""
    pieces, words = [one for one, _ in texts], [other for _, other in texts]
    which, members = pieces_of_words(spans(pieces), spans(words))
    assert list(zip(which.tolist(), members.tolist(), strict=True)) == literal(pieces, words)


def check(kind: str, texts: list[str]) -> None:
    encoder = LanguageModel("", 0, 512, [], [], -1, None, TOKENIZERS[kind], None)  # type: ignore[arg-type]
    ids, pieces = encoder.pieces(texts)
    parsed = [tokenise(text) for text in texts]
    words = spans([list(zip(one.starts, one.ends, strict=True)) for one in parsed])
    assert len(ids) == len(pieces) == pieces.offsets[-1]
    which, members = pieces_of_words(pieces, words)
    per_text = [list(zip(pieces.starts[a:b].tolist(), pieces.ends[a:b].tolist(), strict=True))
                for a, b in zip(pieces.offsets[:-1], pieces.offsets[1:], strict=True)]  # fmt: skip
    per_word = [list(zip(one.starts, one.ends, strict=True)) for one in parsed]
    assert list(zip(which.tolist(), members.tolist(), strict=True)) == literal(per_text, per_word)
    # No piece that stands for more than white space is lost.
    missed = np.setdiff1d(np.arange(len(pieces)), members)
    of = pieces.texts
    assert all(not texts[of[p]][pieces.starts[p] : pieces.ends[p]].strip() for p in missed.tolist())


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_odd_texts(kind: str) -> None:
    check(kind, ODD)
    for text in ODD:
        check(kind, [text])


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_any_text(kind: str, texts: list[str]) -> None:
    check(kind, texts)


@pytest.mark.skipif("ITMKIT_TEST_DATA" not in os.environ, reason="needs ITMKIT_TEST_DATA")
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_real_captions(kind: str) -> None:
    """Some of COCO's; tests/benchmarks/encoding.py --check does it for whole corpora."""
    path = Path(os.environ["ITMKIT_TEST_DATA"]) / "precomp_captions" / "coco_precomp" / "testall_caps.txt"
    captions = path.read_text(encoding="utf-8").splitlines()
    assert len(captions) == 25_000
    check(kind, captions[::250])


def test_means() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    found = means(vectors, np.array([0, 0, 2, 2, 2]), np.array([5, 1, 1, 2, 3]), 4)
    expected = [vectors[[5, 1]].mean(0), np.zeros(3), vectors[[1, 2, 3]].mean(0), np.zeros(3)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert means(vectors, np.zeros(0, np.int64), np.zeros(0, np.int64), 2).tolist() == [[0, 0, 0]] * 2

"""Vectors of pieces against direct calls of transformers, one text at a time."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itmkit.encode_text.alignment import Spans
from itmkit.encode_text.encode import word_vectors
from itmkit.encode_text.encoder import Layer, Padding, load_language_model, windows
from itmkit.errors import ItmkitError
from itmkit.machine.device import Precision
from tests.encode_text.tiny_encoders import ENCODERS, LIMIT, TEXTS, build_encoder
from tests.regions.tiny_models import build

SHORT = ["a man", "", "the red ball isn't here", "a dog", "a woman's t-shirt", "café"]


@lru_cache(maxsize=1)
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def direct(folder: Path, text: str, layer: Layer = -1) -> np.ndarray:
    """The vectors of a text's own pieces, special ones cut away."""
    return states_of(folder, text, layer)[1:-1]


def states_of(folder: Path, text: str, layer: Layer = -1) -> np.ndarray:
    """The vectors of all tokens of a text, special ones too."""
    network, tokenizer = loaded(folder)
    with torch.no_grad():
        made = tokenizer(text, return_tensors="pt")
        layers = network(**made, output_hidden_states=True).hidden_states
    found = torch.stack(layers[-4:]).mean(0) if layer == "last4" else layers[int(layer)]
    return found[0].numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("layer", [-1, 1, "last4"])
def test_vectors_are_the_models_own(tmp_path: Path, kind: str, layer: Layer) -> None:
    folder = build_encoder(kind, tmp_path, layers=4)
    encoder = load_language_model(folder, layer=layer)
    assert (encoder.dim, encoder.limit, len(encoder.before), len(encoder.after)) == (16, LIMIT, 1, 1)
    texts = [text for text in SHORT if len(encoder.pieces([text])[0]) <= LIMIT - 2]
    assert len(texts) >= 4
    ids, pieces = encoder.pieces(texts)
    found, sentences = encoder.vectors(ids, pieces, batch_tokens=40)
    assert sentences.dtype == np.float32 and sentences.shape == (len(texts), 16)
    assert encoder.sentence == ("[CLS]" if "bert" in kind and "roberta" not in kind else "<s>")
    for text, sentence in zip(texts, sentences, strict=True):
        expected = states_of(folder, text, layer)[0] if text else np.zeros(16)
        np.testing.assert_allclose(sentence, expected, atol=2e-5)
    assert found.dtype == np.float32 and found.shape == (len(ids), 16)
    for k, text in enumerate(texts):
        np.testing.assert_allclose(
            found[pieces.offsets[k] : pieces.offsets[k + 1]], direct(folder, text, layer), atol=2e-5
        )


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_result_does_not_depend_on_the_others(tmp_path: Path, kind: str) -> None:
    encoder = load_language_model(build_encoder(kind, tmp_path))
    ids, pieces = encoder.pieces(TEXTS)
    together = encoder.vectors(ids, pieces, batch_tokens=10_000)
    for batch in (1, 17, 60):
        for found, expected in zip(encoder.vectors(ids, pieces, batch_tokens=batch), together, strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-5)


def test_long_texts_run_in_windows(tmp_path: Path) -> None:
    folder = build_encoder("bert", tmp_path)
    encoder = load_language_model(folder)
    text = "a man rides a dog . " * 40
    ids, pieces = encoder.pieces([text, "a dog", ""])
    cuts = windows(pieces, LIMIT - 2)
    assert (cuts[:, 1] - cuts[:, 0] <= LIMIT - 2).all()
    assert sorted(piece for begin, end in cuts.tolist() for piece in range(begin, end)) == list(range(len(ids)))
    found, sentences = encoder.vectors(ids, pieces, batch_tokens=100)
    for begin, end in cuts.tolist():
        source = text if end <= pieces.offsets[1] else "a dog"
        np.testing.assert_allclose(
            found[begin:end], direct(folder, source[pieces.starts[begin] : pieces.ends[end - 1]]), atol=2e-5
        )
    parts = [text[pieces.starts[begin] : pieces.ends[end - 1]] for begin, end in cuts.tolist()[1:]]
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    windowed = np.mean([states_of(folder, part)[0] for part in parts], axis=0)  # [CLS] of each window
    np.testing.assert_allclose(sentences, [windowed, states_of(folder, "a dog")[0], np.zeros(16)], atol=2e-5)


def test_a_model_without_a_first_token_gives_the_mean_of_its_pieces(tmp_path: Path) -> None:
    encoder = load_language_model(build_encoder("bert", tmp_path))
    encoder.before = []
    ids, pieces = encoder.pieces(["a man rides", "", "a dog"])
    found, sentences = encoder.vectors(ids, pieces, batch_tokens=100)
    assert encoder.sentence == "mean" and not sentences[1].any()
    for text in (0, 2):
        own = found[pieces.offsets[text] : pieces.offsets[text + 1]]
        np.testing.assert_allclose(sentences[text], own.mean(axis=0), atol=1e-6)


def test_windows_end_at_white_space_where_there_is_some() -> None:
    starts = np.array([0, 2, 3, 4, 6, 7, 8, 9, 10, 11])
    pieces = Spans(np.array([0, 10]), starts, starts + 1)  # "x xxx xxxxxx"
    assert windows(pieces, 3).tolist() == [[0, 1], [1, 4], [4, 7], [7, 10]]
    assert windows(Spans(np.array([0, 0, 2]), np.array([0, 1]), np.array([1, 2])), 3).tolist() == [[0, 2]]


def test_a_word_is_the_mean_of_its_pieces(tmp_path: Path) -> None:
    folder = build_encoder("bert", tmp_path)
    encoder = load_language_model(folder)
    text = "unbelievable isn't"
    ids, pieces = encoder.pieces([text])
    words = Spans(np.array([0, 3]), np.array([0, 13, 15]), np.array([12, 15, 18]))  # unbelievable, is, n't
    found, _, bare = word_vectors(encoder, [text], words, batch_tokens=100)
    own = direct(folder, text)
    for k, (start, end) in enumerate(zip(words.starts, words.ends, strict=True)):
        shared = [p for p in range(len(ids)) if pieces.starts[p] < end and pieces.ends[p] > start]
        assert shared
        np.testing.assert_allclose(found[k], sum(own[p] for p in shared) / len(shared), atol=2e-3)
    assert bare == 0 and found.dtype == np.float16


def test_a_word_the_tokeniser_leaves_nothing_of(tmp_path: Path) -> None:
    encoder = load_language_model(build_encoder("bert", tmp_path))
    words = Spans(np.array([0, 2]), np.array([0, 2]), np.array([1, 3]))
    found, _, bare = word_vectors(encoder, ["a \u200b"], words, batch_tokens=100)  # a zero-width space
    assert bare == 1 and found[0].any() and not found[1].any()


def test_padding_is_counted(tmp_path: Path) -> None:
    encoder, padding = load_language_model(build_encoder("bert", tmp_path)), Padding()
    ids, pieces = encoder.pieces(["a", "a a a", "a a"])
    encoder.vectors(ids, pieces, batch_tokens=10_000, padding=padding)
    assert (padding.tokens, padding.padding) == (15, 3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_halves_differ_by_rounding(tmp_path: Path, precision: Precision) -> None:
    folder = build_encoder("bert", tmp_path)
    exact, halved = load_language_model(folder), load_language_model(folder, precision=precision)
    ids, pieces = exact.pieces(TEXTS)
    one, other = (encoder.vectors(ids, pieces, batch_tokens=100)[0] for encoder in (exact, halved))
    assert other.dtype == np.float32
    assert 0 < np.abs(one - other).max() / np.abs(one).max() < (0.05 if precision == "bfloat16" else 0.006)


def test_models_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="has no tokeniser"):
        load_language_model(build("vit", tmp_path / "vit"))
    folder = build_encoder("bert", tmp_path / "bert")
    with pytest.raises(ItmkitError, match=r"has no layer 9; there are 0 \(the embeddings\) to 2"):
        load_language_model(folder, layer=9)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ItmkitError, match="is no model that transformers can load"):
        load_language_model(folder)
    with pytest.raises(ItmkitError, match="not in the local hub cache"):
        load_language_model("nobody/nothing-of-this-name")

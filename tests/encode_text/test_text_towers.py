"""Text towers of dual encoders and encoders of T5, each against a literal call of transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from itmkit.encode_text.alignment import Spans
from itmkit.encode_text.encode import word_vectors
from itmkit.encode_text.encoder import load_language_model
from tests.embed.tiny_duals import END, LIMIT, PAD, START, WORDS, build_dual, save_dual
from tests.models.test_tokenizer import build_sentencepiece, sentencepiece_itself

TEXTS = ["a dog", "the red ball of a blue dog", "cat runs"]


def ids_of(text: str) -> list[int]:
    return [START, *(WORDS.index(word) + 4 for word in text.split()), END]


def build_t5(folder: Path) -> Path:
    torch.manual_seed(0)
    config = t.T5Config(
        vocab_size=15, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=PAD, eos_token_id=END,
        decoder_start_token_id=PAD,
    )  # fmt: skip
    return save_dual(t.T5ForConditionalGeneration(config), "t5", folder)


def literal(kind: str, folder: Path, text: str) -> np.ndarray:
    """(L, 16) of a text by itself."""
    ids = ids_of(text)
    with torch.no_grad():
        if kind == "t5":
            encoder: Any = t.T5EncoderModel.from_pretrained(folder).eval()
            return encoder(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()  # type: ignore[no-any-return]
        if kind == "siglip":
            ids = ids + [PAD] * (LIMIT - len(ids))
        network: Any = (t.CLIPModel if kind == "clip" else t.SiglipModel).from_pretrained(folder).eval()
        return network.text_model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["clip", "siglip", "t5"])
def test_words_and_texts_are_the_towers_own(tmp_path: Path, kind: str) -> None:
    folder = build_t5(tmp_path) if kind == "t5" else build_dual(kind, tmp_path)
    encoder = load_language_model(folder)
    assert encoder.sentence == {"clip": "<end>", "siglip": "last token", "t5": "<start>"}[kind]
    layers = {"clip": 2, "siglip": 2, "t5": 1}[kind]
    assert encoder.in_context and not replace(encoder, layer=-1 - layers).in_context
    ids, pieces = encoder.pieces(TEXTS)
    found, sentences = encoder.vectors(ids, pieces, batch_tokens=100)
    for k, text in enumerate(TEXTS):
        states, count = literal(kind, folder, text), len(text.split())
        np.testing.assert_allclose(found[pieces.offsets[k] : pieces.offsets[k + 1]], states[1 : 1 + count], atol=1e-4)
        place = {"clip": count + 1, "siglip": LIMIT - 1, "t5": 0}[kind]
        np.testing.assert_allclose(sentences[k], states[place], atol=1e-4)
    if kind == "clip":  # its first token sees nothing but itself
        np.testing.assert_allclose(literal(kind, folder, TEXTS[0])[0], literal(kind, folder, TEXTS[1])[0], atol=1e-5)


def test_words_of_siglip_in_capitals(tmp_path: Path) -> None:
    """SigLIP 2 reads lower case; a letter that becomes two does not move the words after it."""
    folder = build_dual("siglip", tmp_path)
    encoder = load_language_model(folder)
    encoder.lower = True
    words = Spans(np.array([0, 2, 4]), np.array([0, 2, 0, 2]), np.array([1, 5, 1, 5]))
    found, _, bare = word_vectors(encoder, ["A DOG", "a dog"], words, batch_tokens=100)
    np.testing.assert_array_equal(found[:2], found[2:])
    assert bare == 0 and encoder._cased("İ dog") == "İ dog"


def test_deberta_with_a_tokeniser_of_sentencepiece_alone(tmp_path: Path) -> None:
    """As DeBERTa-v3 is published."""
    build_sentencepiece("deberta-v2", tmp_path)
    torch.manual_seed(0)
    config = t.DebertaV2Config(
        vocab_size=99, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    network = t.DebertaV2Model(config).eval()
    network.save_pretrained(tmp_path)
    encoder = load_language_model(tmp_path)
    found, sentence = encoder.vectors(*encoder.pieces(["the red ball"]), batch_tokens=100)
    tokenizer = sentencepiece_itself(tmp_path / "spm.model")
    with torch.inference_mode():
        states = network(torch.tensor([[1, *tokenizer.encode("the red ball"), 2]])).last_hidden_state[0]
    np.testing.assert_allclose(found, states[1:-1], atol=1e-5)
    np.testing.assert_allclose(sentence[0], states[0], atol=1e-5)

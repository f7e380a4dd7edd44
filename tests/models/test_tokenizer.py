"""Tokenisers in SentencePiece's form only: numbers are those of SentencePiece itself, and what is missing is said."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from itmkit.errors import ItmkitError
from itmkit.models import tokenizer as tokenizers
from itmkit.models.tokenizer import load_tokenizer

TEXTS = [
    "A man rides a bicycle, two dogs are running on the beach!", "the red ball isn't here", "a woman's t-shirt",
    "riding, running, playing, walking", "naïve café; fine things, unbelievable IV",
]  # fmt: skip
HARD = [
    *TEXTS,
    "two  spaces\tand\na line",
    " at the ends ",
    "ﬁne Ⅳ ｒｅｄ…",
    "an emoji 😀 unknown",
    "zero\u200bwidth\u200b",
]
# Family -> (the file, settings of its vocabulary, how far its numbers lie above those of SentencePiece).
FAMILIES: dict[str, tuple[str, dict[str, Any], int]] = {
    "deberta-v2": (
        "spm.model",
        {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
         "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
        0,
    ),
    "t5": ("spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, 0),
    "xlm-roberta": ("sentencepiece.bpe.model", {}, 1),
    "camembert": ("sentencepiece.bpe.model", {}, 4),
    "albert": (
        "spiece.model",
        {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "bos_piece": "[CLS]", "eos_piece": "[SEP]"},
        0,
    ),
}  # fmt: skip


def sentencepiece_itself(file: Path) -> Any:
    return pytest.importorskip("sentencepiece").SentencePieceProcessor(model_file=str(file))


def build_sentencepiece(kind: str, folder: Path) -> Path:
    """Saves the tokeniser of a family as its published models have it, without tokenizer.json: the file it lies in."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    file, settings, _ = FAMILIES[kind]
    made = io.BytesIO()
    trainer.train(
        sentence_iterator=iter(TEXTS * 4), model_writer=made, vocab_size=90, hard_vocab_limit=False, minloglevel=2,
        **settings,
    )  # fmt: skip
    (folder / file).write_bytes(made.getvalue())
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder / file


@pytest.mark.parametrize("kind", FAMILIES)
def test_numbers_are_those_of_sentencepiece_itself(kind: str, tmp_path: Path) -> None:
    reference = sentencepiece_itself(build_sentencepiece(kind, tmp_path))
    tokenizer = load_tokenizer(tmp_path, "models/x")
    unknown = tokenizer.unk_token_id
    for text in HARD:
        if kind == "albert":  # it was trained in lower case, without accents
            text = text.lower().replace("ï", "i").replace("é", "e")
        wanted = [
            unknown if number == reference.unk_id() else number + FAMILIES[kind][2] for number in reference.encode(text)
        ]
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == wanted, text
    made = tokenizer(HARD[0], add_special_tokens=False, return_offsets_mapping=True)
    assert tokenizer.is_fast and made["offset_mapping"][-1][1] == len(HARD[0])


def test_the_characters_of_deberta_are_those_of_its_file(tmp_path: Path) -> None:
    """transformers 5 makes its normaliser anew and leaves the table of characters out."""
    from tokenizers import normalizers

    build_sentencepiece("deberta-v2", tmp_path)
    tokenizer = load_tokenizer(tmp_path, "models/x")
    whole = tokenizer("ﬁne ｒｅｄ")["input_ids"]
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "spm.model").unlink()
    again = load_tokenizer(tmp_path, "models/x")
    assert again("ﬁne ｒｅｄ")["input_ids"] == whole == tokenizer("fine red")["input_ids"]
    assert isinstance(again.backend_tokenizer.normalizer, normalizers.Sequence)


@pytest.mark.parametrize("file", tokenizers.SENTENCEPIECE)
def test_what_is_missing_is_said(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / file).write_bytes(b"pieces")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5" if "spiece" in file else "deberta-v2"}))
    monkeypatch.setattr(tokenizers, "_can_read", lambda: False)
    with pytest.raises(
        ItmkitError, match=rf"models/x: .*only there as {file}.*itmkit\[sentencepiece\].*tokenizer\.json"
    ):
        load_tokenizer(tmp_path, "models/x")
    monkeypatch.setattr(tokenizers, "_can_read", lambda: True)
    with pytest.raises(ItmkitError, match="models/x: its tokeniser fails"):
        load_tokenizer(tmp_path, "models/x")

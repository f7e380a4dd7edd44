from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from itmkit.errors import ItmkitError
from itmkit.inputs.vocabulary import Vocabulary


def test_frequent_words_in_a_fixed_order() -> None:
    words = ["a"] * 9 + ["Dog"] * 3 + ["dog"] * 2 + ["cat"] * 5 + ["rare"] * 3 + ["<pad>"] * 8
    vocabulary = Vocabulary.build(words)
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "a", "cat", "dog")
    assert vocabulary == Vocabulary.build(dict(reversed(Counter(words).items())))
    assert vocabulary.encode(["A", "dog", "rare", "<end>"]).tolist() == [4, 6, 3, 2]
    cased = Vocabulary.build(words, minimum=2, lower=False)
    assert cased.encode(["Dog", "dog", "DOG"]).tolist() == [7, 8, 3] or len(set(cased.words)) == len(cased)


def test_scan_json_round_trip(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build(["naïve", "👍", "dog"], minimum=1)
    path = tmp_path / "vocab.json"
    vocabulary.write(path)
    raw = json.loads(path.read_text("utf-8"))
    assert raw["word2idx"]["<unk>"] == 3 and raw["idx2word"]["0"] == "<pad>" and raw["idx"] == len(vocabulary)
    assert Vocabulary.read(path) == vocabulary


@pytest.mark.parametrize(
    "content",
    [[], {}, {"word2idx": {"<pad>": 0, "a": 1}}, {"word2idx": {"<pad>": 0, "a": 2}}, {"word2idx": {"a": "b"}}],
)
def test_other_files_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ItmkitError, match=r"vocab\.json"):
        Vocabulary.read(path)

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itmkit.errors import ItmkitError
from itmkit.job import Job
from itmkit.parse_text.parse import parse_text
from itmkit.parse_text.spacy_backend import SpacyBackend
from itmkit.parse_text.store import TextCache
from itmkit.workspace import Workspace


@pytest.fixture(scope="module")
def spacy() -> Any:
    """Loaded by the process that runs these tests alone: that takes a while."""
    spacy = pytest.importorskip("spacy")

    @spacy.Language.component("itmkit_test_chain")
    def chain(doc: Any) -> Any:
        """Hangs each word on the one before it; a new sentence begins after every full stop."""
        heads, relations, starts = [], [], []
        for token in doc:
            first = token.i == 0 or doc[token.i - 1].text == "."
            starts.append(first)
            heads.append(token.i if first else token.i - 1)
            relations.append("ROOT" if first else "dep")
        if not len(doc):
            return doc
        return spacy.tokens.Doc(
            doc.vocab,
            words=[t.text for t in doc],
            spaces=[bool(t.whitespace_) for t in doc],
            heads=heads,
            deps=relations,
            sent_starts=None,
        )

    return spacy


@pytest.fixture
def pipeline(spacy: Any, tmp_path: Path) -> Path:
    nlp = spacy.blank("en")
    nlp.add_pipe("itmkit_test_chain")
    nlp.to_disk(tmp_path / "chain")
    return tmp_path / "chain"


def test_words_heads_sentences_and_offsets(pipeline: Path, make_workspace: Callable[..., Workspace]) -> None:
    captions = ["Two dogs  run . They don't stop .", " a cat ", "\n", "👍 ok", "a b"]
    parsed = SpacyBackend(str(pipeline)).parse(captions, 2)
    assert parsed.lengths.tolist() == [9, 2, 0, 2, 2]
    workspace = make_workspace([captions[0], captions[1]], [captions[3], captions[0]])
    result = parse_text(workspace, parser="spacy", model=str(pipeline), job=Job(shard_size=2))
    assert result.distinct == 3
    cache = TextCache.open(workspace.cache("text"))
    arrays = cache.load_texts([captions[0]])
    words = [cache.words[i] for i in arrays.words]
    assert words == ["Two", "dogs", "run", ".", "They", "do", "n't", "stop", "."]
    assert [captions[0][a:b] for a, b in zip(arrays.starts, arrays.ends, strict=True)] == words
    assert arrays.heads.tolist() == [0, 0, 1, 2, 4, 4, 5, 6, 7]
    assert arrays.sentences.tolist() == [0] * 4 + [1] * 5
    assert [cache.lemmas[i] for i in arrays.lemmas][:2] == ["two", "dogs"]  # no lemmatiser: lower-cased words
    arrays = cache.load_texts([captions[1]])
    assert [cache.words[i] for i in arrays.words] == ["a", "cat"] and arrays.heads.tolist() == [0, 0]


def test_batches_do_not_change_the_result(pipeline: Path) -> None:
    backend = SpacyBackend(str(pipeline))
    texts = [f"a {'very ' * (n % 7)}big dog . it is {n} ." for n in range(40)]
    one, many = backend.parse(texts, 1), backend.parse(texts, 64)
    assert one.heads.tolist() == many.heads.tolist() and one.starts.tolist() == many.starts.tolist()


def test_a_pipeline_without_parser_is_refused(spacy: Any, tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(ItmkitError, match="no dependency parser"):
        SpacyBackend(str(tmp_path / "blank"))


def test_missing_pipelines_tell_the_ways_out(spacy: Any, tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="python -m spacy download xx_no_such_pipeline"):
        SpacyBackend("xx_no_such_pipeline")
    with pytest.raises(ItmkitError, match="not a folder of a spaCy pipeline"):
        SpacyBackend(str(tmp_path))


def test_without_spacy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name.split(".")[0] == "spacy":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ItmkitError, match=r"itmkit\[spacy\]"):
        SpacyBackend("en_core_web_sm")

"""The backend with a stand-in for stanza: its classes' attributes, not its models, which are never downloaded."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from itmkit.errors import ItmkitError
from itmkit.parse_text.parse import parse_text
from itmkit.parse_text.parsed import Coded
from itmkit.parse_text.stanza_backend import StanzaBackend
from itmkit.parse_text.store import TextCache
from itmkit.workspace import Workspace

EXPANDED = {"don't": ["do", "n't"], "wanna": ["want", "to"]}


class Pipeline:
    """Hangs each word on the one before it; a full stop ends a sentence; some tokens are two words."""

    asked: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        type(self).asked = options
        if not (Path(options["dir"]) / "resources.json").exists():
            raise FileNotFoundError("Resources file not found")

    def bulk_process(self, documents: list[Any]) -> list[Any]:
        for document in documents:
            assert document.text.strip()
            document.sentences = [SimpleNamespace(tokens=[])]
            at = 0
            for surface in document.text.split():
                at = document.text.index(surface, at)
                tokens = document.sentences[-1].tokens
                head = sum(len(token.words) for token in tokens)
                words = []
                for k, text in enumerate(EXPANDED.get(surface, [surface])):
                    relation = "dep" if head + k else "root"
                    words.append(
                        SimpleNamespace(text=text, lemma=None, upos="NOUN", head=head + k, deprel=relation, xpos="NN")
                    )
                tokens.append(SimpleNamespace(words=words, start_char=at, end_char=at + len(surface)))
                at += len(surface)
                if surface == ".":
                    document.sentences.append(SimpleNamespace(tokens=[]))
        return documents


@pytest.fixture
def stanza(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("stanza")
    module.__version__ = "1.13.0"  # type: ignore[attr-defined]
    module.Pipeline = Pipeline  # type: ignore[attr-defined]
    module.Document = lambda sentences, text: SimpleNamespace(sentences=sentences, text=text)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stanza", module)
    return module


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for processor in ("tokenize", "mwt", "pos", "lemma", "depparse"):
        (tmp_path / "models" / "en" / processor).mkdir(parents=True)
        (tmp_path / "models" / "en" / processor / "combined.pt").write_text(processor)
    (tmp_path / "models" / "resources.json").write_text("{}")
    return tmp_path / "models"


def strings(column: Coded) -> list[str]:
    return [column.strings[i] for i in column.codes]


def test_words_heads_sentences_and_characters(stanza: ModuleType, models: Path) -> None:
    backend = StanzaBackend(models)
    assert Pipeline.asked["download_method"] is None and Pipeline.asked["processors"].startswith("tokenize,mwt,pos")
    texts = ["Dogs  don't run . They wanna .", " ", "a cat"]
    for batch_size in (1, 8):
        parsed = backend.parse(texts, batch_size)
        assert parsed.lengths.tolist() == [9, 0, 2]
        assert strings(parsed.words) == ["Dogs", "do", "n't", "run", ".", "They", "want", "to", ".", "a", "cat"]
        spans = [texts[0][a:b] for a, b in zip(parsed.starts[:9], parsed.ends[:9], strict=True)]
        assert spans == ["Dogs", "do", "n't", "run", ".", "They", "wanna", "wanna", "."]
        assert parsed.heads.tolist() == [0, 0, 1, 2, 3, 5, 5, 6, 7, 0, 0]
        assert parsed.sentences.tolist() == [0] * 5 + [1] * 4 + [0] * 2
        assert strings(parsed.lemmas)[0] == "dogs" and strings(parsed.relations)[5] == "root"


def test_the_stage(stanza: ModuleType, models: Path, make_workspace: Callable[..., Workspace]) -> None:
    workspace = make_workspace(["Dogs don't run .", "a cat"])
    result = parse_text(workspace, parser="stanza", model=str(models))
    assert result.model["id"] == "stanza 1.13.0 en" and len(TextCache.open(workspace.cache("text"))) == 2
    (models / "en" / "pos" / "combined.pt").write_text("other")
    with pytest.raises(ItmkitError, match="sha256"):
        parse_text(workspace, parser="stanza", model=str(models))


def test_the_language_is_that_of_the_folder(stanza: ModuleType, models: Path) -> None:
    (models / "en").rename(models / "de")
    (models / "de" / "mwt").rename(models / "mwt")
    assert StanzaBackend(models).model["id"].endswith(" de")
    assert Pipeline.asked["processors"] == "tokenize,pos,lemma,depparse"
    assert StanzaBackend(models / "de").model == StanzaBackend(models).model
    (models / "fr" / "depparse").mkdir(parents=True)
    with pytest.raises(ItmkitError, match="models of de, fr"):
        StanzaBackend(models)


def test_missing_models(stanza: ModuleType, models: Path, tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="needs --model"):
        StanzaBackend(None)
    with pytest.raises(ItmkitError, match=r"no such folder.*stanza\.download"):
        StanzaBackend(tmp_path / "none")
    with pytest.raises(ItmkitError, match="no language in this folder"):
        StanzaBackend(tmp_path)
    (models / "resources.json").unlink()
    with pytest.raises(ItmkitError, match=r"Resources file not found.*--parser itmkit"):
        StanzaBackend(models)


def test_older_ones_are_refused(stanza: ModuleType, models: Path) -> None:
    stanza.__version__ = "1.9.2"  # type: ignore[attr-defined]
    with pytest.raises(ItmkitError, match=r"stanza 1\.9\.2 .*1\.13"):
        StanzaBackend(models)


def test_without_stanza_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name.split(".")[0] == "stanza":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ItmkitError, match=r"itmkit\[stanza\]"):
        StanzaBackend("models")

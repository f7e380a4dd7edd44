"""New captions are read by the parser of training, wherever it lay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from itmkit.cache import read_manifest
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.inputs.needs import Needs
from itmkit.parse_text.parse import parse_text
from itmkit.parse_text.parsed import ParsedTexts, code
from itmkit.runs.made import keep_manifest
from itmkit.trained.made import Made
from itmkit.trained.texts import NewTexts
from itmkit.workspace import Workspace


def parsed(texts: Sequence[str], batch_size: int) -> ParsedTexts:
    """Every caption is one word."""
    ones, noughts = np.ones(len(texts), np.int32), np.zeros(len(texts), np.int32)
    words = code(texts)
    ends = np.array([len(text) for text in texts], np.int32)
    return ParsedTexts(ones.astype(np.int64), words, words, words, words, noughts, noughts, ends, ones.astype(np.int16))


@pytest.mark.parametrize(
    "parser, model, recorded",
    [
        ("spacy", "en_tiny_sm", "en_tiny_sm 3.8.0"),  # an installed pipeline
        ("spacy", "models/pipeline", "en_tiny_sm 3.8.0"),
        ("spacy", None, "en_core_web_sm 3.8.0"),
        ("stanza", "models/stanza", "stanza 1.13.0 en"),
        ("itmkit", "models/parser", "itmkit-english"),
        ("itmkit", None, "itmkit-english"),
        ("scan", None, "words of published code"),
    ],
)
def test_the_parser_is_looked_for_where_it_lay_when_captions_were_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parser: str, model: str | None, recorded: str
) -> None:
    asked = []

    def load(parser: str, model: str | None, texts: Sequence[str] = ()) -> SimpleNamespace:
        asked.append((parser, model))
        return SimpleNamespace(model={"id": recorded, "sha256": "1"}, parse=parsed)

    monkeypatch.setattr("itmkit.parse_text.parse.load_backend", load)
    monkeypatch.setattr("itmkit.trained.texts.load_backend", load)
    folder = model is not None and "/" in model
    place = str(tmp_path / model) if folder else model
    if folder:
        Path(place or "").mkdir(parents=True)
    workspace = Workspace(tmp_path / "work")
    workspace.root.mkdir()
    images = [ImageRecord(id="0", split="train", captions=(Caption("0#0", "a dog"),))]
    write_dataset(workspace.dataset_path, images, kind="test", settings={})
    cache = parse_text(workspace, parser=parser, model=place).cache
    keep_manifest(cache, cache.name, tmp_path / "run")
    manifest = read_manifest(cache)
    assert manifest is not None
    made = Made(tmp_path / "run", {cache.name: manifest.fingerprint}, {})
    texts = NewTexts(made, Needs(text=cache.name), None, "cpu")
    assert texts.parse(["a new one"]).words.strings == ["a new one"]
    assert asked == [(parser, place), (parser, place)]

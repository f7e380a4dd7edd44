"""stanza pipelines as a backend of `parse_text`. stanza is imported only here, when the backend is made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.parse_text.parsed import LAST_SENTENCE, ParsedTexts, code

OLDEST = (1, 13)  # earlier ones unpickle what a model file holds
PROCESSORS = ("tokenize", "mwt", "pos", "lemma", "depparse")
WITHOUT = "or use --parser itmkit, which needs nothing"


class StanzaBackend:
    """`folder`: where `stanza.download` put its models, one folder a language; nothing is ever downloaded.

    The language is the only one there, or English among several; `folder` may also be that of one language. Runs on
    the CPU, so that the trees are the same for any number of processes.
    """

    def __init__(self, folder: str | Path | None) -> None:
        try:
            import stanza
        except ImportError:
            raise ItmkitError(f'stanza is not installed: pip install "itmkit[stanza]", {WITHOUT}') from None
        self._version = str(stanza.__version__)
        if _numbers(self._version) < OLDEST:
            raise ItmkitError(
                f"stanza {self._version} runs whatever code a model file holds when it loads it;"
                ' stanza 1.13 or later is needed: pip install --upgrade "itmkit[stanza]"'
            )
        self._folder, self._language = _models(folder)
        processors = [p for p in PROCESSORS if p != "mwt" or (self._folder / self._language / p).is_dir()]
        try:
            self._pipeline = stanza.Pipeline(
                lang=self._language,
                dir=str(self._folder),
                processors=",".join(processors),
                download_method=None,
                use_gpu=False,
                logging_level="ERROR",
            )
        except Exception as error:  # stanza raises some of its own and whatever its files give rise to
            raise ItmkitError(
                f"{self._folder}: stanza cannot load its {self._language!r} models from here ({error or type(error)});"
                f" {_download(self._folder, self._language)}"
            ) from None

    @cached_property
    def model(self) -> dict[str, Any]:
        state = hashlib.sha256()
        files = [path for path in (self._folder / self._language).rglob("*") if path.is_file()]
        for file in sorted([*files, *self._folder.glob("resources.json")]):
            state.update(f"{file.relative_to(self._folder).as_posix()} {sha256_file(file)}\n".encode())
        return {"id": f"stanza {self._version} {self._language}", "sha256": state.hexdigest()}

    def parse(self, texts: Sequence[str], batch_size: int) -> ParsedTexts:
        """See `Backend`. Texts of similar length go through the model together."""
        from stanza import Document

        parsed: list[_Caption] = [_Caption() for _ in texts]
        order = sorted((i for i in range(len(texts)) if texts[i].strip()), key=lambda i: (len(texts[i]), i))
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            try:
                documents = self._pipeline.bulk_process([Document([], text=texts[i]) for i in batch])
            except (ValueError, RuntimeError, AssertionError) as error:
                raise ItmkitError(f"stanza failed on a caption: {error}") from error
            for i, document in zip(batch, documents, strict=True):
                parsed[i].add(document, texts[i])
        return ParsedTexts(
            lengths=np.array([len(p.words) for p in parsed], np.int64),
            words=code([word for p in parsed for word in p.words]),
            lemmas=code([lemma for p in parsed for lemma in p.lemmas]),
            pos=code([pos for p in parsed for pos in p.pos]),
            relations=code([relation for p in parsed for relation in p.relations]),
            heads=np.array([head for p in parsed for head in p.heads], np.int32),
            starts=np.array([start for p in parsed for start, _ in p.spans], np.int32),
            ends=np.array([end for p in parsed for _, end in p.spans], np.int32),
            sentences=np.array([n for p in parsed for n in p.sentences], np.int16),
        )


class _Caption:
    """The words of one caption."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.lemmas: list[str] = []
        self.pos: list[str] = []
        self.relations: list[str] = []
        self.heads: list[int] = []
        self.spans: list[tuple[int, int]] = []
        self.sentences: list[int] = []

    def add(self, document: Any, text: str) -> None:
        for number, sentence in enumerate(document.sentences):
            before = len(self.words)
            for token in sentence.tokens:
                for word, (start, end), whole in _placed(token, text):
                    written = text[start:end] if whole else word.text
                    self.words.append(written)
                    self.lemmas.append(word.lemma or written.lower())
                    self.pos.append(word.upos or "X")
                    self.relations.append(word.deprel or "dep")
                    self.heads.append(before + word.head - 1 if word.head else len(self.words) - 1)
                    self.spans.append((start, end))
                    self.sentences.append(min(number, LAST_SENTENCE))


def _placed(token: Any, text: str) -> list[tuple[Any, tuple[int, int], bool]]:
    """(word, its characters in the caption, whether it is what is written there) of each word of a token.

    Words that are pieces of a multi-word token get theirs; others stand for all of the token.
    """
    start, end = token.start_char, token.end_char
    if len(token.words) == 1:
        return [(token.words[0], (start, end), True)]
    if "".join(word.text for word in token.words) != text[start:end]:
        return [(word, (start, end), False) for word in token.words]
    placed = []
    for word in token.words:
        placed.append((word, (start, start + len(word.text)), True))
        start += len(word.text)
    return placed


def _models(folder: str | Path | None) -> tuple[Path, str]:
    """The folder of models and the language among them."""
    if folder is None:
        raise ItmkitError("--parser stanza needs --model FOLDER: where stanza.download put its models")
    path = Path(folder)
    if not path.is_dir():
        raise ItmkitError(f"{path}: no such folder of stanza models; {_download(path, 'en')}")
    if (path / "depparse").is_dir():
        return path.resolve().parent, path.resolve().name
    languages = sorted(place.name for place in path.iterdir() if (place / "depparse").is_dir())
    if not languages:
        raise ItmkitError(f"{path}: no language in this folder has stanza's models; {_download(path, 'en')}")
    if len(languages) > 1 and "en" not in languages:
        raise ItmkitError(
            f"{path}: has models of {', '.join(languages)}; give the folder of one: {path / languages[0]}"
        )
    return path, "en" if "en" in languages else languages[0]


def _download(folder: Path, language: str) -> str:
    return (
        f"where there is internet, python -c \"import stanza; stanza.download('{language}', model_dir='{folder}')\""
        f" puts them there; {WITHOUT}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])

"""spaCy pipelines as a backend of `parse_text`. spaCy is imported only here, when the backend is made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.text.parsed import LAST_SENTENCE, Coded, ParsedTexts

UNUSED = ["ner", "entity_linker", "entity_ruler", "span_ruler", "spancat", "textcat", "textcat_multilabel"]


class SpacyBackend:
    """`name`: an installed pipeline (en_core_web_sm) or a folder that holds one.

    White-space tokens, which spaCy keeps, are dropped. Sentences are the pipeline's; where it sets none, a new one
    begins wherever no arc passes.
    """

    def __init__(self, name: str) -> None:
        try:
            import spacy
        except ImportError:
            raise ItmkitError(
                'spaCy is not installed: pip install "itmkit[spacy]", or use --parser itmkit, which needs nothing'
            ) from None
        try:
            self._pipeline = spacy.load(name, exclude=UNUSED)
        except OSError as error:
            if Path(name).exists():
                raise ItmkitError(f"{name}: not a folder of a spaCy pipeline ({error})") from None
            raise ItmkitError(
                f"spaCy pipeline {name!r} is neither installed nor a folder. Install it"
                f" (python -m spacy download {name}), give the path of one, or use --parser itmkit, which needs nothing"
            ) from None
        except (ImportError, ValueError) as error:
            raise ItmkitError(f"spaCy pipeline {name!r} cannot be loaded: {error}") from None
        self._name = name
        if not self._pipeline("A dog runs .").has_annotation("DEP"):
            parts = ", ".join(self._pipeline.pipe_names) or "none"
            raise ItmkitError(
                f"spaCy pipeline {name!r} has no dependency parser (its parts: {parts});"
                " choose one with a parser, such as en_core_web_sm"
            )

    @cached_property
    def model(self) -> dict[str, Any]:
        meta = self._pipeline.meta
        state = hashlib.sha256()
        folder = Path(self._pipeline.path)
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            state.update(f"{file.relative_to(folder).as_posix()} {sha256_file(file)}\n".encode())
        return {"id": f"{meta['lang']}_{meta['name']} {meta['version']}", "sha256": state.hexdigest()}

    def parse(self, texts: Sequence[str], batch_size: int) -> ParsedTexts:
        """See `Backend`. Texts of similar length are parsed together, which saves padding where there is any."""
        import spacy.attrs as attrs

        columns = ["ORTH", "LEMMA", "POS", "DEP", "HEAD", "SENT_START", "IDX", "LENGTH", "IS_SPACE"]
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        docs: list[NDArray[np.int64]] = [np.zeros((0, len(columns)), np.int64)] * len(texts)
        numbers: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(texts)
        heads: list[NDArray[np.int64]] = list(numbers)
        try:
            parsed = self._pipeline.pipe((texts[i] for i in order), batch_size=batch_size)
            for i, doc in zip(order, parsed, strict=True):
                rows = doc.to_array([getattr(attrs, name) for name in columns]).view(np.int64).reshape(-1, len(columns))
                docs[i], heads[i], numbers[i] = _without_space(rows)
        except ValueError as error:
            raise ItmkitError(f"spaCy pipeline {self._name!r} failed on a caption: {error}") from None
        flat = np.concatenate([np.zeros((0, len(columns)), np.int64), *docs])
        strings = self._pipeline.vocab.strings
        words = _strings(flat[:, 0], strings)
        lemmas = _strings(flat[:, 1], strings)
        if (flat[:, 1] == 0).any():  # no lemmatiser in the pipeline
            lowered = [word.lower() for word in words.strings]
            blank = flat[:, 1] == 0
            codes = np.where(blank, len(lemmas.strings) + words.codes, lemmas.codes).astype(np.int32)
            lemmas = Coded(codes, lemmas.strings + lowered)
        pos = _strings(flat[:, 2], strings)
        starts = flat[:, 6]
        return ParsedTexts(
            lengths=np.array([len(rows) for rows in docs], np.int64),
            words=words,
            lemmas=lemmas,
            pos=Coded(pos.codes, [name or "X" for name in pos.strings]),
            relations=_strings(flat[:, 3], strings),
            heads=np.concatenate([np.zeros(0, np.int64), *heads]).astype(np.int32),
            starts=starts.astype(np.int32),
            ends=(starts + flat[:, 7]).astype(np.int32),
            sentences=np.minimum(np.concatenate([np.zeros(0, np.int64), *numbers]), LAST_SENTENCE).astype(np.int16),
        )


def _strings(ids: NDArray[np.int64], store: Any) -> Coded:
    """spaCy's string hashes as codes."""
    distinct, places = np.unique(ids.view(np.uint64), return_inverse=True)
    return Coded(places.astype(np.int32), [store[value] if value else "" for value in distinct.tolist()])


def _without_space(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of one document without white-space tokens, with heads (index in the caption) and sentence numbers."""
    n = len(rows)
    heads = np.arange(n) + rows[:, 4]
    space = rows[:, 8] == 1
    starts = rows[:, 5] == 1
    if not starts[1:].any():
        starts = _gaps(heads)
    sentences = np.maximum(np.cumsum(starts) - 1, 0) if n and starts[0] else np.cumsum(starts)
    if not space.any():
        return rows, heads, sentences
    for i in np.flatnonzero(space):  # what hangs on a space hangs on the space's head, or is a root itself
        above = heads[i]
        hanging = (heads == i) & (np.arange(n) != i)
        heads[hanging] = np.flatnonzero(hanging)[:1] if above == i else above
    kept = np.flatnonzero(~space)
    place = np.zeros(n, np.int64)
    place[kept] = np.arange(len(kept))
    _, numbers = np.unique(sentences[kept], return_inverse=True)
    return rows[kept], place[heads[kept]], numbers


def _gaps(heads: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which words (n,) no arc connects, directly or by passing over, with what stands before them."""
    n = len(heads)
    places = np.arange(n)
    crossing = np.zeros(n + 1, np.int64)
    np.add.at(crossing, np.minimum(places, heads) + 1, 1)
    np.add.at(crossing, np.maximum(places, heads) + 1, -1)
    return np.asarray(np.cumsum(crossing)[:n] == 0)

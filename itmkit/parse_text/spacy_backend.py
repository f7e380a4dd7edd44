"""spaCy pipelines as a backend of `parse_text`. spaCy is imported only here, when the backend is made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.parse_text.parsed import LAST_SENTENCE, Coded, ParsedTexts

COLUMNS = ("ORTH", "LEMMA", "POS", "DEP", "HEAD", "SENT_START", "IDX", "LENGTH", "IS_SPACE")
UNUSED = ["ner", "entity_linker", "entity_ruler", "span_ruler", "spancat", "textcat", "textcat_multilabel"]

Ints = NDArray[np.int64]


class SpacyBackend:
    """`name`: an installed pipeline (en_core_web_sm) or a folder that holds one.

    White-space tokens, which spaCy keeps, are dropped. Sentences are those of the pipeline. If it sets none, a new
    sentence begins wherever no arc passes.
    """

    def __init__(self, name: str) -> None:
        try:
            import spacy
            from threadpoolctl import ThreadpoolController
        except ImportError:
            raise ItmkitError(
                'spaCy is not installed: pip install "itmkit[spacy]", or use --parser itmkit, which needs nothing'
            ) from None
        try:
            with _fast_products():
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
        self._threads = ThreadpoolController()
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

        columns = [getattr(attrs, name) for name in COLUMNS]
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        docs: list[NDArray[np.uint64]] = [np.zeros((0, len(columns)), np.uint64)] * len(texts)
        try:
            with self._threads.limit(limits=1, user_api="blas"):  # the same sums however many processes parse
                parsed = self._pipeline.pipe((texts[i] for i in order), batch_size=batch_size)
                for i, doc in zip(order, parsed, strict=True):
                    docs[i] = doc.to_array(columns).reshape(-1, len(columns))
        except ValueError as error:
            raise ItmkitError(f"spaCy pipeline {self._name!r} failed on a caption: {error}") from None
        lengths = np.array([len(rows) for rows in docs], np.int64)
        flat = np.concatenate([np.zeros((0, len(columns)), np.uint64), *docs]).view(np.int64)
        heads, numbers = _trees(flat, lengths)
        if (flat[:, 8] == 1).any():
            flat, lengths, heads, numbers = _without_space(flat, lengths, heads, numbers)
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
            lengths=lengths,
            words=words,
            lemmas=lemmas,
            pos=Coded(pos.codes, [name or "X" for name in pos.strings]),
            relations=_strings(flat[:, 3], strings),
            heads=heads.astype(np.int32),
            starts=starts.astype(np.int32),
            ends=(starts + flat[:, 7]).astype(np.int32),
            sentences=np.minimum(numbers, LAST_SENTENCE).astype(np.int16),
        )


@contextmanager
def _fast_products() -> Iterator[None]:
    """Pipelines loaded here multiply matrices with numpy's BLAS, whose kernels fit the processor.

    On a CPU spaCy uses blis by default, in a build for any processor. It took more than half the time of a small
    pipeline, and three times as long as numpy for the same product. Ops of a GPU or of Apple's library are kept.
    """
    from thinc.api import NumpyOps, get_current_ops, set_current_ops

    before = get_current_ops()
    if type(before) is NumpyOps:
        set_current_ops(NumpyOps(use_blis=False))
    try:
        yield
    finally:
        set_current_ops(before)


def _strings(ids: Ints, store: Any) -> Coded:
    """spaCy's string hashes as codes."""
    distinct, places = np.unique(ids.view(np.uint64), return_inverse=True)
    return Coded(places.astype(np.int32), [store[value] if value else "" for value in distinct.tolist()])


def _trees(rows: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Heads (words,), counted within the caption, and numbers of sentences (words,), of all captions at once."""
    firsts = np.repeat(np.cumsum(lengths) - lengths, lengths)  # (words,) the caption's first word
    places = np.arange(len(rows))
    heads = places + rows[:, 4]
    first = places == firsts
    inner = np.cumsum(np.concatenate((np.zeros(1, np.int64), (rows[:, 5] == 1) & ~first)))
    ends = np.cumsum(lengths)
    split = np.repeat(inner[ends] > inner[ends - lengths], lengths)  # captions that the pipeline split itself
    starts = np.where(split, rows[:, 5] == 1, _gaps(heads)) | first
    counts = np.cumsum(starts)
    return heads - firsts, counts - counts[firsts] if len(rows) else counts


def _without_space(rows: Ints, lengths: Ints, heads: Ints, numbers: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """All captions without white-space tokens. A word headed by one moves to that token's head, or becomes a root."""
    space = rows[:, 8] == 1
    heads, numbers, lengths = heads.copy(), numbers.copy(), lengths.copy()
    edges = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    for caption in np.unique(np.searchsorted(edges, np.flatnonzero(space), side="right") - 1).tolist():
        mine = slice(edges[caption], edges[caption + 1])
        above, places = heads[mine], np.arange(lengths[caption])  # a view: what is changed here is changed there
        for i in np.flatnonzero(space[mine]):
            hanging = (above == i) & (places != i)
            above[hanging] = np.flatnonzero(hanging)[:1] if above[i] == i else above[i]
        kept = np.flatnonzero(~space[mine])
        place = np.zeros(len(places), np.int64)
        place[kept] = np.arange(len(kept))
        above[kept] = place[above[kept]]
        numbers[mine][kept] = np.unique(numbers[mine][kept], return_inverse=True)[1]
        lengths[caption] = len(kept)
    return rows[~space], lengths, heads[~space], numbers[~space]


def _gaps(heads: Ints) -> NDArray[np.bool_]:
    """Which words (n,) no arc connects, directly or by passing over, with what stands before them."""
    n = len(heads)
    places = np.arange(n)
    crossing = np.zeros(n + 1, np.int64)
    np.add.at(crossing, np.minimum(places, heads) + 1, 1)
    np.add.at(crossing, np.maximum(places, heads) + 1, -1)
    return np.asarray(np.cumsum(crossing)[:n] == 0)

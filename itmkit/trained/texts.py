"""New captions, read by a trained matcher as it reads those of its caches: one spelling, words, trees and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from itmkit.cache.manifest import Manifest
from itmkit.caption_text import evenly_spelled
from itmkit.embed.dual import DualEncoder, load_dual
from itmkit.encode_text.alignment import Spans
from itmkit.encode_text.encode import as_layer, word_vectors
from itmkit.encode_text.encoder import LanguageModel, load_language_model
from itmkit.errors import ItmkitError
from itmkit.graphs import dependency_edges
from itmkit.inputs.batch import TextBatch
from itmkit.inputs.needs import Needs
from itmkit.inputs.texts import adjacency, most_words, padded_vectors, padded_words, padding_mask
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.models.hub import find_model, model_record
from itmkit.parse_text.backends import load_backend
from itmkit.parse_text.parsed import Backend, ParsedTexts
from itmkit.runs.facts import VOCABULARY
from itmkit.trained.made import Made, option

BATCH = 128  # captions parsed at once
BATCH_TOKENS = 4096  # of a language model


class NewTexts:
    """Turns captions into batches. The parser and the language model are loaded when the first caption needs them."""

    def __init__(self, made: Made, needs: Needs, vocabulary: Vocabulary | None, device: str) -> None:
        self._made, self._needs, self._vocabulary, self._device = made, needs, vocabulary, device

    def batch(self, captions: Sequence[str]) -> TextBatch:
        """The captions, spelled as a data set's are, padded to the longest of them. What is longer than `most_words` is
        cut.

        Raises:
            ItmkitError: the parser or a model of training is not to be had, or is another one now.
        """
        needs, captions = self._needs, [evenly_spelled(caption) for caption in captions]
        if needs.pooled and not needs.words and not needs.edges:
            mask = np.ones((len(captions), 1), bool)
            return TextBatch(None, torch.from_numpy(mask), vectors=self._pooled(captions))
        parsed = self._parser.parse(captions, BATCH)
        offsets = np.concatenate((np.zeros(1, np.int64), parsed.lengths.cumsum()))
        mask = padding_mask(np.clip(parsed.lengths, 1, most_words(needs)))
        words = edges = vectors = sentence = None
        if needs.words:
            assert self._vocabulary is not None
            numbers = self._vocabulary.encode(parsed.words.strings)[parsed.words.codes].astype(np.int32)
            words = padded_words(numbers, offsets[:-1], parsed.lengths, mask)
        if needs.edges:
            pairs, bounds = dependency_edges(parsed.heads, offsets)
            edges = adjacency(pairs, bounds[:-1], np.diff(bounds), mask)
        if needs.pooled:
            vectors = self._pooled(captions)
        elif needs.vectors:
            flat, _ = self._vectors_of(needs.vectors, captions, parsed, offsets)
            vectors = padded_vectors(flat, offsets, mask)
        if needs.sentence:
            _, whole = self._vectors_of(needs.sentence, captions, parsed, offsets)
            sentence = torch.from_numpy(whole.astype(np.float32))
        return TextBatch(words, torch.from_numpy(mask), edges, vectors, sentence)

    def parse(self, captions: Sequence[str]) -> ParsedTexts:
        """Words, lemmas and trees, by the parser of training, of the captions as `evenly_spelled` writes them."""
        return self._parser.parse([evenly_spelled(caption) for caption in captions], BATCH)

    def unknown(self, captions: Sequence[str]) -> list[str]:
        """The distinct words of the captions that the vocabulary of training lacks; none where words have vectors."""
        if self._vocabulary is None:
            return []
        words, unknown = self.parse(captions).words.strings, self._vocabulary.unknown
        return [word for word, number in zip(words, self._vocabulary.encode(words), strict=True) if number == unknown]

    @cached_property
    def _parser(self) -> Backend:
        manifest = self._made.manifest(self._needs.text)
        parser = str(manifest.made_by.settings.get("parser", ""))
        if manifest.made_by.stage != "parse-text" or parser == "conllu":
            how = "files of trees" if parser == "conllu" else f"`itmkit {manifest.made_by.stage}`"
            raise ItmkitError(
                f"the captions of training were parsed by another program and came from {how}, so there is no parser"
                " for new captions; train on captions of `itmkit parse-text --parser itmkit`"
            )
        place = self._made.places.get(self._needs.text)
        try:
            backend = load_backend(parser, place or _parser_place(parser, manifest, self._made.folder))
        except ItmkitError as error:
            raise ItmkitError(
                [*error.problems, f"{option(self._needs.text)} says where the parser of training lies"]
            ) from None
        self._made.check(self._needs.text, manifest.made_by, backend.model)
        return backend

    def _vectors_of(
        self, cache: str, captions: Sequence[str], parsed: ParsedTexts, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of words (W, V) and of captions (n, V), both float16 as in the cache."""
        spans = Spans(offsets, parsed.starts.astype(np.int64), parsed.ends.astype(np.int64))
        words, sentences, _ = word_vectors(self.language_model(cache), captions, spans, batch_tokens=BATCH_TOKENS)
        return words, sentences

    def language_model(self, cache: str) -> LanguageModel:
        """The model that made a cache of encode-text, of texts or of tags."""
        if cache not in self._loaded:
            self._loaded[cache] = load_recorded_language_model(self._made, cache, self._device)
        return self._loaded[cache]

    @cached_property
    def _loaded(self) -> dict[str, LanguageModel]:
        return {}

    def _pooled(self, captions: Sequence[str]) -> torch.Tensor:
        """(n, 1, V) float32"""
        dual = self.dual_encoder
        vectors = dual.text_vectors(captions, dual.token_counts(captions), batch=BATCH)
        return torch.from_numpy(vectors)[:, None]

    @cached_property
    def dual_encoder(self) -> DualEncoder:
        """The model that made the vectors of whole captions."""
        assert self._needs.vectors is not None
        return load_recorded_dual(self._made, self._needs.vectors, self._device)


def _parser_place(parser: str, manifest: Manifest, run: Path) -> str | None:
    """Where a parser lies if nobody says: BERT's pieces in the folder of the run, others where they lay when captions
    were parsed. None if no model was named then; the parser takes its usual one again."""
    return str(run / VOCABULARY) if parser == "wordpiece" else manifest.notes.get("model")


def load_recorded_language_model(made: Made, cache: str, device: str) -> LanguageModel:
    """The language model of a cache of encode-text, with the layer and precision of the cache.

    Raises:
        ItmkitError: it is not to be had, or has other weights now; the error names the option that gives its place.
    """
    manifest = made.manifest(cache)
    settings, place = manifest.made_by.settings, made.model(cache, manifest)
    layer, precision = as_layer(settings["layer"]), settings.get("precision", "float32")
    try:
        model = load_language_model(place, layer=layer, device=device, precision=precision)
    except ItmkitError as error:
        raise ItmkitError([*error.problems, option(cache)]) from None
    made.check(cache, manifest.made_by, model_record(place, find_model(place, allow_download=False), tokenizer=True))
    return model


def load_recorded_dual(made: Made, cache: str, device: str) -> DualEncoder:
    """The dual encoder of a cache of embed. Raises as `load_recorded_language_model` does."""
    manifest = made.manifest(cache)
    settings, place = manifest.made_by.settings, made.model(cache, manifest)
    try:
        model = load_dual(
            place, device=device, precision=settings.get("precision", "float32"), lower="lower_case" in settings
        )
    except ItmkitError as error:
        raise ItmkitError([*error.problems, option(cache)]) from None
    made.check(cache, manifest.made_by, model_record(place, find_model(place, allow_download=False), tokenizer=True))
    return model

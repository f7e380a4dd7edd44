"""encode-text: vectors of the words of every distinct caption and of the caption itself, and of every tag phrase."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, read_manifest, text_key
from itmkit.cache.begin import begun_manifest
from itmkit.cache.name import CacheName, words_cache
from itmkit.cache.tag_phrases import TagPhrases
from itmkit.dataset import Dataset
from itmkit.encode_text.alignment import Spans, means, pieces_of_words
from itmkit.encode_text.encoder import KINDS, LAST_FOUR, LanguageModel, Layer, Padding, load_language_model
from itmkit.encode_text.unknown import check_known
from itmkit.errors import ItmkitError
from itmkit.job import USUAL, Job
from itmkit.machine.device import Precision, check_precision, enough_memory, recorded, usable_device
from itmkit.models.hub import find_model, model_place, model_record, short_name
from itmkit.models.look import FirstLook
from itmkit.parse_text.parse import chunks
from itmkit.parse_text.store import TextCache
from itmkit.progress import Progress
from itmkit.stages import require
from itmkit.workspace import Workspace

STAGE = "encode-text"
Side = Literal["texts", "tags"]
SIDES: tuple[Side, ...] = ("texts", "tags")
SENTENCE = "sentence"  # the column of the vector of a whole caption
SHARD = 5_000
CHARACTERS = 200_000  # of the captions that are sorted by length together: bounds memory whatever their lengths
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class EncodeResult:
    """What `encode_text` did.

    captions, words: rows of the whole cache of words, and the number of their words; phrases: rows of the whole cache
    of tags; None for a side that was not asked for. encoded: captions and phrases done by this call. without: how many
    of their words the model's tokeniser drops; their vectors are zero. padding: its share in the tokens of this call.
    """

    path: Path
    model: str
    device: str
    layer: str
    dim: int
    captions: int | None
    words: int | None
    phrases: int | None
    encoded: int
    without: int
    padding: float


def encode_text(
    workspace: Workspace,
    *,
    model: str | None = None,
    cache: str | None = None,
    only: Side | None = None,
    layer: str | int | None = None,
    job: Job = USUAL,
) -> EncodeResult:
    """Writes caches/words-<cache>/texts and, if there is a region cache with tags, caches/words-<cache>/tags.

    A caption's row has the id it has in caches/text, and two columns. vectors (words, D) float16, ragged, holds one
    vector per word of the parse: the mean over all pieces of the model's tokeniser that share a character with the
    word. sentence (D) float16 is the vector of [CLS] (see `LanguageModel.vectors`). A cache that an older version began
    without it goes on without it. A tag phrase's row has the id `text_key` and the column vector (D) float16, the mean
    of its pieces. The model is frozen.

    Args:
        model: folder of a transformers model, or a hub name; None takes the one the cache was begun with.
        cache: name after "words-"; None takes the last part of the model's name.
        only: one of the two sides.
        layer: the output taken: -1 (default), -2, ..., or "last4", the mean of the last four.

    Raises:
        ItmkitError: there are no parsed captions, or they belong to other data; the model cannot be loaded or gives no
            vectors of words; the cache was made from other data or settings (and is not forced); settings do not exist.
    """
    problems = _problems(cache, only, layer, job)
    if problems:
        raise ItmkitError(problems)
    name = _cache_name(workspace, model, cache)
    folder = workspace.cache(str(CacheName("words", name)))
    sides = SIDES if only is None else (only,)
    dataset = workspace.dataset()
    if "texts" in sides:
        dataset.check_captions("`itmkit encode-text` (without `--only tags`)")
    sides = _possible(workspace, dataset, sides, only)
    loaded = _load(folder, model, layer, job)
    encoder, device, layer = loaded.encoder, loaded.device, str(loaded.layer)
    batch = job.batch or (4_096 if device == "cpu" else 32_768)
    options = partial(_writer_options, workspace, dataset, name, loaded, job)
    encoded, without, captions, words, phrases, padding = 0, 0, None, None, None, Padding()
    if "texts" in sides:
        if told := check_known(encoder, dataset.distinct_texts):
            job.progress.note(told)
        text = TextCache.open(workspace.cache("text"))
        encoded, without = _texts(dataset, text, encoder, options("texts"), batch, padding, job.progress)
        captions, words = len(text), int(text.reader.lengths().sum())
    if "tags" in sides:
        found = TagPhrases.of(CacheReader.open(workspace.cache("regions"))).phrases
        encoded += _tags(found, encoder, options("tags"), batch, padding, job.progress)
        phrases = len(found)
    share = padding.padding / padding.tokens if padding.tokens else 0.0
    return EncodeResult(
        folder, loaded.model, device, layer, encoder.dim, captions, words, phrases, encoded, without, share
    )


@dataclass(frozen=True)
class _Loaded:
    """A language model, and what its caches keep of it: `record` tells it from others, `local` is where it lies."""

    encoder: LanguageModel
    model: str
    layer: Layer
    device: str
    precision: Precision
    record: dict[str, str]
    local: str


def _load(folder: Path, model: str | None, layer: str | int | None, job: Job) -> _Loaded:
    """Loads the model asked for, else the one the cache was begun with."""
    asked, precision = model is not None, job.precision
    if model is None:
        model, layer, precision = _begun_with(folder, layer, precision)
    chosen, precision = as_layer(layer), precision or "float32"
    device = usable_device(job.device)
    job.progress.note(f"{STAGE}: {model} on {device}")
    encoder = load_language_model(model, layer=chosen, device=device, precision=precision, allow_download=asked)
    path = find_model(model, allow_download=False)
    record = model_record(model, path, tokenizer=True)
    return _Loaded(encoder, model, chosen, device, precision, record, model_place(model, path))


def _writer_options(
    workspace: Workspace, dataset: Dataset, name: str, loaded: _Loaded, job: Job, side: Side
) -> dict[str, Any]:
    """What the writers of both sides are opened with; their columns and keys differ."""
    encoder, place = loaded.encoder, words_cache(name, side)
    folder = workspace.cache(place)
    settings = {"side": side, "layer": str(loaded.layer), **recorded(loaded.precision), **encoder.ways}
    return {
        "folder": folder,
        "made_by": MadeBy(STAGE, settings, loaded.record, workspace.inputs(place, dataset)),
        "shard_size": job.rows_a_shard(folder, SHARD),
        "notes": {"model": loaded.local, "device": loaded.device, "limit": encoder.limit, "sentence": encoder.sentence},
        "part": job.part,
        "force": job.force,
    }


def _texts(
    dataset: Dataset,
    text: TextCache,
    encoder: LanguageModel,
    options: dict[str, Any],
    batch: int,
    padding: Padding,
    progress: Progress,
) -> tuple[int, int]:
    """Returns how many captions were encoded now, and how many of their words the tokeniser drops."""
    texts = dataset.distinct_texts
    columns, without = text_columns(encoder.dim), 0
    look = FirstLook(encoder.model_id, "captions")
    begun = begun_manifest(options["folder"])
    if begun is not None and SENTENCE not in begun.columns and not options["force"]:
        del columns[SENTENCE]
        progress.note(f"{options['folder']}: was begun without sentence vectors and stays so; --force makes it anew")
    with (
        CacheWriter.open(columns=columns, keys=[text_key(one) for one in texts], **options) as writer,
        progress.task(f"{STAGE}: captions", writer.total, done=writer.done, unit="captions") as advance,
    ):
        now = writer.total - writer.done
        for number, keys in writer.pending():
            first = number * writer.manifest.shard_size
            with writer.shard(number) as out:
                for start, end in chunks(texts, first, first + len(keys), CHARACTERS):
                    some = texts[start:end]
                    parsed = text.load_texts(some)
                    words = Spans(parsed.offsets, parsed.starts.astype(np.int64), parsed.ends.astype(np.int64))
                    vectors, sentences, bare = word_vectors(encoder, some, words, batch_tokens=batch, padding=padding)
                    without += bare
                    if not look.done:
                        seen = sentences if encoder.in_context else np.split(vectors, words.offsets[1:-1])
                        ids, pieces = encoder.pieces(some)
                        look.at(some, np.split(ids, pieces.offsets[1:-1]), [one.astype(np.float32) for one in seen])
                    found = {"vectors": vectors, SENTENCE: sentences}
                    kept = {name: found[name] for name in columns}
                    out.append(keys[start - first : end - first], kept, lengths=parsed.lengths)
                    advance(len(some))
    return now, without


def text_columns(dim: int) -> dict[str, Column]:
    """The columns of a cache of captions."""
    return {"vectors": Column("float16", (dim,), "ragged"), SENTENCE: Column("float16", (dim,))}


def word_vectors(
    encoder: LanguageModel, texts: Sequence[str], words: Spans, *, batch_tokens: int, padding: Padding | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Vectors of the words of n texts (W, D) float16 and of the texts (n, D) float16, and how many words have no piece.

    The vectors of words without a piece are zero.
    """
    ids, pieces = encoder.pieces(texts)
    which, members = pieces_of_words(pieces, words)
    with enough_memory(batch_tokens, "--batch-tokens"):
        found, sentences = encoder.vectors(ids, pieces, batch_tokens=batch_tokens, padding=padding)
    bare = len(words) - len(np.unique(which))
    return means(found, which, members, len(words)).astype(np.float16), sentences.astype(np.float16), bare


def _tags(
    phrases: list[str],
    encoder: LanguageModel,
    options: dict[str, Any],
    batch: int,
    padding: Padding,
    progress: Progress,
) -> int:
    """Returns how many phrases were encoded now."""
    columns = {"vector": Column("float16", (encoder.dim,))}
    with (
        CacheWriter.open(columns=columns, keys=[text_key(one) for one in phrases], **options) as writer,
        progress.task(f"{STAGE}: tag phrases", writer.total, done=writer.done, unit="phrases") as advance,
    ):
        now = writer.total - writer.done
        for number, keys in writer.pending():
            first = number * writer.manifest.shard_size
            with writer.shard(number) as out:
                for start, end in chunks(phrases, first, first + len(keys), CHARACTERS):
                    some = phrases[start:end]
                    whole = Spans(
                        np.arange(len(some) + 1), np.zeros(len(some), np.int64), np.array([len(one) for one in some])
                    )
                    vectors, _, _ = word_vectors(encoder, some, whole, batch_tokens=batch, padding=padding)
                    out.append(keys[start - first : end - first], {"vector": vectors})
                    advance(len(some))
    return now


def _problems(cache: str | None, only: str | None, layer: str | int | None, job: Job) -> list[str]:
    problems = []
    if cache is not None and not _NAME.fullmatch(cache):
        problems.append(f"--cache {cache!r}: a plain folder name is needed, such as bert")
    if only is not None and only not in SIDES:
        problems.append(f"only {only!r}: there are {' and '.join(SIDES)}")
    if layer is not None and layer != LAST_FOUR and not re.fullmatch(r"-?\d+", str(layer)):
        problems.append(f"layer {layer!r}: a number (-1 is the last), or {LAST_FOUR}, the mean of the last four")
    if job.precision is not None:
        check_precision(job.precision, problems)
    if job.batch is not None and job.batch < 1:
        problems.append(f"batch is {job.batch}, at least 1 is needed")
    return problems


def as_layer(layer: str | int | None) -> Layer:
    """The layer of a language model as an option or a manifest names it; -1, the last, if it does not."""
    return LAST_FOUR if layer == LAST_FOUR else int(layer if layer is not None else -1)


def _possible(workspace: Workspace, dataset: Dataset, sides: tuple[Side, ...], only: Side | None) -> tuple[Side, ...]:
    """The sides that can be made: captions always, tags if they were asked for or if there are some."""
    if "texts" in sides:
        require(workspace, "text", dataset=dataset)
    if only == "tags":
        require(workspace, "regions", dataset=dataset)
    if "tags" not in sides:
        return sides
    regions = read_manifest(workspace.cache("regions"))
    if regions is not None and regions.complete and regions.tables.get("tags"):
        return sides
    if only == "tags":
        raise ItmkitError(f"{workspace.cache('regions')}: its regions have no tags; there is nothing to encode")
    return ("texts",)


def _cache_name(workspace: Workspace, model: str | None, cache: str | None) -> str:
    """The name after "words-": as given, else from the model's name, else that of the only such cache."""
    if cache is not None:
        return cache
    if model is None:
        found = workspace.names_of("words")
        if len(found) != 1:
            raise ItmkitError(f"--model is needed: the folder or the hub name of a language model. {KINDS}")
        return found[0]
    return re.sub(r"^[^A-Za-z0-9]+", "", short_name(model)) or "model"


def _begun_with(
    folder: Path, layer: str | int | None, precision: Precision | None
) -> tuple[str, str | int | None, Precision | None]:
    """Model, layer and precision of the existing caches, finished or not. Values that are given take precedence."""
    for side in SIDES:
        manifest = begun_manifest(folder / side)
        if manifest is not None and manifest.made_by.stage == STAGE:
            settings = manifest.made_by.settings
            return (
                str(manifest.notes["model"]),
                settings["layer"] if layer is None else layer,
                precision or settings.get("precision"),
            )
    raise ItmkitError(f"--model is needed: the folder or the hub name of a language model. {KINDS}")

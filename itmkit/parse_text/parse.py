"""Stage parse-text: captions of a workspace -> words, lemmas, parts of speech, heads, relations in `caches/text`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.cache import CacheWriter, Column, MadeBy, text_key
from itmkit.cache.name import PUBLISHED_TEXTS
from itmkit.cache.writer import ShardWriter
from itmkit.errors import ItmkitError
from itmkit.job import USUAL, Job
from itmkit.parse_text.backends import PARSERS, load_backend
from itmkit.parse_text.parsed import Backend, Coded, ParsedTexts
from itmkit.parse_text.unspaced import note_if_unspaced
from itmkit.parse_text.workers import ParseAll, count, parsing_by, parsing_here
from itmkit.workspace import Workspace

COLUMNS = {
    "words": Column("int32", kind="ragged"),
    "lemmas": Column("int32", kind="ragged"),
    "pos": Column("int16", kind="ragged"),
    "relations": Column("int16", kind="ragged"),
    "heads": Column("int32", kind="ragged"),
    "starts": Column("int32", kind="ragged"),
    "ends": Column("int32", kind="ragged"),
    "sentences": Column("int16", kind="ragged"),
}
WORDS_ALONE = ("words", "starts", "ends")  # of the parsers `scan` and `wordpiece`, which make no trees
TABLES = ("words", "lemmas", "pos", "relations")  # columns that index a table of the manifest
SHARD = 20_000
BATCH = 128
CHUNK_CHARACTERS = 100_000  # parsed at once: bounds memory whatever the captions' lengths


@dataclass(frozen=True)
class ParseResult:
    """What `parse_text` did. `parsed` counts the captions parsed by this call, 0 if the cache was complete."""

    cache: Path
    parser: str
    model: dict[str, Any]
    captions: int
    distinct: int
    parsed: int
    words: int  # distinct, over the whole cache


def parse_text(
    workspace: Workspace,
    *,
    parser: str | None = None,
    model: str | None = None,
    job: Job = USUAL,
) -> ParseResult:
    """Parses every distinct caption of the data set once and writes `caches/text`.

    Args:
        parser: "itmkit" (the shipped English parser), "spacy", "stanza" or "conllu" (files of another program's
            trees), "scan" or "wordpiece" (the words of published code, or the word pieces of BERT, without trees, into
            `caches/text-scan` or `text-wordpiece`); None takes `[parse-text]` of workspace.toml, else "itmkit".
        model: for spaCy the name or path of a pipeline (default en_core_web_sm); for stanza the folder of its models;
            for conllu a file or a folder of files; for wordpiece BERT's vocab.txt or a folder with it; for itmkit the
            folder of a parser made by examples/train_parser.py (default the shipped one).
        job: its batch counts captions, 128 by default. Each of its workers loads the model. If no number of workers is
            given, fewer than 2,000 captions are parsed in this process. CoNLL-U files are always read in this process.

    Raises:
        ItmkitError: there is no data set, the parser is unknown, the model cannot be loaded, captions are missing from
            the CoNLL-U files, a process crashed, or the cache was made otherwise.
    """
    parser, model = _asked(workspace, parser, model, job)
    dataset = workspace.dataset()
    dataset.check_captions("`itmkit parse-text`")
    texts, folder = dataset.distinct_texts, workspace.cache(PUBLISHED_TEXTS.get(parser, "text"))
    backend = load_backend(parser, model, texts)
    job.progress.note(f"parser: {parser}, {backend.model['id']}")
    if told := note_if_unspaced(texts, parser, str(backend.model["id"])):
        job.progress.note(told)
    made_by = MadeBy(
        stage="parse-text",
        settings={"parser": parser},
        model=backend.model,
        inputs=workspace.inputs("text", dataset),
    )
    columns = {name: COLUMNS[name] for name in WORDS_ALONE} if parser in PUBLISHED_TEXTS else COLUMNS
    with CacheWriter.open(
        folder,
        made_by=made_by,
        columns=columns,
        keys=[text_key(text) for text in texts],
        tables={name: [] for name in TABLES if name in columns},
        shard_size=job.rows_a_shard(folder, SHARD),
        notes={} if model is None else {"model": _place(model)},
        part=job.part,
        force=job.force,
    ) as writer:
        parsed = _parse_pending(writer, texts, backend, parser, model, job)
        manifest = writer.manifest
    return ParseResult(
        cache=folder,
        parser=parser,
        model=backend.model,
        captions=sum(len(image.captions) for image in dataset.images),
        distinct=len(texts),
        parsed=parsed,
        words=len(manifest.tables["words"]),
    )


def _asked(workspace: Workspace, parser: str | None, model: str | None, job: Job) -> tuple[str, str | None]:
    """The parser and its model, as given or as workspace.toml says. One error names everything that does not exist."""
    settings = workspace.settings("parse-text")
    usual = settings.get("parser", "itmkit")
    parser = parser or usual
    model = model or (settings.get("model") if parser == usual else None)  # that of another parser is none of this one
    problems = []
    if parser not in PARSERS:
        problems.append(f"parser {parser!r} is not known; there are: {', '.join(PARSERS)}")
    numbers = {"batch": job.batch, "shard_size": job.shard_size, "workers": job.workers}
    problems += [f"{name} is {n}, at least 1 is needed" for name, n in numbers.items() if n is not None and n < 1]
    if problems:
        raise ItmkitError(problems)
    return str(parser), model


def _place(model: str) -> str:
    """Where a later run finds a model again: its absolute path, or its name."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def _parse_pending(
    writer: CacheWriter, texts: Sequence[str], backend: Backend, parser: str, model: str | None, job: Job
) -> int:
    """Parses the captions that the cache still lacks, and returns their number."""
    size = writer.manifest.shard_size
    pending = [(shard, shard * size, keys) for shard, keys in writer.pending()]
    cuts = [chunks(texts, first, first + len(keys), CHUNK_CHARACTERS) for _, first, keys in pending]
    parsed = sum(len(keys) for _, _, keys in pending)
    processes = 1 if parser == "conllu" else count(job.workers, parsed)
    with (
        _parsing(processes, backend, parser, model, job.batch or BATCH) as parse,
        job.progress.task("parsing captions", writer.total, done=writer.done, unit="captions") as advance,
    ):
        results = parse(texts[start:end] for cut in cuts for start, end in cut)
        for (shard, first, keys), cut in zip(pending, cuts, strict=True):
            with writer.shard(shard) as out:
                for start, end in cut:
                    append(writer, out, keys[start - first : end - first], next(results))
                    advance(end - start)
    return parsed


def _parsing(
    processes: int, backend: Backend, parser: str, model: str | None, batch_size: int
) -> AbstractContextManager[ParseAll]:
    if processes > 1:
        return parsing_by(processes, parser, model, batch_size)
    return parsing_here(backend, batch_size)


def chunks(texts: Sequence[str], first: int, last: int, most: int) -> list[tuple[int, int]]:
    """Cuts texts[first:last] into ranges of about `most` characters, at least one text each."""
    edges = [first]
    characters = 0
    for i in range(first, last):
        if characters and characters + len(texts[i]) > most:
            edges.append(i)
            characters = 0
        characters += len(texts[i])
    edges.append(last)
    return list(pairwise(edges))


def append(writer: CacheWriter, out: ShardWriter, keys: Sequence[str], parsed: ParsedTexts) -> None:
    """Adds parsed captions to a shard, their strings to the manifest's tables."""
    columns = writer.manifest.columns
    tables = {name: _index(writer, name, getattr(parsed, name)) for name in TABLES if name in columns}
    rest = {name: getattr(parsed, name) for name in columns if name not in TABLES}
    out.append(keys, {**tables, **rest}, lengths=parsed.lengths)


def _index(writer: CacheWriter, table: str, coded: Coded) -> np.ndarray:
    """Codes into the manifest's table. Only strings that occur are added, in order of first appearance."""
    used, first, places = np.unique(coded.codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(used), np.int32)
    rank[order] = writer.index(table, [coded.strings[used[i]] for i in order])
    return rank[places]

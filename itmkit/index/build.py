"""Builds an index of a workspace's images and captions with a trained matcher, and adds to one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from itmkit.cache.manifest import read_manifest
from itmkit.dataset import PICTURES, Dataset
from itmkit.errors import ItmkitError
from itmkit.index.encode import Source
from itmkit.index.engines import Engine, faiss_module, write_faiss
from itmkit.index.made import made_from
from itmkit.index.rows import RowType
from itmkit.index.store import MANIFEST, IndexFacts, Store, chunk_folder
from itmkit.inputs.images import ImageInputs
from itmkit.inputs.texts import TextInputs
from itmkit.machine.lock import lock
from itmkit.progress import SILENT, Progress
from itmkit.runs.made import made_otherwise
from itmkit.stages import require
from itmkit.trained import Matcher
from itmkit.typed import read_strict_json
from itmkit.workspace import Workspace

T = TypeVar("T")
CHUNK = 10_000  # images or captions of a chunk: the most that a kill loses


@dataclass(frozen=True)
class IndexResult:
    """What `build_index` did.

    Attributes:
        images: in the index now; encoded: by this call; removed: no longer in it; left_out: without features.
        captions: distinct ones in the index now.
        bytes_an_image: of a row; size: bytes of all files.
    """

    path: Path
    images: int
    encoded: int
    removed: int
    left_out: int
    captions: int
    bytes_an_image: int
    size: int
    rows: str
    engine: str


def build_index(
    workspace: Workspace,
    matcher: Matcher,
    *,
    folder: Path | None = None,
    rows: RowType | None = None,
    engine: Engine | None = None,
    add: bool = False,
    force: bool = False,
    chunk: int = CHUNK,
    progress: Progress = SILENT,
) -> IndexResult:
    """Writes `index/` in the workspace: the images and captions of its caches, encoded by a matcher.

    A first index is built beside its place and renamed when it is whole; a killed run continues at its last chunk.

    Args:
        matcher: a run of this workspace, or of another one whose features were made in the same way.
        rows: how numbers are stored; None as in the index, float16 in a first one. float16 halves the space of float32
            and rounds scores by about a thousandth; int8 halves it again.
        engine: what finds candidates; None as in the index, exact in a first one.
        add: only images that the index lacks, or whose pictures changed, are encoded; images that the data set lost
            are no longer found.
        force: an index that is there is replaced.

    Raises:
        ItmkitError: caches are missing or stale, features were made otherwise than those of training, or there is an
            index already (and neither `add` nor `force`), or one of another run.
    """
    folder = folder or workspace.root / "index"
    if engine == "faiss":
        faiss_module()
    there = (folder / MANIFEST).is_file()
    if folder.exists() and not there:
        raise ItmkitError(f"{folder}: is there already and is not an index; name another folder, or remove it first")
    with lock(folder.with_name(f".{folder.name}.lock"), f"{folder}: another process is building this index"):
        dataset = workspace.dataset()
        require(workspace, *matcher.needs.image_caches, dataset=dataset)
        _check_made(workspace, matcher)
        known = Store(folder) if there and not force else None
        source = _source(workspace, matcher, dataset, known, progress)
        wanted = replace(
            IndexFacts(str(matcher.folder), matcher.method, made_from(workspace, matcher), rows or "float16", 0, []),
            dataset=[dataset.images_digest, dataset.captions_digest],
            engine=engine or "exact",
        )
        if known is not None:
            if known.facts.made_from != wanted.made_from or rows not in (None, known.facts.rows):
                raise ItmkitError(
                    f"{folder}: was made with other weights, features or rows than asked for now; --force makes it anew"
                )
            wanted = replace(known.facts, dataset=wanted.dataset, engine=engine or known.facts.engine)
            encoded, removed = _bring_up(known, source, wanted, chunk, add=add)
        else:
            encoded, removed = _first(folder, source, wanted, chunk), 0
        left_out = len(dataset.images) - len(source.images.images)
        return _result(folder, encoded, removed, left_out)


def _result(folder: Path, encoded: int, removed: int, left_out: int) -> IndexResult:
    store = Store(folder)
    return IndexResult(
        path=folder,
        images=store.images_side.alive,
        encoded=encoded,
        removed=removed,
        left_out=left_out,
        captions=store.captions_side.alive,
        bytes_an_image=store.format.bytes,
        size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        rows=store.facts.rows,
        engine=store.facts.engine,
    )


def _source(
    workspace: Workspace, matcher: Matcher, dataset: Dataset, known: Store | None, progress: Progress
) -> Source:
    """The images that have features, and their captions where these have been parsed as in training.

    known: the index that they are added to, if there is one.
    """
    # Pictures that `prepare images --add` did not find any more have rows in caches, and no file.
    there = [image for image in dataset.images if image.file or dataset.kind != PICTURES]
    images = ImageInputs(workspace, there, matcher.needs)
    captions = list(dict.fromkeys(caption.text for image in images.images for caption in image.captions))
    caches = [cache for cache in matcher.needs.caches if cache not in matcher.needs.image_caches]
    texts = None
    if not captions:
        return Source(matcher, images, captions, None, progress)
    try:
        require(workspace, *caches, dataset=dataset)
        _check_made(workspace, matcher, caches)
    except ItmkitError as error:
        why = "captions are left out, so that pictures only are found"
        if known is not None and known.captions_side.alive:
            why = "new captions are left out; those in the index that the data set still has stay"
        progress.note(f"{why}: {error.problems[0]}")
    else:
        texts = TextInputs(workspace, captions, matcher.vocabulary, matcher.needs)
    return Source(matcher, images, captions, texts, progress)


def _first(folder: Path, source: Source, wanted: IndexFacts, chunk: int) -> int:
    """Builds a whole index. Returns how many images were encoded; an interrupted run has encoded the others."""
    partial = folder.with_name(f".{folder.name}.partial")
    layout, size = source.layout(wanted.rows)  # type: ignore[arg-type]
    places, texts = range(len(source.images.images)), range(len(source.captions) if source.texts else 0)
    facts = replace(
        wanted,
        candidates=size,
        layout=layout.to_json(),
        regions=source.regions(layout),
        chunks=[len(some) for some in _cut(places, chunk)],
        captions=[len(some) for some in _cut(texts, chunk)],
    )
    earlier = _read_or_none(partial)
    begun = earlier is not None and replace(earlier, engine_files={}) == facts
    if not begun:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        facts.write(partial)
    done = 0
    for number, some in enumerate(_cut(places, chunk)):
        if not (begun and _has(chunk_folder(partial, number), source.image_keys(some))):
            source.write_images(partial, number, some, layout, size)
            done += len(some)
    for number, some in enumerate(_cut(texts, chunk)):
        if not (begun and _has(chunk_folder(partial, number, "captions"), source.caption_keys(some))):
            source.write_captions(partial, number, some, size)
    _with_engine(partial, facts, source.progress).write(partial)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return done


def _bring_up(known: Store, source: Source, wanted: IndexFacts, chunk: int, *, add: bool) -> tuple[int, int]:
    """Adds what an index lacks and marks what is gone. Returns how many images were encoded and removed.

    Chunks that an interrupted run has added are kept: the manifest, which is written last, does not name them yet.
    """
    folder, facts, size = known.folder, wanted, known.facts.candidates
    images = source.image_keys(range(len(source.images.images)))
    new, gone = _changes(known.images, known.dead, images)
    there = [(caption, "") for caption in known.captions]
    texts, lost = _changes(there, known.captions_side.dead, source.caption_keys(range(len(source.captions))))
    if texts and source.texts is None:
        texts = []
        if known.captions_side.alive and known.facts.dataset:  # it stays behind the data set until they can be added
            facts = replace(facts, dataset=[facts.dataset[0], known.facts.dataset[1]])
    if (new or gone or texts or lost) and not add:
        captions = f", {len(texts)} captions are new and {len(lost)} gone" if texts or lost else ""
        raise ItmkitError(
            f"{folder}: {len(new)} images are not in it and {len(gone)} of its images are gone or changed{captions};"
            " --add brings it up to date, --force makes it anew"
        )
    done = 0
    for some in _cut(new, chunk):
        number = len(facts.chunks)
        if not _has(chunk_folder(folder, number), source.image_keys(some)):
            source.write_images(folder, number, some, known.format, size)
            done += len(some)
        facts = replace(facts, chunks=[*facts.chunks, len(some)])
    for some in _cut(texts, chunk):
        number = len(facts.captions)
        if not _has(chunk_folder(folder, number, "captions"), source.caption_keys(some)):
            source.write_captions(folder, number, some, size)
        facts = replace(facts, captions=[*facts.captions, len(some)])
    facts = replace(
        facts,
        dead=sorted({*facts.dead, *gone}),
        dead_captions=sorted({*facts.dead_captions, *lost}),
    )
    facts = _with_engine(folder, facts, source.progress)
    if facts != known.facts:
        facts.write(folder)
        needed = [name for name, _ in facts.engine_files.values()]
        for name, _ in known.facts.engine_files.values():
            if name not in needed:
                (folder / name).unlink(missing_ok=True)
    return done, len(gone)


def _changes(
    there: Sequence[tuple[str, str]], dead: np.ndarray, wanted: Sequence[tuple[str, str]]
) -> tuple[list[int], list[int]]:
    """Places in `wanted` that an index lacks, and positions of the index that are wanted no longer."""
    alive = {key: k for k, key in enumerate(there) if not dead[k]}
    keys = set(wanted)
    new = [place for place, key in enumerate(wanted) if key not in alive]
    return new, [k for key, k in alive.items() if key not in keys]


def _with_engine(folder: Path, facts: IndexFacts, progress: Progress) -> IndexFacts:
    """The facts with the files of faiss, which are written where they are lacking; old ones stay for now."""
    if facts.engine == "exact":
        return replace(facts, engine_files={})
    store, files = Store(folder, facts), dict[str, list[Any]]()
    for side, vectors in (("images", store.images_side), ("captions", store.captions_side)):
        if not len(vectors):
            continue
        name = f"{side}-{len(vectors)}.faiss"
        before = store.engine_file(side)
        if before is None or before.name != name:
            write_faiss(folder / name, vectors, before=before, progress=progress)
        files[side] = [name, (folder / name).stat().st_size]
    return replace(facts, engine_files=files)


def _has(chunk: Path, keys: Sequence[tuple[str, str]]) -> bool:
    """Whether an interrupted run finished this chunk, of these very images or captions."""
    path = chunk / "ids.json"
    return path.is_file() and read_strict_json(path) == [list(key) for key in keys]


def _read_or_none(folder: Path) -> IndexFacts | None:
    try:
        return IndexFacts.read(folder)
    except ItmkitError:  # there is none, or a damaged one
        return None


def _cut(things: Sequence[T], size: int) -> list[Sequence[T]]:
    return [things[start : start + size] for start in range(0, len(things), size)]


def _check_made(workspace: Workspace, matcher: Matcher, caches: Sequence[str] | None = None) -> None:
    """Raises ItmkitError where the caches were made otherwise than those the run was trained on.

    caches: by default those of images.
    """
    problems = []
    for cache in matcher.needs.image_caches if caches is None else caches:
        here, training = read_manifest(workspace.cache(cache)), matcher.made.manifest(cache)
        assert here is not None
        for line in made_otherwise(training, here):
            problems.append(f"{workspace.cache(cache)}: made otherwise than in training: {line}")
    if problems:
        raise ItmkitError(problems)

"""Turns every picture of the data set into a row of a cache, whatever the model.

Child processes decode pictures ahead of the model, threads prepare its inputs, and one thread writes its results, so
that the model does not wait. The model runs in the calling thread: each thread that uses torch on a CPU starts helpers
of its own, and those of two threads get in each other's way. It gets pictures in groups that begin anew with each
shard, so a shard's bytes do not depend on where an earlier run was killed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.cache import CacheWriter
from itmkit.cache.writer import ShardWriter
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.job import Job
from itmkit.machine.ahead import threads_beside, work_ahead
from itmkit.machine.memory import keep_freed_memory
from itmkit.pictures.decode import TIMEOUT, Decoder, Picture, Square
from itmkit.pictures.load import ChangedImage, UnreadableImage
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

LEAST_GROUP = 4
BEHIND = 2  # groups that may wait behind the model


@dataclass(frozen=True)
class Steps:
    """What a stage does with pictures. What it makes of one must not depend on the others beyond rounding.

    prepare: the model's input of a picture; called by several threads. compute: what the model finds in some inputs,
    with the paths of the pictures for error messages; in the calling thread, in order. rows: all columns of the cache,
    each (pictures, *shape), of pictures and what the model found in them; in the thread that writes.
    batch: pictures the model runs at once; it gets a few batches together, to sort them by shape.
    square: what pictures are squashed to where they are decoded; None leaves them as they are.
    """

    prepare: Callable[[Image.Image], Any]
    compute: Callable[[list[Any], list[str]], Any]
    rows: Callable[[list[Picture], Any], dict[str, np.ndarray]]
    batch: int
    square: Square | None = None


@dataclass(frozen=True)
class _Ready:
    """A decoded picture and the model's input of it."""

    picture: Picture
    inputs: Any


Found = _Ready | ChangedImage | UnreadableImage


def extract_pictures(
    workspace: Workspace,
    records: Sequence[ImageRecord],
    writer: CacheWriter,
    steps: Steps,
    *,
    title: str,
    job: Job,
) -> None:
    """Writes every shard that is not there yet.

    Args:
        records: of all rows of the cache, in the order of the writer's keys.
        title: of the progress bar.

    Raises:
        ItmkitError: names all pictures of a shard that changed since `prepare` or, if it is strict, cannot be read.
    """
    size, group = writer.manifest.shard_size, max(LEAST_GROUP, 2 * steps.batch)
    count = job.workers or min(8, os.cpu_count() or 1)
    keep_freed_memory()
    with (
        _decoders(workspace, steps, count, job.timeout or TIMEOUT, ahead=group) as decoded,
        threads_beside(1) as disk,
        job.progress.task(title, writer.total, done=writer.done, unit="images") as advance,
    ):
        for number, keys in writer.pending():
            part = records[number * size : number * size + len(keys)]
            trouble = _Trouble(workspace, writer, job.strict)
            with writer.shard(number) as out:
                # Three lines of work at once: pictures decoded, a group in the model, rows on their way to the disk.
                groups = trouble.taken_out(_groups(decoded(part), group), out)
                computed = ((some, steps.compute(some.inputs, some.paths) if some.ids else None) for some in groups)
                written = work_ahead(disk, partial(_written, steps, out), computed, ahead=BEHIND)
                with closing(written):  # type: ignore[type-var]
                    for count in written:
                        advance(count, status=trouble.status)
                trouble.raise_any()


@dataclass(frozen=True)
class _Group:
    """Pictures handed to the model together. `count` includes those that cannot be read."""

    count: int
    ids: list[str]
    paths: list[str]
    pictures: list[Picture]
    inputs: list[Any]


class _Trouble:
    """Pictures of one shard that give no row, taken out of the groups."""

    def __init__(self, workspace: Workspace, writer: CacheWriter, strict: bool) -> None:
        self._workspace, self._stage, self._strict = workspace, writer.manifest.made_by.stage, strict
        self._changed: list[str] = []
        self._unreadable: list[str] = []

    def taken_out(self, groups: Iterator[list[tuple[ImageRecord, Found]]], out: ShardWriter) -> Iterator[_Group]:
        for group in groups:
            good: list[tuple[str, str, _Ready]] = []
            for record, found in group:
                path = str(self._workspace.image_path(record.file or ""))
                if isinstance(found, ChangedImage):
                    self._changed.append(f"{path}: {found.what} since `itmkit prepare`")
                elif isinstance(found, UnreadableImage):
                    out.skip(record.id, found.reason)
                    self._unreadable.append(f"{path}: {found.reason}")
                else:
                    good.append((record.id, path, found))
            if self._changed or (self._strict and self._unreadable):
                good = []  # the shard will not be kept: only look for more of the kind
            ids, paths, ready = map(list, zip(*good, strict=True)) if good else ([], [], [])
            yield _Group(len(group), ids, paths, [one.picture for one in ready], [one.inputs for one in ready])

    @property
    def status(self) -> str | None:
        return f"{len(self._unreadable)} skipped" if self._unreadable else None

    def raise_any(self) -> None:
        if self._changed:
            raise ItmkitError([*self._changed, f"run `itmkit prepare` again, then `itmkit {self._stage} --force`"])
        if self._strict and self._unreadable:
            raise ItmkitError(self._unreadable)


def _written(steps: Steps, out: ShardWriter, computed: tuple[_Group, Any]) -> int:
    group, found = computed
    if group.ids:
        out.append(group.ids, steps.rows(group.pictures, found))
    return group.count


def _groups(found: Iterator[tuple[ImageRecord, Found]], size: int) -> Iterator[list[tuple[ImageRecord, Found]]]:
    """Groups end at fixed places, whether or not pictures are skipped, so a shard is the same however the run went."""
    while group := list(islice(found, size)):
        yield group


@contextmanager
def _decoders(
    workspace: Workspace, steps: Steps, workers: int, timeout: float, *, ahead: int
) -> Iterator[Callable[[Sequence[ImageRecord]], Iterator[tuple[ImageRecord, Found]]]]:
    """A function that decodes and prepares pictures in order, some ahead, by `workers` threads with a child each."""
    mine, decoders = threading.local(), []

    def begin() -> None:  # each thread of the pool talks to a child of its own
        mine.decoder = Decoder(timeout=timeout, square=steps.square)
        decoders.append(mine.decoder)

    def one(record: ImageRecord) -> tuple[ImageRecord, Found]:
        if record.file is None:
            return record, UnreadableImage("the data set names no file")
        try:
            picture = mine.decoder.decode(workspace.image_path(record.file), record.sha256)
            return record, _Ready(picture, steps.prepare(picture.image))
        except (ChangedImage, UnreadableImage) as problem:
            return record, problem

    try:
        with threads_beside(workers, begin) as pool:
            yield lambda records: work_ahead(pool, one, records, ahead=ahead)
    finally:
        for decoder in decoders:
            decoder.close()

"""Every picture of the data set becomes a row of a cache, whatever a model makes of it.

Child processes decode pictures ahead of the model, and a thread writes its results, so that the model does not wait.
Pictures are handed to the model in groups that begin anew with each shard, so a shard's bytes do not depend on where
an earlier run was killed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from itmkit.ahead import work_ahead
from itmkit.cache import CacheWriter
from itmkit.cache.writer import ShardWriter
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.progress import Progress
from itmkit.regions.decoding import TIMEOUT, Decoder, Picture
from itmkit.regions.images import ChangedImage, UnreadableImage
from itmkit.workspace import Workspace

GROUP = 32  # pictures handed to the model together; it cuts them into batches of equal shapes
AHEAD = 2  # groups that may wait before the model, and behind it
Rows = Callable[[list[Picture], list[str]], dict[str, np.ndarray]]


Found = Picture | ChangedImage | UnreadableImage


def extract_pictures(
    workspace: Workspace,
    records: Sequence[ImageRecord],
    writer: CacheWriter,
    rows: Rows,
    *,
    strict: bool,
    title: str,
    workers: int | None = None,
    timeout: float | None = None,
    progress: Progress,
) -> None:
    """Writes every shard that is not there yet.

    Args:
        records: of all rows of the cache, in the order of the writer's keys.
        rows: from up to GROUP pictures and their paths (for error messages) to all columns of the cache, each
            (pictures, *shape). What it gives for a picture must not depend on the others beyond rounding. It is
            called by one thread, in order.
        strict: stop where a picture cannot be read, instead of leaving it out and listing it in the manifest.
        workers: processes that decode; default one a core, at most 8. timeout: seconds a picture may take.
        title: of the progress bar.

    Raises:
        ItmkitError: all pictures of a shard that changed since `prepare`, or with `strict` cannot be read.
    """
    size = writer.manifest.shard_size
    with (
        _decoders(workspace, workers or min(8, os.cpu_count() or 1), timeout or TIMEOUT) as decoded,
        ThreadPoolExecutor(1) as model,
        ThreadPoolExecutor(1) as disk,
        progress.task(title, writer.total, done=writer.done, unit="images") as advance,
    ):
        for number, keys in writer.pending():
            part = records[number * size : number * size + len(keys)]
            trouble = _Trouble(workspace, writer, strict)
            with writer.shard(number) as out:
                # Three lines of work at once: pictures decoded, a group in the model, rows on their way to the disk.
                groups = trouble.taken_out(_groups(decoded(part)), out)
                computed = work_ahead(model, partial(_computed, rows), groups, ahead=AHEAD)
                written = work_ahead(disk, partial(_written, out), computed, ahead=AHEAD)
                with closing(computed), closing(written):  # type: ignore[type-var]
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


class _Trouble:
    """Pictures of one shard that give no row, taken out of the groups."""

    def __init__(self, workspace: Workspace, writer: CacheWriter, strict: bool) -> None:
        self._workspace, self._stage, self._strict = workspace, writer.manifest.made_by.stage, strict
        self._changed: list[str] = []
        self._unreadable: list[str] = []

    def taken_out(self, groups: Iterator[list[tuple[ImageRecord, Found]]], out: ShardWriter) -> Iterator[_Group]:
        for group in groups:
            good: list[tuple[ImageRecord, str, Picture]] = []
            for record, found in group:
                path = str(self._workspace.image_path(record.file or ""))
                if isinstance(found, ChangedImage):
                    self._changed.append(f"{path}: {found.what} since `itmkit prepare`")
                elif isinstance(found, UnreadableImage):
                    out.skip(record.id, found.reason)
                    self._unreadable.append(f"{path}: {found.reason}")
                else:
                    good.append((record, path, found))
            if self._changed or (self._strict and self._unreadable):
                good = []  # the shard will not be kept: only look for more of the kind
            yield _Group(len(group), [r.id for r, _, _ in good], [p for _, p, _ in good], [f for _, _, f in good])

    @property
    def status(self) -> str | None:
        return f"{len(self._unreadable)} skipped" if self._unreadable else None

    def raise_any(self) -> None:
        if self._changed:
            raise ItmkitError([*self._changed, f"run `itmkit prepare` again, then `itmkit {self._stage} --force`"])
        if self._strict and self._unreadable:
            raise ItmkitError(self._unreadable)


def _computed(rows: Rows, group: _Group) -> tuple[_Group, dict[str, np.ndarray]]:
    return group, rows(group.pictures, group.paths) if group.pictures else {}


def _written(out: ShardWriter, computed: tuple[_Group, dict[str, np.ndarray]]) -> int:
    group, columns = computed
    if columns:
        out.append(group.ids, columns)
    return group.count


def _groups(found: Iterator[tuple[ImageRecord, Found]]) -> Iterator[list[tuple[ImageRecord, Found]]]:
    """Groups end at fixed places, skipped pictures or not: a shard is the same however the run went."""
    while group := list(islice(found, GROUP)):
        yield group


@contextmanager
def _decoders(
    workspace: Workspace, workers: int, timeout: float
) -> Iterator[Callable[[Sequence[ImageRecord]], Iterator[tuple[ImageRecord, Found]]]]:
    """A function that decodes pictures in order, a group ahead, in `workers` child processes."""
    mine, decoders = threading.local(), []

    def begin() -> None:  # each thread of the pool talks to a child of its own
        mine.decoder = Decoder(timeout=timeout)
        decoders.append(mine.decoder)

    def one(record: ImageRecord) -> tuple[ImageRecord, Found]:
        if record.file is None:
            return record, UnreadableImage("the data set names no file")
        try:
            return record, mine.decoder.decode(workspace.image_path(record.file), record.sha256)
        except (ChangedImage, UnreadableImage) as problem:
            return record, problem

    pool = ThreadPoolExecutor(workers, initializer=begin)
    try:
        yield lambda records: work_ahead(pool, one, records, ahead=GROUP)
    finally:
        pool.shutdown(cancel_futures=True)
        for decoder in decoders:
            decoder.close()

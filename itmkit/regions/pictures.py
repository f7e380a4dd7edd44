"""Every picture of the data set becomes a row of a cache, whatever a model makes of it.

Threads decode pictures a little ahead of the model; results go to disk at once. Pictures are handed to the model in
groups that begin anew with each shard, so a shard's bytes do not depend on where an earlier run was killed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from itmkit.cache import CacheWriter
from itmkit.cache.writer import ShardWriter
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.progress import Advance, Progress
from itmkit.regions.images import ChangedImage, UnreadableImage, load_image, quiet_decoding
from itmkit.workspace import Workspace

GROUP = 32  # pictures handed to the model together; it cuts them into batches of equal shapes
MOST_PIXELS_A_SIDE = 2000  # larger pictures are reduced first: no model looks at them closer than this


@dataclass(frozen=True)
class Picture:
    """A decoded upright RGB picture, reduced where it was very large, and its size (width, height) before that."""

    image: Image.Image
    size: tuple[int, int]


Rows = Callable[[list[Picture], list[str]], dict[str, np.ndarray]]


def extract_pictures(
    workspace: Workspace,
    records: Sequence[ImageRecord],
    writer: CacheWriter,
    rows: Rows,
    *,
    strict: bool,
    threads: int,
    title: str,
    progress: Progress,
) -> None:
    """Writes every shard that is not there yet.

    Args:
        records: of all rows of the cache, in the order of the writer's keys.
        rows: from up to GROUP pictures and their paths (for error messages) to all columns of the cache, each
            (pictures, *shape). What it gives for a picture must not depend on the others beyond rounding.
        strict: stop where a picture cannot be read, instead of leaving it out and listing it in the manifest.
        threads: that decode. title: of the progress bar.

    Raises:
        ItmkitError: all pictures of a shard that changed since `prepare`, or with `strict` cannot be read.
    """
    at = writer.done
    with (
        quiet_decoding(),
        ThreadPoolExecutor(threads) as pool,
        progress.task(title, len(records), done=at, unit="images") as advance,
    ):
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                _shard(workspace, records[at : at + len(keys)], writer, out, rows, strict, pool, advance)
            at += len(keys)


def _shard(
    workspace: Workspace,
    records: Sequence[ImageRecord],
    writer: CacheWriter,
    out: ShardWriter,
    rows: Rows,
    strict: bool,
    pool: ThreadPoolExecutor,
    advance: Advance,
) -> None:
    """Decodes, extracts and writes the pictures of one shard."""
    changed: list[str] = []
    unreadable: list[str] = []
    group: list[tuple[ImageRecord, Picture]] = []
    for number, (record, found) in enumerate(_decoded(workspace, records, pool), 1):
        path = str(workspace.image_path(record.file or ""))
        if isinstance(found, ChangedImage):
            changed.append(f"{path}: {found.what} since `itmkit prepare`")
        elif isinstance(found, UnreadableImage):
            out.skip(record.id, found.reason)
            unreadable.append(f"{path}: {found.reason}")
        elif not changed and not (strict and unreadable):
            group.append((record, found))
        # Groups end at fixed places, skipped pictures or not: a shard is the same however the run went.
        if number % GROUP == 0 or number == len(records):
            if group:
                labels = [str(workspace.image_path(record.file or "")) for record, _ in group]
                columns = rows([picture for _, picture in group], labels)
                out.append([record.id for record, _ in group], columns)
            group = []
            advance(number - (number - 1) // GROUP * GROUP, status=_status(len(unreadable)))
    if changed:
        stage = writer.manifest.made_by.stage
        raise ItmkitError([*changed, f"run `itmkit prepare` again, then `itmkit {stage} --force`"])
    if strict and unreadable:
        raise ItmkitError(unreadable)


def _decoded(
    workspace: Workspace, records: Sequence[ImageRecord], pool: ThreadPoolExecutor
) -> Iterator[tuple[ImageRecord, Picture | ChangedImage | UnreadableImage]]:
    """The pictures in order, decoded at most a group ahead."""
    waiting: deque[tuple[ImageRecord, Future[Picture | ChangedImage | UnreadableImage]]] = deque()
    try:
        for record in records:
            waiting.append((record, pool.submit(partial(_decode, workspace, record))))
            if len(waiting) > GROUP:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _decode(workspace: Workspace, record: ImageRecord) -> Picture | ChangedImage | UnreadableImage:
    if record.file is None:
        return UnreadableImage("the data set names no file")
    try:
        image = load_image(workspace.image_path(record.file), expected_sha256=record.sha256)
    except (ChangedImage, UnreadableImage) as problem:
        return problem
    size = image.size
    if max(size) > MOST_PIXELS_A_SIDE:
        scale = MOST_PIXELS_A_SIDE / max(size)
        image = image.resize(
            (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))),
            Image.Resampling.BILINEAR,
            reducing_gap=2.0,
        )
    return Picture(image, size)


def _status(skipped: int) -> str | None:
    return f"{skipped} skipped" if skipped else None

"""extract-regions: every picture of the data set becomes a row of caches/regions.

Threads decode pictures a little ahead of the model; results go to disk at once. Pictures are handed to the model in
groups that begin anew with each shard, so a shard's bytes do not depend on where an earlier run was killed.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from itmkit.cache import CacheReader, CacheWriter
from itmkit.cache.writer import ShardWriter
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.progress import SILENT, Advance, Progress
from itmkit.regions.choose import SCENES, Backend, Choice, choose, load, made_by
from itmkit.regions.colours import COLOUR_NAMES, region_colours
from itmkit.regions.images import ChangedImage, UnreadableImage, load_image, quiet_decoding
from itmkit.regions.regions import Regions, region_columns
from itmkit.workspace import Workspace

GROUP = 32  # pictures handed to the model together; it cuts them into batches of equal shapes
MOST_PIXELS_A_SIDE = 2000  # larger pictures are reduced first: no detector looks at them closer than this


@dataclass(frozen=True)
class ExtractResult:
    """What `extract_regions` did. `skipped`: {"id", "reason"} of every picture that could not be read."""

    path: Path
    backend: str
    model: str
    device: str
    images: int
    regions: int
    dim: int
    seconds: float
    done_now: int
    skipped: list[dict[str, str]] = field(default_factory=list)
    unchanged: bool = False


def extract_regions(
    workspace: Workspace,
    *,
    backend: str | None = None,
    model: str | None = None,
    regions: int | None = None,
    size: int | None = None,
    config: str | Path | None = None,
    vocabulary: str | Path | None = None,
    selection: str | None = None,
    min_regions: int | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    shard_size: int = 2000,
    threads: int | None = None,
    strict: bool = False,
    download: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> ExtractResult:
    """Extracts the regions of all pictures into caches/regions.

    Args:
        backend: "detector" (any object-detection model of transformers), "grid" (windows over the feature map of
            any vision model) or "detectron2" (bottom-up attention, or any R-CNN of detectron2). model: a path, a hub
            name, or "scenes-detector", which is shipped. Where neither is given, see `itmkit.regions.choose.choose`.
        regions: R, 36 by default. size: pixels of the grid's input.
        config, vocabulary, selection, min_regions: of detectron2; see `itmkit.regions.bottom_up.settings`.
        batch_size: pictures a batch; has no influence on the result beyond rounding.
        device: as torch names it; default cuda where there is one, else cpu.
        threads: that decode; default one a core, at most 4.
        strict: stop where a picture cannot be read, instead of leaving it out and listing it.
        download: the model may be fetched from the hub although the user did not name it.

    Raises:
        ItmkitError: no pictures, pictures that changed since `prepare`, a model that cannot be had, a cache made
            from other data or settings (and not `force`), or, with `strict`, the pictures that cannot be read.
    """
    dataset = workspace.dataset()
    if not any(image.file for image in dataset.images):
        raise ItmkitError(
            f"{workspace.dataset_path}: names no picture files (its features were imported); nothing can be extracted"
        )
    choice = choose(
        workspace,
        dataset,
        backend=backend,
        model=model,
        regions=regions,
        size=size,
        config=config,
        vocabulary=vocabulary,
        selection=selection,
        min_regions=min_regions,
    )
    folder, start, begun = workspace.cache("regions"), time.perf_counter(), len(dataset.images)
    if not choice.settled or force:
        device = _usable_device(device)
        progress.note(f"extract-regions: {choice.backend} {choice.model} on {device} ({choice.why})")
        loaded = load(choice, device=device, download=download)
        start = time.perf_counter()
        with CacheWriter.open(
            folder,
            made_by=made_by(choice, loaded, workspace.inputs("regions", dataset)),
            columns=region_columns(choice.regions, loaded.dim),
            keys=[image.id for image in dataset.images],
            tables={"tags": loaded.names, "attributes": loaded.attribute_names or list(COLOUR_NAMES)},
            shard_size=shard_size,
            notes={**choice.notes, "device": device},
            force=force,
        ) as writer:
            begun = writer.done
            run = _Run(workspace, loaded, choice, batch_size or _default_batch(choice, device), strict, writer)
            run.all(dataset.images, threads or min(4, os.cpu_count() or 1), progress)
    manifest = CacheReader.open(folder).manifest
    skipped = manifest.skipped
    if strict and skipped:
        raise ItmkitError([_line(workspace, item["id"], item["reason"], dataset.images) for item in skipped])
    if len(skipped) == len(dataset.images):
        shown = "; ".join(f"{item['id']}: {item['reason']}" for item in skipped[:3])
        raise ItmkitError(f"none of the {len(skipped)} pictures can be read ({shown})")
    return ExtractResult(
        path=folder,
        backend=choice.backend,
        model=choice.model,
        device=device or str(manifest.notes.get("device")),
        images=manifest.count,
        regions=choice.regions,
        dim=manifest.columns["features"].shape[1],
        seconds=time.perf_counter() - start,
        done_now=len(dataset.images) - begun,
        skipped=skipped,
        unchanged=begun == len(dataset.images),
    )


@dataclass
class _Run:
    workspace: Workspace
    backend: Backend
    choice: Choice
    batch: int
    strict: bool
    writer: CacheWriter

    def all(self, records: Sequence[ImageRecord], threads: int, progress: Progress) -> None:
        """Every shard that is not there yet."""
        at = self.writer.done
        with (
            quiet_decoding(),
            ThreadPoolExecutor(threads) as pool,
            progress.task("extract-regions", len(records), done=at, unit="images") as advance,
        ):
            for number, keys in self.writer.pending():
                with self.writer.shard(number) as out:
                    self.shard(records[at : at + len(keys)], out, pool, advance)
                at += len(keys)

    def shard(
        self, records: Sequence[ImageRecord], out: ShardWriter, pool: ThreadPoolExecutor, advance: Advance
    ) -> None:
        """Decodes, extracts and writes the pictures of one shard."""
        changed: list[str] = []
        unreadable: list[str] = []
        group: list[tuple[ImageRecord, _Picture]] = []
        for number, (record, found) in enumerate(_decoded(self.workspace, records, pool), 1):
            if isinstance(found, ChangedImage):
                changed.append(f"{self.workspace.image_path(record.file or '')}: {found.what} since `itmkit prepare`")
            elif isinstance(found, UnreadableImage):
                out.skip(record.id, found.reason)
                unreadable.append(f"{self.workspace.image_path(record.file or '')}: {found.reason}")
            elif not changed and not (self.strict and unreadable):
                group.append((record, found))
            # Groups end at fixed places, skipped pictures or not: a shard is the same however the run went.
            if number % GROUP == 0 or number == len(records):
                if group:
                    self._write(group, out)
                group = []
                advance(number - (number - 1) // GROUP * GROUP, status=_status(len(unreadable)))
        if changed:
            raise ItmkitError([*changed, "run `itmkit prepare` again, then `itmkit extract-regions --force`"])
        if self.strict and unreadable:
            raise ItmkitError(unreadable)

    def _write(self, group: list[tuple[ImageRecord, _Picture]], out: ShardWriter) -> None:
        labels = [str(self.workspace.image_path(record.file or "")) for record, _ in group]
        try:
            found = self.backend.detect(
                [picture.image for _, picture in group], regions=self.choice.regions, labels=labels, batch=self.batch
            )
        except RuntimeError as error:
            if "out of memory" not in str(error) and "can't allocate" not in str(error):
                raise
            raise ItmkitError(
                f"the device has not enough memory for {self.batch} pictures at once; lower --batch-size"
                " (what is done is kept, the run continues)"
            ) from error
        columns = _columns(self.writer, [picture for _, picture in group], found, self.choice.regions, self.backend.dim)
        out.append([record.id for record, _ in group], columns)


@dataclass(frozen=True)
class _Picture:
    """A decoded picture, reduced where it was very large, and its size before that."""

    image: Image.Image
    size: tuple[int, int]


def _decoded(
    workspace: Workspace, records: Sequence[ImageRecord], pool: ThreadPoolExecutor
) -> Iterator[tuple[ImageRecord, _Picture | ChangedImage | UnreadableImage]]:
    """The pictures in order, decoded at most a group ahead."""
    waiting: deque[tuple[ImageRecord, Future[_Picture | ChangedImage | UnreadableImage]]] = deque()
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


def _decode(workspace: Workspace, record: ImageRecord) -> _Picture | ChangedImage | UnreadableImage:
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
    return _Picture(image, size)


def _columns(
    writer: CacheWriter, pictures: Sequence[_Picture], found: Sequence[Regions], regions: int, dim: int
) -> dict[str, np.ndarray]:
    """The rows of some pictures; places past a picture's last region hold zeros, and -1 for "none"."""
    n = len(found)
    columns: dict[str, np.ndarray] = {
        "features": np.zeros((n, regions, dim), np.float32),
        "boxes": np.zeros((n, regions, 4), np.float32),
        "count": np.array([len(one) for one in found], np.int16),
        "tags": np.full((n, regions), -1, np.int32),
        "attributes": np.full((n, regions), -1, np.int16),
        "scores": np.zeros((n, regions), np.float32),
        "size": np.array([picture.size for picture in pictures], np.int32),
    }
    for at, (picture, one) in enumerate(zip(pictures, found, strict=True)):
        count = len(one)
        scale = np.array(picture.size * 2, np.float32) / np.array(picture.image.size * 2, np.float32)
        columns["features"][at, :count] = one.features
        columns["boxes"][at, :count] = one.boxes * scale
        columns["scores"][at, :count] = one.scores
        _name(writer, "tags", columns["tags"][at], one.tags)
        if one.attributes is None:
            columns["attributes"][at, :count] = region_colours(picture.image, one.boxes)
        else:
            _name(writer, "attributes", columns["attributes"][at], one.attributes)
    return columns


def _name(writer: CacheWriter, table: str, row: np.ndarray, names: Sequence[str]) -> None:
    """Writes the numbers of names into a row; "" stays -1."""
    named = np.flatnonzero([bool(name) for name in names])
    row[named] = writer.index(table, [names[place] for place in named])


def _status(skipped: int) -> str | None:
    return f"{skipped} skipped" if skipped else None


def _line(workspace: Workspace, key: str, reason: str, images: Sequence[ImageRecord]) -> str:
    file = next((image.file for image in images if image.id == key), None)
    return f"{workspace.image_path(file) if file else key}: {reason}"


def _default_batch(choice: Choice, device: str) -> int:
    # On a CPU larger batches are slower: their activations do not fit its caches, nor memory that can be used again
    # (MobileNetV2 at 448 pixels: 0.6 s a picture in batches of 8, 0.2 s in batches of 1 to 4). Scenes are small.
    return 2 if device == "cpu" and choice.model != SCENES else 16


def _usable_device(device: str | None) -> str:
    if device == "cpu":
        return device
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ItmkitError(f"--device {device}: cannot be used here ({reason})") from None
    return device

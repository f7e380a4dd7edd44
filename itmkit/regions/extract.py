"""extract-regions: every picture of the data set becomes a row of caches/regions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from itmkit.cache import WHOLE, CacheReader, CacheWriter, Part
from itmkit.cache.begin import shard_size_of
from itmkit.machine.device import enough_memory, usable_device
from itmkit.pictures.decode import Picture
from itmkit.pictures.skipped import check_files, check_skipped
from itmkit.pictures.stage import Steps, extract_pictures
from itmkit.progress import SILENT, Progress
from itmkit.regions.choose import SCENES, Backend, Choice, choose, load, made_by
from itmkit.regions.colours import COLOUR_NAMES, region_colours
from itmkit.regions.regions import ModelInput, Regions, empty_rows, region_columns
from itmkit.workspace import Workspace

SHARD = 2000


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
    precision: str | None = None,
    config: str | Path | None = None,
    vocabulary: str | Path | None = None,
    selection: str | None = None,
    min_regions: int | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    shard_size: int | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    part: Part = WHOLE,
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
        regions: R, 36 by default. size: pixels of the grid's input. precision: of the grid's model: "float32" (the
            default), "bfloat16" or "float16".
        config, vocabulary, selection, min_regions: of detectron2; see `itmkit.regions.bottom_up.settings`.
        batch_size: pictures a batch; has no influence on the result beyond rounding.
        device: as torch names it; default cuda where there is one, else cpu.
        shard_size: pictures a shard, what a killed run may lose; default as the cache was begun, else 2,000.
        workers: processes that decode pictures; default one a core, at most 8. timeout: the most seconds that
            decoding a picture may take (120); a slower one is skipped.
        part: which shards to do, where several processes share the work; the result tells of these alone, and
            `itmkit.cache.merge_parts` makes one cache of all.
        strict: stop where a picture cannot be read, instead of leaving it out and listing it.
        download: the model may be fetched from the hub although the user did not name it.

    Raises:
        ItmkitError: no pictures, pictures that changed since `prepare`, a model that cannot be had, a cache made
            from other data or settings (and not `force`), or, with `strict`, the pictures that cannot be read.
    """
    dataset = workspace.dataset()
    check_files(workspace, dataset)
    choice = choose(
        workspace,
        dataset,
        backend=backend,
        model=model,
        regions=regions,
        size=size,
        precision=precision,
        config=config,
        vocabulary=vocabulary,
        selection=selection,
        min_regions=min_regions,
    )
    folder, start, done_now, manifest = workspace.cache("regions"), time.perf_counter(), 0, None
    if not choice.settled or force:
        device = usable_device(device)
        progress.note(f"extract-regions: {choice.backend} {choice.model} on {device} ({choice.why})")
        loaded = load(choice, device=device, download=download)
        start = time.perf_counter()
        with CacheWriter.open(
            folder,
            made_by=made_by(choice, loaded, workspace.inputs("regions", dataset)),
            columns=region_columns(choice.regions, loaded.dim),
            keys=[image.id for image in dataset.images],
            tables={"tags": loaded.names, "attributes": loaded.attribute_names or list(COLOUR_NAMES)},
            shard_size=shard_size or (SHARD if force else shard_size_of(folder, SHARD)),
            notes={**choice.notes, "device": device},
            part=part,
            force=force,
        ) as writer:
            manifest, done_now = writer.manifest, writer.total - writer.done
            extract_pictures(
                workspace,
                dataset.images,
                writer,
                _steps(writer, loaded, choice, batch_size or _default_batch(choice, device)),
                strict=strict,
                workers=workers,
                timeout=timeout,
                title="extract-regions",
                progress=progress,
            )
    manifest = manifest or CacheReader.open(folder).manifest
    skipped = manifest.skipped
    check_skipped(workspace, dataset.images, skipped, strict=strict)
    return ExtractResult(
        path=folder,
        backend=choice.backend,
        model=choice.model,
        device=device or str(manifest.notes.get("device")),
        images=manifest.count,
        regions=choice.regions,
        dim=manifest.columns["features"].shape[1],
        seconds=time.perf_counter() - start,
        done_now=done_now,
        skipped=skipped,
        unchanged=done_now == 0,
    )


def _steps(writer: CacheWriter, backend: Backend, choice: Choice, batch: int) -> Steps:
    def compute(prepared: list[ModelInput], labels: list[str]) -> list[Regions]:
        with enough_memory(batch):
            return backend.detect(prepared, regions=choice.regions, labels=labels, batch=batch)

    rows = partial(_rows, writer, choice.regions, backend.dim)
    return Steps(backend.prepare, compute, rows, batch=batch, square=backend.square)


def _rows(
    writer: CacheWriter, regions: int, dim: int, pictures: Sequence[Picture], found: Sequence[Regions]
) -> dict[str, np.ndarray]:
    """The rows of some pictures; places past a picture's last region hold zeros, and -1 for "none"."""
    sizes = [picture.size for picture in pictures]
    columns = empty_rows([len(one) for one in found], sizes, regions, dim, features=np.float32)
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


def _default_batch(choice: Choice, device: str) -> int:
    # On a CPU larger batches are no faster, and their activations do not fit its caches. Scenes are small.
    return 1 if device == "cpu" and choice.model != SCENES else 16

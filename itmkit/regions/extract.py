"""extract-regions: every picture of the data set becomes a row of caches/regions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from itmkit.cache import CacheReader, CacheWriter
from itmkit.cache.manifest import Manifest
from itmkit.dataset import Dataset
from itmkit.job import USUAL, Job
from itmkit.machine.device import enough_memory, usable_device
from itmkit.models.look import FirstLook
from itmkit.pictures.decode import Picture
from itmkit.pictures.skipped import check_files, check_skipped
from itmkit.pictures.stage import Steps, extract_pictures
from itmkit.regions.bottom_up.settings import BottomUpOptions
from itmkit.regions.choose import SCENES, Backend, Choice, choose, load, made_by
from itmkit.regions.colours import COLOUR_NAMES, region_colours
from itmkit.regions.regions import ModelInput, Regions, empty_rows, region_columns
from itmkit.stages import admit_added
from itmkit.workspace import Workspace

SHARD = 2000
Numbering = Callable[[str, list[str]], np.ndarray]
USUAL_BOTTOM_UP = BottomUpOptions()


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
    vocabulary: str | Path | None = None,
    bottom_up: BottomUpOptions = USUAL_BOTTOM_UP,
    download: bool = False,
    job: Job = USUAL,
) -> ExtractResult:
    """Extracts the regions of all pictures into caches/regions.

    Args:
        backend: "detector" (any object-detection model of transformers), "grid" (windows over the feature map of
            any vision model) or "detectron2" (bottom-up attention, or any R-CNN of detectron2). model: a path, a hub
            name, or "scenes-detector", which is shipped. If neither is given, see `itmkit.regions.choose.choose`.
        regions: R, 36 by default. size: pixels of the grid's input. Only the grid's model heeds the job's precision.
        vocabulary: text file with the names that OWLv2 or Grounding DINO looks for, one a line; None: Visual Genome's.
        bottom_up: the options of detectron2.
        download: whether the model may be fetched from the hub although the user did not name it.

    Raises:
        ItmkitError: there are no pictures, pictures changed since `prepare`, the model cannot be loaded, the cache was
            made from other data or settings (and is not forced), or the job is strict and pictures cannot be read.
    """
    dataset = workspace.dataset()
    check_files(workspace, dataset)
    more = asdict(bottom_up) | ({} if vocabulary is None else {"vocabulary": vocabulary})
    choice = choose(
        workspace, dataset,
        backend=backend, model=model, regions=regions, size=size, precision=job.precision, **more,
    )  # fmt: skip
    folder, device, start, done_now, manifest = workspace.cache("regions"), job.device, time.perf_counter(), 0, None
    if not choice.settled or job.force:
        device = usable_device(device)
        job.progress.note(f"extract-regions: {choice.backend} {choice.model} on {device} ({choice.why})")
        loaded = load(choice, device=device, download=download)
        start = time.perf_counter()
        manifest, done_now = _extract(workspace, dataset, choice, loaded, device, job)
    manifest = manifest or CacheReader.open(folder).manifest
    skipped = manifest.skipped
    check_skipped(workspace, dataset.images, skipped, strict=job.strict)
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


def _extract(
    workspace: Workspace, dataset: Dataset, choice: Choice, loaded: Backend, device: str, job: Job
) -> tuple[Manifest, int]:
    """Returns the cache's manifest, and how many pictures were processed now."""
    folder = workspace.cache("regions")
    made, size = made_by(choice, loaded, workspace.inputs("regions", dataset)), job.rows_a_shard(folder, SHARD)
    admit_added(
        workspace, "regions", made, dataset,
        planned=len(dataset.images), shard_size=size, part=job.part, force=job.force,
    )  # fmt: skip
    with CacheWriter.open(
        folder,
        made_by=made,
        columns=region_columns(choice.regions, loaded.dim),
        keys=[image.id for image in dataset.images],
        tables={"tags": loaded.names, "attributes": loaded.attribute_names or list(COLOUR_NAMES)},
        shard_size=size,
        notes={**choice.notes, "device": device},
        part=job.part,
        force=job.force,
    ) as writer:
        done_now = writer.total - writer.done
        steps = _steps(writer, loaded, choice, job.batch or _default_batch(choice, device))
        extract_pictures(workspace, dataset.images, writer, steps, title="extract-regions", job=job)
    return writer.manifest, done_now


def _steps(writer: CacheWriter, backend: Backend, choice: Choice, batch: int) -> Steps:
    look = FirstLook(choice.model, "pictures")

    def compute(prepared: list[ModelInput], labels: list[str]) -> list[Regions]:
        with enough_memory(batch):
            found = backend.detect(prepared, regions=choice.regions, labels=labels, batch=batch)
        look.at(labels, [one.inputs for one in prepared], [one.features for one in found])
        return found

    rows = partial(region_rows, writer.index, choice.regions, backend.dim)
    return Steps(backend.prepare, compute, rows, batch=batch, square=backend.square)


def region_rows(
    number: Numbering, regions: int, dim: int, pictures: Sequence[Picture], found: Sequence[Regions]
) -> dict[str, np.ndarray]:
    """The rows of some pictures; places past a picture's last region hold zeros, and -1 for "none".

    Args:
        number: the numbers of names in a table ("tags" or "attributes"), to which new ones are added.
        regions, dim: R and D of the cache.
    """
    sizes = [picture.size for picture in pictures]
    columns = empty_rows([len(one) for one in found], sizes, regions, dim, features=np.float32)
    for at, (picture, one) in enumerate(zip(pictures, found, strict=True)):
        count = len(one)
        scale = np.array(picture.size * 2, np.float32) / np.array(picture.image.size * 2, np.float32)
        columns["features"][at, :count] = one.features
        columns["boxes"][at, :count] = one.boxes * scale
        columns["scores"][at, :count] = one.scores
        _name(number, "tags", columns["tags"][at], one.tags)
        if one.attributes is None:
            columns["attributes"][at, :count] = region_colours(picture.image, one.boxes)
        else:
            _name(number, "attributes", columns["attributes"][at], one.attributes)
    return columns


def _name(number: Numbering, table: str, row: np.ndarray, names: Sequence[str]) -> None:
    """Writes the numbers of names into a row; "" stays -1."""
    named = np.flatnonzero([bool(name) for name in names])
    row[named] = number(table, [names[place] for place in named])


def _default_batch(choice: Choice, device: str) -> int:
    # On a CPU larger batches are no faster, and their activations do not fit its caches. Scenes are small.
    return 1 if device == "cpu" and choice.model != SCENES else 16

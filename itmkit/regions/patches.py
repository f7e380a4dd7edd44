"""extract-patches: every picture of the data set becomes the patch vectors of a vision transformer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.cache import CacheWriter, Column, MadeBy
from itmkit.cache.begin import begun_manifest
from itmkit.cache.manifest import Manifest
from itmkit.cache.name import is_patches
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.job import USUAL, Job
from itmkit.machine.device import Precision, check_precision, enough_memory, recorded, usable_device
from itmkit.models.hub import find_model, model_place, model_record
from itmkit.models.look import FirstLook
from itmkit.pictures.decode import Picture
from itmkit.pictures.skipped import check_files, check_skipped
from itmkit.pictures.stage import Steps, extract_pictures
from itmkit.regions.vit import KINDS, PatchModel, load_patch_model
from itmkit.stages import admit_added
from itmkit.workspace import Workspace

STAGE = "extract-patches"
SHARD = 2000


@dataclass(frozen=True)
class PatchesResult:
    """What `extract_patches` did. `skipped`: {"id", "reason"} of every picture that could not be read."""

    path: Path
    model: str
    device: str
    images: int
    patches: int
    dim: int
    size: int
    seconds: float
    done_now: int
    skipped: list[dict[str, str]] = field(default_factory=list)
    unchanged: bool = False


def patch_columns(patches: int, dim: int, *, attention: bool) -> dict[str, Column]:
    """The columns of a patch cache. With boxes and count it can be read wherever regions are read."""
    columns = {
        "features": Column("float16", (patches, dim)),
        "boxes": Column("float32", (patches, 4)),
        "count": Column("int16"),
        "cls": Column("float16", (dim,)),
        "attention": Column("float32", (patches,)),
        "size": Column("int32", (2,)),
    }
    if not attention:
        del columns["attention"]
    return columns


def extract_patches(
    workspace: Workspace,
    *,
    model: str | None = None,
    cache: str = "patches",
    size: int | None = None,
    attention: bool | None = None,
    job: Job = USUAL,
) -> PatchesResult:
    """Extracts the patch vectors of all pictures into caches/<cache>.

    Columns per picture are those of `patch_columns`; docs/extract-patches.md says what they hold.

    Args:
        model: folder of a transformers model, or a hub name; None takes the one the cache was begun with.
        cache: name of the cache.
        size: side in pixels of the square a picture is squashed to. Default: the size the model's own preprocessing
            produces.
        attention: whether there is a column attention; None: as the cache was begun with this model, else not.
            Without it, kernels that need less memory compute the attention of a model.

    Raises:
        ItmkitError: there are no pictures, pictures changed since `prepare`, the model cannot be loaded, gives no
            patches, no attention that was asked for or vectors of no use, the cache was made from other data or
            settings (and is not forced), or the job is strict and pictures cannot be read.
    """
    _check(cache, size, job)
    dataset = workspace.dataset()
    check_files(workspace, dataset)
    folder = workspace.cache(cache)
    asked, precision, device = model is not None, job.precision, usable_device(job.device)
    if model is None:
        model, size, precision = _begun_with(folder, size, precision)
    path = find_model(model, allow_download=asked, ways_out=KINDS)
    record = model_record(model, path)
    attention = _begun_with_attention(folder, record) if attention is None else attention
    precision = precision or "float32"
    job.progress.note(f"{STAGE}: {model} on {device}, with{'' if attention else 'out'} the attention of [CLS]")
    loaded = load_patch_model(model, size=size, attention=attention, device=device, precision=precision)
    settings = {"size": loaded.size, **recorded(precision), **({} if attention else {"attention": False})}
    made_by = MadeBy(STAGE, settings, record, workspace.inputs(cache, dataset))
    notes = {"model": model_place(model, path), "device": device, "cls": loaded.whole}
    start = time.perf_counter()
    manifest, done_now = _extract(workspace, dataset, folder, loaded, made_by, notes, job)
    check_skipped(workspace, dataset.images, manifest.skipped, strict=job.strict)
    return PatchesResult(
        path=folder,
        model=model,
        device=device,
        images=manifest.count,
        patches=loaded.patches,
        dim=loaded.dim,
        size=loaded.size,
        seconds=time.perf_counter() - start,
        done_now=done_now,
        skipped=manifest.skipped,
        unchanged=done_now == 0,
    )


def _check(cache: str, size: int | None, job: Job) -> None:
    """Refuses what does not exist or does not fit, all at once."""
    problems = []
    if not is_patches(cache):
        problems.append(f"--cache {cache!r}: a plain folder name is needed that is not another stage's, such as vit")
    if size is not None and not 16 <= size <= 4096:
        problems.append(f"size is {size}; a number of pixels from 16 to 4096 is needed")
    if job.precision is not None:
        check_precision(job.precision, problems)
    if problems:
        raise ItmkitError(problems)


def _extract(
    workspace: Workspace,
    dataset: Dataset,
    folder: Path,
    loaded: PatchModel,
    made_by: MadeBy,
    notes: dict[str, Any],
    job: Job,
) -> tuple[Manifest, int]:
    """Returns the cache's manifest, and how many pictures were processed now."""
    size = job.rows_a_shard(folder, SHARD)
    admit_added(
        workspace, folder.name, made_by, dataset,
        planned=len(dataset.images), shard_size=size, part=job.part, force=job.force,
    )  # fmt: skip
    with CacheWriter.open(
        folder,
        made_by=made_by,
        columns=patch_columns(loaded.patches, loaded.dim, attention=loaded.attention is not None),
        keys=[image.id for image in dataset.images],
        shard_size=size,
        notes=notes,
        part=job.part,
        force=job.force,
    ) as writer:
        done_now = writer.total - writer.done
        steps = _steps(loaded, job.batch or (4 if notes["device"] == "cpu" else 32))
        extract_pictures(workspace, dataset.images, writer, steps, title=STAGE, job=job)
    return writer.manifest, done_now


def _begun_with(
    folder: Path, size: int | None, precision: Precision | None
) -> tuple[str, int | None, Precision | None]:
    """Model, size and precision of the existing cache, finished or not. Given values take precedence."""
    manifest = begun_manifest(folder)
    if manifest is None or manifest.made_by.stage != STAGE:
        raise ItmkitError(f"--model is needed: the folder or the hub name of a vision transformer. {KINDS}")
    settings = manifest.made_by.settings
    return str(manifest.notes["model"]), size or settings["size"], precision or settings.get("precision")


def _begun_with_attention(folder: Path, model: dict[str, str]) -> bool:
    """Whether there is a cache of this model that holds attention."""
    manifest = begun_manifest(folder)
    if manifest is None or manifest.made_by.stage != STAGE or manifest.made_by.model != model:
        return False
    return bool(manifest.made_by.settings.get("attention", True))


def _steps(model: PatchModel, batch: int) -> Steps:
    look = FirstLook(model.model_id, "pictures")

    def compute(squares: list[np.ndarray], labels: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with enough_memory(batch):
            found = model.describe(squares, batch=batch)
        look.at(labels, squares, list(found[0]))
        return found

    return Steps(model.prepare, compute, partial(_rows, model), batch=batch, square=model.square)


def _rows(
    model: PatchModel, pictures: list[Picture], found: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    features, cls, attention = found
    columns = {
        "features": features,
        "boxes": np.stack([model.boxes(picture.size) for picture in pictures]),
        "count": np.full(len(pictures), model.patches, np.int16),
        "cls": cls,
        "attention": attention,
        "size": np.array([picture.size for picture in pictures], np.int32),
    }
    if model.attention is None:
        del columns["attention"]
    return columns

"""embed: pooled vectors of all pictures and of all distinct captions, in the common space of a dual encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from itmkit.cache import WHOLE, CacheReader, CacheWriter, Column, MadeBy, text_key
from itmkit.cache.begin import begun_manifest
from itmkit.cache.manifest import Manifest
from itmkit.cache.name import CacheName, vectors_cache
from itmkit.dataset import Dataset
from itmkit.embed.dual import KINDS, DualEncoder, load_dual
from itmkit.errors import ItmkitError
from itmkit.job import USUAL, Job
from itmkit.machine.device import Precision, check_precision, enough_memory, recorded, usable_device
from itmkit.models.hub import find_model, model_place, model_record, short_name
from itmkit.models.look import FirstLook
from itmkit.pictures.decode import Picture
from itmkit.pictures.skipped import check_files, check_skipped
from itmkit.pictures.stage import Steps, extract_pictures
from itmkit.progress import Progress
from itmkit.stages import admit_added
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    import torch

STAGE = "embed"
Side = Literal["images", "texts"]
SIDES: tuple[Side, ...] = ("images", "texts")
SHARD = 2000
PIECE = 512  # captions sorted by length together
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class EmbedResult:
    """What `embed` did.

    images, captions: rows of the caches (captions: distinct texts), None for a side that was not asked for.
    truncated: captions with more tokens than the model takes; None if this call made only a part of the cache.
    done_now: rows made by this call, both sides together.
    skipped: {"id", "reason"} of every picture that could not be read.
    """

    path: Path
    model: str
    device: str
    dim: int
    limit: int
    images: int | None
    captions: int | None
    truncated: int | None
    done_now: int
    skipped: list[dict[str, str]] = field(default_factory=list)
    unchanged: bool = False


def embed(
    workspace: Workspace,
    *,
    model: str | None = None,
    cache: str | None = None,
    only: Side | None = None,
    job: Job = USUAL,
) -> EmbedResult:
    """Writes caches/vectors-<cache>/images and caches/vectors-<cache>/texts.

    Columns of a picture: vector (D) float32. Of a distinct caption text, under its `text_key`: vector (D) float32 and
    tokens int32, its tokens before it was cut to the model's limit. Vectors are as the model projects them into the
    common space, not normalised: their cosine is the model's similarity.

    Args:
        model: folder of a transformers model, or a hub name; None takes the one the cache was begun with.
        cache: name after "vectors-"; None takes the last part of the model's name.
        only: one of the two sides.

    Raises:
        ItmkitError: there is no data set or there are no pictures, pictures changed since `prepare`, the model cannot
            be loaded or is not a dual encoder, the cache was made from other data or settings (and is not forced), or
            the job is strict and pictures cannot be read.
    """
    _check(only, job)
    name = _cache_name(workspace, model, cache)
    sides = SIDES if only is None else (only,)
    dataset = workspace.dataset()
    if only == "texts":
        dataset.check_captions("`itmkit embed --only texts`")
    if "images" in sides:
        check_files(workspace, dataset)
    loaded = _load(workspace, name, model, job)
    dual, batch = loaded.dual, job.batch or (4 if loaded.device == "cpu" else 32)
    options = partial(_writer_options, workspace, dataset, name, loaded, job)
    done_now, images, captions, truncated, skipped = 0, None, None, None, []
    if "images" in sides:
        now, manifest = _images(workspace, dataset, dual, options("images"), batch, job)
        done_now, images, skipped = now, manifest.count, manifest.skipped
        check_skipped(workspace, dataset.images, skipped, strict=job.strict)
    if "texts" in sides:
        now, manifest = _texts(workspace, dataset, dual, options("texts"), batch, job.progress)
        done_now, captions = done_now + now, manifest.count
        truncated = cut_captions(workspace.cache(str(CacheName("vectors", name)))) if job.part == WHOLE else None
    return EmbedResult(
        path=workspace.cache(str(CacheName("vectors", name))),
        model=loaded.model,
        device=loaded.device,
        dim=dual.dim,
        limit=dual.limit,
        images=images,
        captions=captions,
        truncated=truncated,
        done_now=done_now,
        skipped=skipped,
        unchanged=done_now == 0,
    )


def _check(only: Side | None, job: Job) -> None:
    """Refuses what does not exist, all at once."""
    problems = []
    if only is not None and only not in SIDES:
        problems.append(f"only {only!r}: there are {' and '.join(SIDES)}")
    if job.precision is not None:
        check_precision(job.precision, problems)
    if problems:
        raise ItmkitError(problems)


@dataclass(frozen=True)
class _Loaded:
    """A dual encoder, and what its caches keep of it: `record` tells it from others, `local` is where it lies."""

    dual: DualEncoder
    model: str
    device: str
    precision: Precision
    record: dict[str, str]
    local: str


def _load(workspace: Workspace, name: str, model: str | None, job: Job) -> _Loaded:
    """Loads the model asked for, else the one the cache was begun with."""
    asked, precision = model is not None, job.precision
    if model is None:
        model, precision = _begun_with(workspace, name, precision)
    precision = precision or "float32"
    device = usable_device(job.device)
    job.progress.note(f"{STAGE}: {model} on {device}")
    dual = load_dual(model, device=device, precision=precision, allow_download=asked)
    path = find_model(model, allow_download=False)
    record = model_record(model, path, tokenizer=True)
    return _Loaded(dual, model, device, precision, record, model_place(model, path))


def _writer_options(
    workspace: Workspace, dataset: Dataset, name: str, loaded: _Loaded, job: Job, side: Side
) -> dict[str, Any]:
    """What the writers of both sides are opened with; their columns and keys differ."""
    place = vectors_cache(name, side)
    folder = workspace.cache(place)
    settings: dict[str, Any] = {"part": side, **recorded(loaded.precision)}
    if side == "texts" and loaded.dual.lower:
        settings["lower_case"] = True
    return {
        "folder": folder,
        "made_by": MadeBy(STAGE, settings, loaded.record, workspace.inputs(place, dataset)),
        "shard_size": job.rows_a_shard(folder, SHARD),
        "part": job.part,
        "notes": {"model": loaded.local, "device": loaded.device, "limit": loaded.dual.limit},
        "force": job.force,
    }


def _images(
    workspace: Workspace,
    dataset: Dataset,
    dual: DualEncoder,
    options: dict[str, Any],
    batch: int,
    job: Job,
) -> tuple[int, Manifest]:
    """Returns how many pictures were processed now, and the cache's manifest."""

    look = FirstLook(dual.model_id, "pictures")

    def compute(prepared: list[dict[str, torch.Tensor]], labels: list[str]) -> np.ndarray:
        with enough_memory(batch):
            vectors = dual.image_vectors(prepared, batch=batch)
        look.at(labels, prepared, list(vectors))
        return vectors

    def rows(pictures: list[Picture], vectors: np.ndarray) -> dict[str, np.ndarray]:
        return {"vector": vectors}

    _admit_added(workspace, dataset, options, len(dataset.images))
    with CacheWriter.open(
        columns={"vector": Column("float32", (dual.dim,))}, keys=[image.id for image in dataset.images], **options
    ) as writer:
        now = writer.total - writer.done
        extract_pictures(
            workspace,
            dataset.images,
            writer,
            Steps(dual.prepare, compute, rows, batch=batch),
            title=f"{STAGE}: images",
            job=job,
        )
    return now, writer.manifest


def _admit_added(workspace: Workspace, dataset: Dataset, options: dict[str, Any], planned: int) -> None:
    cache = options["folder"].relative_to(workspace.cache("")).as_posix()
    kept = {key: options[key] for key in ("made_by", "shard_size", "part", "force")}
    admit_added(workspace, cache, dataset=dataset, planned=planned, **kept)


def _texts(
    workspace: Workspace, dataset: Dataset, dual: DualEncoder, options: dict[str, Any], batch: int, progress: Progress
) -> tuple[int, Manifest]:
    """Returns how many captions were embedded now, and the cache's manifest."""
    texts = dataset.distinct_texts
    _admit_added(workspace, dataset, options, len(texts))
    columns = {"vector": Column("float32", (dual.dim,)), "tokens": Column("int32")}
    look = FirstLook(dual.model_id, "captions")
    with (
        CacheWriter.open(columns=columns, keys=[text_key(text) for text in texts], **options) as writer,
        progress.task(f"{STAGE}: captions", writer.total, done=writer.done, unit="captions") as advance,
    ):
        now = writer.total - writer.done
        for number, keys in writer.pending():
            at = number * writer.manifest.shard_size
            with writer.shard(number) as out:
                # Captions are sorted by length within pieces that begin anew with each shard: its bytes do not
                # depend on where an earlier run was killed.
                for start in range(0, len(keys), PIECE):
                    some = texts[at + start : at + min(start + PIECE, len(keys))]
                    ids = dual.token_ids(some)
                    counts = np.array([len(one) for one in ids], np.int32)
                    with enough_memory(batch):
                        vectors = dual.text_vectors(some, counts, batch=batch)
                    look.at(some, [one[: dual.limit - 1] for one in ids], list(vectors))  # the last one ends all
                    out.append(keys[start : start + PIECE], {"vector": vectors, "tokens": counts})
                    advance(len(some))
    return now, writer.manifest


def cut_captions(folder: Path) -> int:
    """How many captions of caches/vectors-NAME have more tokens than the model takes."""
    texts = CacheReader.open(folder / "texts")
    return int((texts.read_all("tokens") > texts.manifest.notes["limit"]).sum())


def _cache_name(workspace: Workspace, model: str | None, cache: str | None) -> str:
    """The name after "vectors-": as given, else from the model's name, else that of the only such cache."""
    if cache is None and model is None:
        names = workspace.names_of("vectors")
        if len(names) != 1:
            raise ItmkitError(f"--model is needed: the folder or the hub name of a dual encoder. {KINDS}")
        return names[0]
    if cache is None:
        assert model is not None
        cache = short_name(model)
    if not _NAME.fullmatch(cache):
        raise ItmkitError(f"--cache {cache!r}: a plain folder name is needed, such as clip")
    return cache


def _begun_with(workspace: Workspace, name: str, precision: Precision | None) -> tuple[str, Precision | None]:
    """Model and precision of the existing caches, finished or not. Values that are given take precedence."""
    for side in SIDES:
        manifest = begun_manifest(workspace.cache(vectors_cache(name, side)))
        if manifest is not None and manifest.made_by.stage == STAGE:
            return str(manifest.notes["model"]), precision or manifest.made_by.settings.get("precision")
    raise ItmkitError(f"--model is needed: the folder or the hub name of a dual encoder. {KINDS}")

"""New pictures, read by a trained matcher as it reads those of its caches: the same regions, features and graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from itmkit.cache.manifest import Manifest
from itmkit.cache.name import CacheName, is_patches
from itmkit.cache.tag_phrases import region_names
from itmkit.encode_text.alignment import Spans
from itmkit.encode_text.encode import word_vectors
from itmkit.errors import ItmkitError
from itmkit.graphs import block_positions, polar_coordinates
from itmkit.inputs.batch import ImageBatch
from itmkit.inputs.images import image_batch
from itmkit.inputs.needs import Needs
from itmkit.inputs.places import places_of_patches
from itmkit.models.hub import find_model, model_record
from itmkit.pictures.decode import Decoder, Picture, Square, reduced
from itmkit.pictures.load import ChangedImage, UnreadableImage
from itmkit.regions import choose
from itmkit.regions.bottom_up.settings import check_files, resolve
from itmkit.regions.extract import region_rows
from itmkit.regions.vit import PatchModel, load_patch_model
from itmkit.trained.made import Made, option
from itmkit.trained.texts import BATCH_TOKENS, load_recorded_dual, load_recorded_language_model
from itmkit.trained.usual import norms_of_training, warn_of_others

BATCH = 4  # pictures that a model runs at once


@dataclass(frozen=True)
class PictureRows:
    """What the caches would hold of n pictures.

    Attributes:
        features: (n, R, F) float16, or (n, F) float32 of whole pictures.
        columns: count (n,), boxes (n, R, 4) in pixels of the upright picture, size (n, 2) and others, by the names of
            the caches' columns; no boxes for whole pictures.
        names: the tag phrase of each region, "" where it has none.
    """

    features: np.ndarray
    columns: dict[str, np.ndarray]
    names: list[list[str]]


class NewPictures:
    """Turns pictures into batches. The detector (or what else made the features) is loaded for the first picture."""

    def __init__(self, made: Made, needs: Needs, device: str) -> None:
        self._made, self._needs, self._device = made, needs, device
        self._decoder: Decoder | None = None
        self._compared = False  # the first features with those of training

    def load(self, picture: str | Path | Image.Image) -> Picture:
        """Decodes a file in a process of its own, so that a hostile one does no harm; takes a PIL image as it is.

        Raises:
            ItmkitError: there is no such file, or it cannot be read as a picture.
        """
        if isinstance(picture, Image.Image):
            upright = ImageOps.exif_transpose(picture) or picture
            return reduced(upright.convert("RGB"), self._square)
        if self._decoder is None:
            self._decoder = Decoder(square=self._square)
        try:
            return self._decoder.decode(Path(picture), None)
        except UnreadableImage as error:
            raise ItmkitError(f"{picture}: {error.reason}") from None
        except ChangedImage:
            raise ItmkitError(f"{picture}: no such file, and not the id of an image of the run's workspace") from None

    def close(self) -> None:
        """Ends the process that decodes pictures."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def rows(self, pictures: Sequence[Picture]) -> PictureRows:
        """What the caches of training would hold of these pictures, as `load` gives them."""
        rows = self._reader.read(pictures)
        if not self._compared:
            self._compared = True
            warn_of_others(norms_of_training(self._made, self._needs.images), rows.features, self._needs.images)
        return rows

    def batch(self, rows: PictureRows) -> ImageBatch:
        """The pictures as the matcher reads them."""
        needs, columns = self._needs, dict(rows.columns)
        if needs.polar or needs.blocks:
            columns |= self._graphs(columns)
        wanted = {"count": "count" in columns, "attention": needs.attention, "cls": needs.whole}
        wanted |= dict.fromkeys(("polar_rho", "polar_theta"), needs.polar)
        wanted |= dict.fromkeys(("blocks", "block_weights"), needs.blocks)
        kept = {name: columns[name] for name, is_wanted in wanted.items() if is_wanted}
        return image_batch(rows.features, kept, tags=self._tags(rows) if needs.tags else None)

    def _graphs(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if is_patches(self._needs.images):
            boxes, sizes = columns["boxes"], columns["size"]
            return places_of_patches(boxes, sizes, polar=self._needs.polar, blocks=self._needs.blocks)
        settings = self._made.manifest("graphs/images").made_by.settings
        count = columns["count"]
        real = np.arange(columns["boxes"].shape[1]) < count[:, None]
        boxes = np.where(real[..., None], columns["boxes"], 0)
        numbers, weights = block_positions(boxes, columns["size"], settings["blocks"], settings["keep"])
        rho, theta = polar_coordinates(columns["boxes"], columns["size"], count)
        return {"blocks": numbers, "block_weights": weights, "polar_rho": rho, "polar_theta": theta}

    def _tags(self, rows: PictureRows) -> torch.Tensor:
        """(n, R, V) float32, zeros for a region without a name."""
        assert self._needs.tags is not None
        distinct = sorted({name for names in rows.names for name in names if name})
        if self._tag_model is None:
            self._tag_model = load_recorded_language_model(self._made, self._needs.tags, self._device)
        lengths = np.array([len(one) for one in distinct], np.int64)
        whole = Spans(np.arange(len(distinct) + 1), np.zeros(len(distinct), np.int64), lengths)
        vectors, _, _ = word_vectors(self._tag_model, distinct, whole, batch_tokens=BATCH_TOKENS)
        found = np.zeros((*rows.features.shape[:2], self._tag_model.dim), np.float32)
        place = {name: number for number, name in enumerate(distinct)}
        for picture, names in enumerate(rows.names):
            for region, name in enumerate(names):
                if name:
                    found[picture, region] = vectors[place[name]]
        return torch.from_numpy(found)

    _tag_model: Any = None

    @property
    def _square(self) -> Square | None:
        return self._reader.square

    @cached_property
    def _reader(self) -> _Reader:
        """Reads pictures as the stage did that made the cache of training."""
        cache = self._needs.images
        manifest, kind = self._made.manifest(cache), CacheName.of(cache).kind
        try:
            if kind == "vectors":
                return _whole_pictures(self._made, cache, self._device)
            if kind == "patches":
                return _patches(self._made, cache, manifest, self._device)
            return _regions(self._made, cache, manifest, self._device)
        except ItmkitError as error:
            if manifest.made_by.stage == "import-features" or option(cache) in error.problems:
                raise
            raise ItmkitError([*error.problems, option(cache)]) from None


def look(picture: str | Path | Image.Image, sha256: str | None = None) -> Image.Image:
    """The picture itself, upright, RGB and at most 2,000 pixels a side, for showing what was found in it.

    Args:
        sha256: what its file had when its regions were found; None: not known.

    Raises:
        ItmkitError: there is no such file any more, it was changed, or it cannot be read as a picture.
    """
    if isinstance(picture, Image.Image):
        return reduced((ImageOps.exif_transpose(picture) or picture).convert("RGB")).image
    decoder = Decoder()
    try:
        return decoder.decode(Path(picture), sha256).image
    except UnreadableImage as error:
        raise ItmkitError(f"{picture}: {error.reason}") from None
    except ChangedImage as error:
        why = "no such file" if error.what == "missing" else "has changed since its regions were found"
        raise ItmkitError(f"{picture}: {why}") from None
    finally:
        decoder.close()


@dataclass(frozen=True)
class _Reader:
    """read: the rows of some pictures. square: what they are squashed to where they are decoded."""

    read: Callable[[Sequence[Picture]], PictureRows]
    square: Square | None


def _prepared(model: Any, pictures: Sequence[Picture]) -> list[Any]:
    """What the model reads of each picture.

    Raises:
        ItmkitError: the model can make nothing of a picture.
    """
    prepared, problems = [], list[str]()
    for number, picture in enumerate(pictures, 1):
        try:
            prepared.append(model.prepare(picture.image))
        except UnreadableImage as error:
            width, height = picture.size
            problems.append(f"picture {number} ({width} x {height} pixels): {error.reason}")
    if problems:
        raise ItmkitError(problems)
    return prepared


def _whole_pictures(made: Made, cache: str, device: str) -> _Reader:
    """One vector a picture, by a dual encoder."""
    dual = load_recorded_dual(made, cache, device)

    def read(pictures: Sequence[Picture]) -> PictureRows:
        vectors = dual.image_vectors(_prepared(dual, pictures), batch=BATCH)
        return PictureRows(vectors, {}, [[""] for _ in pictures])

    return _Reader(read, None)


def _patches(made: Made, cache: str, manifest: Manifest, device: str) -> _Reader:
    """The patches of a vision transformer."""
    settings, place = manifest.made_by.settings, made.model(cache, manifest)
    precision = settings.get("precision", "float32")
    attention = settings.get("attention", True)
    model = load_patch_model(place, size=settings["size"], attention=attention, device=device, precision=precision)
    made.check(cache, manifest.made_by, model_record(place, find_model(place, allow_download=False)))

    def read(pictures: Sequence[Picture]) -> PictureRows:
        squares = _prepared(model, pictures)
        features, cls, attention = model.describe(squares, batch=BATCH)
        return PictureRows(
            features.astype(np.float16), _patch_columns(model, pictures, cls, attention), _no_names(features)
        )

    return _Reader(read, model.square)


def _patch_columns(
    model: PatchModel, pictures: Sequence[Picture], cls: np.ndarray, attention: np.ndarray
) -> dict[str, np.ndarray]:
    return {
        "boxes": np.stack([model.boxes(picture.size) for picture in pictures]),
        "count": np.full(len(pictures), model.patches, np.int16),
        "cls": cls.astype(np.float16),
        "attention": attention.astype(np.float32),
        "size": np.array([picture.size for picture in pictures], np.int32),
    }


def _no_names(features: np.ndarray) -> list[list[str]]:
    return [[""] * features.shape[1]] * len(features)


def _regions(made: Made, cache: str, manifest: Manifest, device: str) -> _Reader:
    """The regions of a detector or of a grid."""
    choice = recorded_choice(manifest, made.places.get(cache))
    backend = choose.load(choice, device=device, download=False)
    made.check(cache, manifest.made_by, choose.made_by(choice, backend, {}).model or {})
    tables = {name: list(manifest.tables.get(name, ())) for name in ("tags", "attributes")}

    def number(table: str, names: list[str]) -> np.ndarray:
        """As the writer of a cache numbers names; new ones come last."""
        tables[table] += [name for name in dict.fromkeys(names) if name not in tables[table]]
        return np.array([tables[table].index(name) for name in names], np.int32)

    def read(pictures: Sequence[Picture]) -> PictureRows:
        prepared = _prepared(backend, pictures)
        labels = [f"picture {place + 1}" for place in range(len(pictures))]
        found = backend.detect(prepared, regions=choice.regions, labels=labels, batch=BATCH)
        columns = region_rows(number, choice.regions, backend.dim, pictures, found)
        names = region_names(columns["tags"], columns["attributes"], tables["tags"], tables["attributes"])
        return PictureRows(columns.pop("features").astype(np.float16), columns, names)

    return _Reader(read, backend.square)


def recorded_choice(manifest: Manifest, model: str | None = None) -> choose.Choice:
    """The choice with which a cache of regions was made, for further pictures.

    Args:
        model: where the model lies now; None: where it lay then.

    Raises:
        ItmkitError: the features were imported, so there is no model; files of detectron2 are missing.
    """
    if manifest.made_by.stage != choose.STAGE:
        raise ItmkitError(
            f"the regions of training were imported (`itmkit {manifest.made_by.stage}`), so there is no detector for"
            " further pictures; train on regions of `itmkit extract-regions`, or use pictures of the workspace"
        )
    settings, notes = manifest.made_by.settings, manifest.notes
    place, bottom_up, problems = str(model or notes["model"]), None, list[str]()
    if settings["backend"] == "detectron2":
        bottom_up = resolve(
            model=place,
            config=Path(notes["config"]) if "config" in notes else None,
            vocabulary=Path(notes["vocabulary"]) if "vocabulary" in notes else None,
            selection=settings.get("selection"),
            min_regions=settings.get("min_regions"),
            regions=settings["regions"],
            problems=problems,
        )
        if bottom_up is not None:
            check_files(bottom_up, problems)
    if problems:
        raise ItmkitError(problems)
    looked_for = settings["backend"] == "detector" and "vocabulary" in settings  # the names are in the cache itself
    return choose.Choice(
        backend=settings["backend"],
        model=place,
        regions=settings["regions"],
        size=settings.get("size"),
        precision=settings.get("precision", "float32"),
        why="as the cache was made",
        named=False,
        bottom_up=bottom_up,
        names=tuple(manifest.tables["tags"]) if looked_for else None,
    )

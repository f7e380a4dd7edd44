"""Scores every image with every caption of a split, and keeps the scores on disk row by row as they are done.

Each image and each caption is encoded once. Pairs are scored tile by tile (`itmkit.scoring.tiles`). Only `rows_of` rows
of the matrix are in memory at a time. Encoded captions that do not fit into memory wait in files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from itmkit.cache import WHOLE, CacheWriter, Column, MadeBy, Part
from itmkit.cache.begin import begun_manifest
from itmkit.files import atomic_path, remove_folder
from itmkit.inputs import Inputs
from itmkit.machine.device import usable_device
from itmkit.machine.memory import keep_freed_memory, resident
from itmkit.machine.precision import Products, WantedProducts, precision_of
from itmkit.matchers import Encoded
from itmkit.progress import SILENT, Progress
from itmkit.scoring.matrix import check_finite
from itmkit.scoring.tiles import IMAGE_TILE, Texts, encoded_images, encoded_texts, score_tiles, text_tiles, workers

ROWS, ROW_BYTES = 128, 1 << 26  # images of a shard, the most a kill may lose; fewer if there are very many captions
MEMORY = 2 << 30
TEXTS_SHARE, TILES_SHARE = 0.4, 0.4  # of the free memory, for encoded captions and for tiles at work
TILE_BYTES = 1 << 27  # what a thread needs for a tile with the methods that need the most


def rows_of(texts: int) -> int:
    """Images of a shard of the score matrix: whole tiles, about `ROW_BYTES` at most."""
    return max(1, min(ROWS, ROW_BYTES // (4 * max(texts, 1))) // IMAGE_TILE) * IMAGE_TILE


@dataclass(frozen=True)
class Scoring:
    """Where and how pairs are scored.

    Attributes:
        device: a device as torch names it; None means cuda if there is one, else cpu.
        memory: bytes the process should stay under, including what it uses when it begins.
        precision: precision of matrix products; "auto" is bfloat16 if the hardware has it, else float32.
        part: which shards of rows to score, if several ranks share the work. Rank 0 joins the shards in the end
            (`merge_when_done`).
    """

    device: str | None = None
    memory: int = MEMORY
    precision: WantedProducts = "auto"
    part: Part = WHOLE

    @property
    def where(self) -> torch.device:
        return torch.device(usable_device(self.device))

    @property
    def products(self) -> Products:
        return precision_of(self.precision, self.where)


USUAL = Scoring()


def score_to_disk(
    members: Mapping[str, nn.Module],
    inputs: Inputs,
    folder: Path,
    *,
    made_from: Mapping[str, str],
    images: np.ndarray,
    texts: np.ndarray,
    scoring: Scoring = USUAL,
    progress: Progress = SILENT,
) -> None:
    """Writes or continues `folder/<member>`: a cache with one row `scores` (n_texts,) float32 per image.

    Args:
        made_from: {what: digest} of weights and caches. Scores made from anything else are replaced.
        images, texts: positions within `inputs`, in the order of the matrix.

    Raises:
        ItmkitError: a score is NaN or infinite. The error names the member.
    """
    device, part = scoring.where, scoring.part
    if device.type == "cpu":
        keep_freed_memory()
    tiles = text_tiles(inputs, texts, device)
    ids = [inputs.images[i].id for i in images]
    for name, matcher in members.items():
        place = folder / name
        made_by = MadeBy("evaluate", {"member": name, "precision": scoring.products}, None, dict(made_from))
        options: dict[str, Any] = {
            "made_by": made_by,
            "columns": {"scores": Column("float32", (len(texts),))},
            "keys": ids,
            "shard_size": rows_of(len(texts)),
            "part": part,
        }
        with CacheWriter.open(place, **options, force=_other(place, made_by)) as writer:
            if pending := list(writer.pending()):
                matcher.eval()
                _score_rows(writer, pending, place, matcher, inputs, images, texts, tiles, scoring, progress)


def _score_rows(
    writer: CacheWriter,
    pending: Sequence[tuple[int, Sequence[str]]],
    place: Path,
    matcher: nn.Module,
    inputs: Inputs,
    images: np.ndarray,
    texts: np.ndarray,
    tiles: Sequence[np.ndarray],
    scoring: Scoring,
    progress: Progress,
) -> None:
    """Writes the shards of rows of one member that are not there yet."""
    device, memory, name = scoring.where, scoring.memory, place.name
    at_most = max(1, int(TILES_SHARE * (memory - resident())) // TILE_BYTES)
    spill = place.with_name(f".captions-{name}-{scoring.part.index}")
    total, done = writer.total * len(texts), writer.done * len(texts)
    with (
        progress.task(f"scoring {name}", total, done=done, unit="pairs") as advance,
        workers(device, at_most) as in_order,
        _Captions(encoded_texts(matcher, inputs, texts, tiles, device, in_order), device, memory, spill) as captions,
    ):
        for shard, keys in pending:
            first = shard * writer.manifest.shard_size
            block = np.empty((len(keys), len(texts)), np.float32)
            rows = encoded_images(matcher, inputs, images[first : first + len(keys)], device, in_order)
            score_tiles(matcher, rows, captions, block, in_order, advance, scoring.products)
            check_finite(name, block)
            with writer.shard(shard) as out:
                out.append(keys, {"scores": block})


def _other(place: Path, made_by: MadeBy) -> bool:
    """Whether the scores in `place` come from other weights or data, and so are of no use."""
    found = begun_manifest(place)
    return found is not None and bool(found.made_by.differences(made_by))


class _Captions:
    """Encoded captions, read tile by tile as often as needed. They are in memory as far as they fit, else in files."""

    def __init__(self, tiles: Texts, device: torch.device, memory: int, folder: Path) -> None:
        self._tiles, self._device, self._folder = tiles, device, folder
        self._room = int(TEXTS_SHARE * (memory - resident()))  # below 0, all of them wait in files
        self._kept: list[tuple[np.ndarray, Encoded | Path]] = []

    def __enter__(self) -> _Captions:
        remove_folder(self._folder)
        for places, tile in self._tiles:
            self._kept.append((places, self._keep(tile)))
        return self

    def _keep(self, tile: Encoded) -> Encoded | Path:
        size = sum(value.numel() * value.element_size() for value in tile.values())
        if size <= self._room or self._device.type != "cpu":
            self._room -= size
            return tile
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{len(self._kept):06d}.safetensors"
        with atomic_path(path, flush=False) as partial:
            partial.write_bytes(save(tile))  # Python writes, so that a full disk is an OSError like any other
        return path

    def __iter__(self) -> Iterator[tuple[np.ndarray, Encoded]]:
        for places, kept in self._kept:
            yield places, load_file(kept) if isinstance(kept, Path) else kept

    def __exit__(self, *error: object) -> None:
        remove_folder(self._folder)

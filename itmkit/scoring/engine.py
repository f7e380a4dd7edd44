"""Scores of every image with every caption of a split, kept on disk row by row as they are done.

Each image and each caption is encoded once. Pairs are scored tile by tile, `IMAGE_TILE` images with a tile of captions
of about equal length. The grid of tiles depends on the split alone, not on memory, ranks or where a killed run
stopped, so that every way of doing the work gives the same matrix, to the last bit.

Of a matrix only `rows_of` images are in memory at a time; captions that do not fit once encoded wait in files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from itmkit.cache import WHOLE, CacheWriter, Column, MadeBy, Part
from itmkit.cache.begin import begun_manifest
from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs
from itmkit.matchers import Encoded, as_matcher
from itmkit.memory import keep_freed_memory, resident
from itmkit.progress import SILENT, Progress
from itmkit.scoring.blocks import text_blocks, texts_by_length

IMAGE_TILE = 32
WORDS_TILE = 512  # words of a tile of captions: with 32 images, pair tensors of (32, 512, D) stay near the caches
ENCODE_TILES = 8  # tiles of captions that go through an encoder together
ROWS, ROW_BYTES = 128, 1 << 26  # images of a shard, what a kill may lose; fewer where there are very many captions
MEMORY = 2 << 30
TEXTS_SHARE = 0.4  # of the memory that is free, for encoded captions


def rows_of(texts: int) -> int:
    """Images of a shard of the score matrix: whole tiles, about `ROW_BYTES` at most."""
    return max(1, min(ROWS, ROW_BYTES // (4 * max(texts, 1))) // IMAGE_TILE) * IMAGE_TILE


def score_to_disk(
    members: Mapping[str, nn.Module],
    inputs: Inputs,
    folder: Path,
    *,
    made_from: Mapping[str, str],
    images: np.ndarray,
    texts: np.ndarray,
    device: torch.device,
    memory: int = MEMORY,
    part: Part = WHOLE,
    progress: Progress = SILENT,
) -> None:
    """Writes, or continues, `folder/<member>`: a cache with a row `scores` (n_texts,) float32 an image.

    Args:
        made_from: {what: digest} of weights and caches; scores of others are begun anew.
        images, texts: positions within `inputs`, in the order of the matrix.
        memory: bytes the process should stay under; what it uses when it begins counts.
        part: which shards of rows to do, where several ranks share the work; `itmkit.ranks.merge_when_done` joins them.

    Raises:
        ItmkitError: a score is NaN or infinite; names the member.
    """
    if device.type == "cpu":
        keep_freed_memory()
    tiles = text_tiles(inputs, texts)
    ids = [inputs.images[i].id for i in images]
    for name, matcher in members.items():
        place = folder / name
        made_by = MadeBy("evaluate", {"member": name}, None, dict(made_from))
        options: dict[str, Any] = {
            "made_by": made_by,
            "columns": {"scores": Column("float32", (len(texts),))},
            "keys": ids,
            "shard_size": rows_of(len(texts)),
            "part": part,
        }
        with CacheWriter.open(place, **options, force=_other(place, made_by)) as writer:
            pending = list(writer.pending())
            if not pending:
                continue
            matcher.eval()
            spill = folder / f".captions-{name}-{part.index}"
            total, done = writer.total * len(texts), writer.done * len(texts)
            with (
                torch.inference_mode(),
                progress.task(f"scoring {name}", total, done=done, unit="pairs") as advance,
                _Captions(matcher, inputs, texts, tiles, device, memory, spill) as captions,
            ):
                for shard, keys in pending:
                    first = shard * writer.manifest.shard_size
                    block = np.empty((len(keys), len(texts)), np.float32)
                    encoded = list(_image_tiles(matcher, inputs, images[first : first + len(keys)], device))
                    for places, words in captions:
                        for rows, regions in encoded:
                            block[rows, places] = as_matcher(matcher).score(regions, words).float().cpu().numpy()
                        advance(len(keys) * len(places))
                    if not np.isfinite(block).all():
                        raise ItmkitError(f"member {name!r} gives scores that are NaN or infinite; train it anew")
                    with writer.shard(shard) as out:
                        out.append(keys, {"scores": block})


def text_tiles(inputs: Inputs, texts: np.ndarray) -> list[np.ndarray]:
    """Places within `texts` of each tile, captions in order of length."""
    order = texts_by_length(inputs, texts)
    return [order[block] for block in text_blocks(inputs.lengths[texts[order]], WORDS_TILE)]


def _other(place: Path, made_by: MadeBy) -> bool:
    """Whether the scores in `place` are of other weights or data, and so of no use."""
    found = begun_manifest(place)
    return found is not None and bool(found.made_by.differences(made_by))


def _image_tiles(
    matcher: nn.Module, inputs: Inputs, images: np.ndarray, device: torch.device
) -> Iterator[tuple[slice, Encoded]]:
    for start in range(0, len(images), IMAGE_TILE):
        which = images[start : start + IMAGE_TILE]
        yield slice(start, start + len(which)), as_matcher(matcher).encode_images(inputs.image_batch(which).to(device))


class _Captions:
    """Encoded captions, tile by tile, as often as wanted: in memory as far as they fit, else in files."""

    def __init__(
        self,
        matcher: nn.Module,
        inputs: Inputs,
        texts: np.ndarray,
        tiles: Sequence[np.ndarray],
        device: torch.device,
        memory: int,
        folder: Path,
    ) -> None:
        self._matcher, self._inputs, self._texts, self._tiles = matcher, inputs, texts, tiles
        self._device, self._folder = device, folder
        self._room = int(TEXTS_SHARE * (memory - resident()))  # below 0, all of them wait in files
        self._kept: list[Encoded | Path] = []

    def __enter__(self) -> _Captions:
        shutil.rmtree(self._folder, ignore_errors=True)
        for start in range(0, len(self._tiles), ENCODE_TILES):
            group = self._tiles[start : start + ENCODE_TILES]
            batch = self._inputs.text_batch(self._texts[np.concatenate(group)])
            encoded = as_matcher(self._matcher).encode_texts(batch.to(self._device))
            first = 0
            for tile in group:
                self._keep({name: value[first : first + len(tile)].clone() for name, value in encoded.items()})
                first += len(tile)
        return self

    def _keep(self, tile: Encoded) -> None:
        size = sum(value.numel() * value.element_size() for value in tile.values())
        if size <= self._room or self._device.type != "cpu":
            self._room -= size
            self._kept.append(tile)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{len(self._kept):06d}.safetensors"
        save_file(tile, path)
        self._kept.append(path)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Encoded]]:
        for places, kept in zip(self._tiles, self._kept, strict=True):
            yield places, load_file(kept) if isinstance(kept, Path) else kept

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

"""How a heavy stage is run: where, by how many, and which part of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from itmkit.cache.begin import shard_size_of
from itmkit.machine.device import Precision
from itmkit.machine.part import WHOLE, Part
from itmkit.progress import SILENT, Progress


@dataclass(frozen=True)
class Job:
    """Says how extract-regions, extract-patches, embed, encode-text or parse-text is run, each as far as it applies.

    Only `precision` changes a result beyond rounding; None is each stage's default.

    device: as torch names it; default cuda where there is one, else cpu.
    precision: of the model's products: "float32" (the default), "bfloat16" or "float16".
    batch: pictures, captions or, for encode-text, tokens that go through the model at once.
    workers: processes that decode pictures or parse captions; default one a core, at most 8.
    timeout: the most seconds that decoding a picture may take (120); a slower one is skipped.
    shard_size: rows a shard, what a killed run may lose; default as the cache was begun, else the stage's own.
    part: which shards to do, where several processes share the work; the result tells of these alone, and
        `itmkit.cache.merge_parts` makes one cache of all.
    strict: stop where a picture cannot be read, instead of leaving it out and listing it.
    force: start anew whatever is there.
    """

    device: str | None = None
    precision: Precision | None = None
    batch: int | None = None
    workers: int | None = None
    timeout: float | None = None
    shard_size: int | None = None
    part: Part = WHOLE
    strict: bool = False
    force: bool = False
    progress: Progress = SILENT

    def rows_a_shard(self, folder: Path, default: int) -> int:
        """As asked for, else as the cache in `folder` was begun, else the default."""
        return self.shard_size or (default if self.force else shard_size_of(folder, default))


USUAL = Job()

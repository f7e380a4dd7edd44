"""Several processes that write one cache: each owns every n-th shard, and a merge joins their manifests into one.

Shard k belongs to part k % n. A part keeps a manifest of its own, `manifest.part-<i>-of-<n>.json`, so the parts need
nothing from each other: they may be ranks on one machine, or jobs of a cluster that run one after the other.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from itmkit.cache.manifest import Manifest, read_manifest
from itmkit.cache.recode import coded, moved, stage
from itmkit.errors import ItmkitError
from itmkit.machine.part import WHOLE, Part

_PART = re.compile(r"manifest\.part-(\d+)-of-(\d+)\.json")


def part_manifest(part: Part) -> str:
    """The file name of the manifest of a part."""
    return f"manifest.part-{part.index}-of-{part.of}.json"


def parts_in(folder: Path) -> list[Part]:
    """The parts that have a manifest in a cache folder, in order."""
    found = (_PART.fullmatch(path.name) for path in folder.glob("manifest.part-*.json"))
    return sorted((Part(int(m[1]), int(m[2])) for m in found if m), key=lambda part: (part.of, part.index))


@contextmanager
def writing(folder: Path, part: Part) -> Iterator[None]:
    """Holds the cache for one writer: parts exclude the same part and a writer of the whole, but not each other.

    Raises:
        ItmkitError: another process writes this cache, or this part of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [".lock"] if part == WHOLE else [".lock", f".lock-{part.index}-of-{part.of}"]
    kinds = [fcntl.LOCK_EX] if part == WHOLE else [fcntl.LOCK_SH, fcntl.LOCK_EX]
    with ExitStack() as held:
        locks = [held.enter_context(open(folder / name, "wb")) for name in names]
        if not all(_taken(lock, kind) for lock, kind in zip(locks, kinds, strict=True)):
            what = "this cache" if part == WHOLE else f"this cache, or part {part} of it"
            raise ItmkitError(f"{folder}: another process is writing {what}; wait for it to end")
        yield


def _taken(lock: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def merge_parts(folder: Path) -> Manifest:
    """Joins the manifests of all parts into one, as if one process had written the cache.

    A cache that is merged already is left as it is.

    Raises:
        ItmkitError: parts are missing, unfinished, still being written, or were made from different data or
            settings. The error lists everything that is wrong.
    """
    parts, whole = parts_in(folder), read_manifest(folder)
    if whole is None and not parts:
        raise ItmkitError(f"{folder}: holds no parts of a cache; run the stage with --shard i/n first")
    if whole is not None:
        if whole.complete:  # a merge that was killed may have left some
            for part in parts:
                (folder / part_manifest(part)).unlink(missing_ok=True)
        return whole
    with writing(folder, WHOLE):
        if (whole := moved(folder)) is not None:  # a merge was killed while it moved shards
            for part in parts:
                (folder / part_manifest(part)).unlink()
            return whole
        manifests = {part: read_manifest(folder, part_manifest(part)) for part in parts}
        problems = _wrong(folder, {part: m for part, m in manifests.items() if m is not None})
        if problems:
            raise ItmkitError(problems)
        found = [manifest for manifest in manifests.values() if manifest is not None]
        first = found[0]
        if any(manifest.tables != first.tables for manifest in found):
            stage(folder, found)
            first = moved(folder) or first
        else:
            shards = [shard for manifest in found for shard in manifest.shards]
            first.shards = sorted(shards, key=lambda shard: shard["file"])
            first.complete = True
            first.write(folder)
        for part in parts:  # the whole manifest is there: what remains of the parts is not a cache of its own
            (folder / part_manifest(part)).unlink()
        return first


def merge_when_done(folder: Path, *, every: float = 0.2) -> Manifest:
    """Waits until all ranks have finished their parts, and merges them. For rank 0; torchrun ends it if one fails."""
    while True:
        parts = parts_in(folder)
        if not parts and (found := read_manifest(folder)) is not None:
            return found
        manifests = [read_manifest(folder, part_manifest(part)) for part in parts]
        if len(parts) == parts[0].of and all(manifest is not None and manifest.complete for manifest in manifests):
            try:
                return merge_parts(folder)
            except ItmkitError as error:
                if "another process" not in str(error):
                    raise
        time.sleep(every)


def _wrong(folder: Path, manifests: dict[Part, Manifest]) -> list[str]:
    counts = sorted({part.of for part in manifests})
    if len(counts) > 1:
        return [
            f"{folder}: holds parts of different divisions (of {' and of '.join(map(str, counts))});"
            " delete the manifests of one, or run the stage with --force"
        ]
    problems = []
    of = counts[0]
    missing = [str(Part(index, of)) for index in range(of) if Part(index, of) not in manifests]
    if missing:
        problems.append(f"{folder}: part {', '.join(missing)} is missing; run the stage with --shard {missing[0]}")
    first = next(iter(manifests.values()))
    for part, manifest in manifests.items():
        stage = manifest.made_by.stage
        if not manifest.complete:
            problems.append(f"{folder}: part {part} is unfinished; run `itmkit {stage} --shard {part}` again")
        other = first.made_by.differences(manifest.made_by)
        ours, theirs = (asdict(one) | _of_one(first) for one in (first, manifest))
        for name in coded(first):  # `stage` makes one table of them
            ours["tables"].pop(name), theirs["tables"].pop(name, None)
        if not other and ours != theirs:
            other = ["columns, names or plan differ"]
        if other:
            problems.append(
                f"{folder}: part {part} was made from other data or settings ({'; '.join(other)});"
                f" run `itmkit {stage} --shard {part} --force`"
            )
        for shard in manifest.shards:
            path = folder / shard["file"]
            size = path.stat().st_size if path.exists() else -1
            if size != shard["bytes"]:
                state = "is missing" if size < 0 else f"has {size:,} bytes, {shard['bytes']:,} were written"
                problems.append(f"{path}: {state}; copy it here, or run `itmkit {stage} --shard {part} --force`")
    return problems


def _of_one(manifest: Manifest) -> dict[str, object]:
    """What may differ between the parts of one cache."""
    return {"shards": manifest.shards, "notes": manifest.notes, "complete": manifest.complete, "tables_sha256": ""}

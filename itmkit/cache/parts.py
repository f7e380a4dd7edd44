"""Several processes that write one cache: each owns every n-th shard, and a merge joins their manifests into one.

Shard k belongs to part k % n. A part keeps a manifest of its own, `manifest.part-<i>-of-<n>.json`, so the parts need
nothing from each other: they may be ranks on one machine, or jobs of a cluster that run one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from itmkit.cache.anew import NEW, take_over
from itmkit.cache.manifest import Manifest, part_manifest, parts_in, read_manifest
from itmkit.cache.recode import coded, moved, stage
from itmkit.errors import ItmkitError
from itmkit.machine.lock import Locked, lock
from itmkit.machine.part import WHOLE, Part


@contextmanager
def writing(folder: Path, part: Part) -> Iterator[None]:
    """Holds the cache for one writer: parts exclude the same part and a writer of the whole, but not each other.

    Raises:
        ItmkitError: another process writes this cache, or this part of it.
    """
    with ExitStack() as held:
        if part != WHOLE:  # first, so that who finds it taken leaves the record of the other lock alone
            mine = f"{folder}: another process is writing part {part} of this cache"
            held.enter_context(lock(folder / f".lock-{part.index}-of-{part.of}", mine))
        held.enter_context(
            lock(folder / ".lock", f"{folder}: another process is writing this cache", shared=part != WHOLE)
        )
        yield


def merge_parts(folder: Path) -> Manifest:
    """Joins the manifests of all parts into one, as if one process had written the cache.

    A cache that is merged already is left as it is. Parts of a cache that is made anew replace the old one.

    Raises:
        ItmkitError: parts are missing, unfinished, still being written, or were made from different data or
            settings. The error lists everything that is wrong.
    """
    place = merging_in(folder)
    parts, whole = parts_in(place), read_manifest(place)
    if whole is None and not parts:
        raise ItmkitError(f"{folder}: holds no parts of a cache; run the stage with --shard i/n first")
    if place == folder and whole is not None:
        if whole.complete:  # a merge that was killed may have left some
            _remove(folder, parts)
        return whole
    with writing(folder, WHOLE):
        merged = whole or _merged(place, parts)
        _remove(place, parts)  # the whole manifest is there: what remains of the parts is not a cache of its own
        return (take_over(folder) or merged) if place != folder else merged


def merging_in(folder: Path) -> Path:
    """Where the parts of a cache lie: in its folder, or in the one in which it is made anew."""
    new = folder / NEW
    return new if not new.is_symlink() and (parts_in(new) or read_manifest(new) is not None) else folder


def _merged(folder: Path, parts: list[Part]) -> Manifest:
    """Writes the whole manifest of the parts in `folder`."""
    if (whole := moved(folder)) is not None:  # a merge was killed while it moved shards
        return whole
    manifests = {part: read_manifest(folder, part_manifest(part)) for part in parts}
    problems = _wrong(folder, {part: m for part, m in manifests.items() if m is not None})
    if problems:
        raise ItmkitError(problems)
    found = [manifest for manifest in manifests.values() if manifest is not None]
    first = found[0]
    if any(manifest.tables != first.tables for manifest in found):
        stage(folder, found)
        return moved(folder) or first
    shards = [shard for manifest in found for shard in manifest.shards]
    first.shards = sorted(shards, key=lambda shard: shard["file"])
    first.complete = True
    first.write(folder)
    return first


def _remove(folder: Path, parts: list[Part]) -> None:
    for part in parts:
        (folder / part_manifest(part)).unlink(missing_ok=True)


def merge_when_done(folder: Path, *, every: float = 0.2) -> Manifest:
    """Waits until all ranks have finished their parts, and merges them. For rank 0; torchrun ends it if one fails.

    Raises:
        ItmkitError: parts of another number of parts lie among them, which a job beside this one has written.
    """
    while True:
        place = merging_in(folder)
        parts = parts_in(place)
        if not parts and place == folder and (found := read_manifest(folder)) is not None:
            return found
        manifests = [read_manifest(place, part_manifest(part)) for part in parts]
        finished = all(manifest is not None and manifest.complete for manifest in manifests)
        mixed = len({part.of for part in parts}) > 1  # they never become whole, which merge_parts says
        if mixed or (parts and len(parts) == parts[0].of and finished):
            try:
                return merge_parts(folder)
            except Locked:  # a rank has not yet given its part back
                pass
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

"""A cache goes on with keys that have come after those it was made for: its full shards stay, others are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from itmkit.cache.anew import NEW
from itmkit.cache.begin import check_shards
from itmkit.cache.manifest import MadeBy, Manifest, parts_in, read_manifest
from itmkit.cache.parts import writing
from itmkit.machine.part import WHOLE


def grow(
    folder: Path, made_by: MadeBy, *, planned: int, shard_size: int, is_beginning: Callable[[Manifest], bool]
) -> bool:
    """Makes an unfinished cache of one whose keys are the first of those that are wanted now.

    One file is replaced, the manifest. A last shard that is not full is written again by the writer that goes on. What
    was made in another way than by `made_by` is left as it is, and so is a cache that is made anew or in parts: the
    writer says what is wrong.

    Args:
        planned: how many keys there are now.
        is_beginning: whether a manifest is of a cache of the first keys.

    Returns:
        Whether the cache has grown.

    Raises:
        ItmkitError: another process writes the cache; or shards are missing or cut short.
    """
    if not _may_grow(folder, made_by, planned, shard_size):
        return False
    with writing(folder, WHOLE):
        found = _may_grow(folder, made_by, planned, shard_size)
        if not found or not is_beginning(found):
            return False
        check_shards(folder, found, found.planned)
        if planned > found.planned:
            found.shards = found.shards[: found.planned // shard_size]
            found.complete = False
        grown = replace(found, made_by=made_by, planned=planned)
        grown.write(folder)
    return True


def _may_grow(folder: Path, made_by: MadeBy, planned: int, shard_size: int) -> Manifest | None:
    """The manifest of a cache that differs in its inputs alone; None if there is none or something else differs."""
    found = read_manifest(folder)
    if found is None or found.made_by == made_by or parts_in(folder) or (folder / NEW).exists():
        return None
    alike = replace(found.made_by, inputs=made_by.inputs) == made_by and found.shard_size == shard_size
    return found if alike and found.planned <= planned else None

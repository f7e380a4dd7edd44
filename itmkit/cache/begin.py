"""How a cache begins: what is on disk is continued, refused, or cleared away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from itmkit.cache.anew import NEW, begun_in, shard_number
from itmkit.cache.manifest import NAME, Column, MadeBy, Manifest, part_manifest, parts_in, read_manifest
from itmkit.cache.recode import STAGED
from itmkit.errors import ItmkitError
from itmkit.files import remove_folder
from itmkit.machine.part import WHOLE, Part


def found_manifest(folder: Path, part: Part) -> Manifest | None:
    """The manifest to continue. A cache is written either whole or in one number of parts."""
    whole = read_manifest(folder)
    others = [other for other in parts_in(folder) if other.of != part.of]
    if part == WHOLE:
        if others and whole is None:
            raise ItmkitError(
                f"{folder}: was begun in {others[0].of} parts; go on with --shard i/{others[0].of} and"
                " `itmkit merge`, or begin anew with --force"
            )
        return whole
    if whole is not None and not whole.complete:
        raise ItmkitError(f"{folder}: was begun whole; go on without --shard, or begin anew with --force")
    if others and whole is None:
        raise ItmkitError(
            f"{folder}: was begun in {others[0].of} parts; go on with --shard i/{others[0].of}, or delete the folder"
        )
    return whole or read_manifest(folder, part_manifest(part))


def begun_manifest(folder: Path) -> Manifest | None:
    """The manifest of the cache that was begun here, finished or not: the whole one, else that of a part.

    If the cache is being made anew, it is the manifest of the new one, with which a run without options goes on.
    """
    return begun_in(folder / NEW) or begun_in(folder)


def shard_size_of(folder: Path, default: int) -> int:
    """Rows per shard of the cache that was begun here, else the default."""
    found = begun_manifest(folder)
    return found.shard_size if found is not None and found.shard_size else default


def clear(folder: Path, part: Part) -> None:
    """Removes what a writer must not find: all of the cache, or of a part what belongs to it.

    Parts of another number of parts go too: nothing could merge them with this one.
    """
    # The manifests first: killed in between, shards without one are leftovers, not a cache.
    (folder / NAME).unlink(missing_ok=True)
    remove_folder(folder / STAGED)  # of a merge that was killed: its shards are of the old cache
    for old in parts_in(folder):
        if part == WHOLE or old == part or old.of != part.of:
            (folder / part_manifest(old)).unlink(missing_ok=True)
    for path in folder.glob("shard-*.h5"):
        number = shard_number(path.name)
        if number is not None and number % part.of == part.index:
            path.unlink()


def manifest_to_continue(folder: Path, part: Part, planned: Manifest, *, force: bool) -> Manifest | None:
    """The manifest that a writer goes on with; None if it has to begin with the one it has planned.

    Raises:
        ItmkitError: what is there cannot be continued. With `force`, the writer begins instead.
    """
    try:
        found = found_manifest(folder, part)
        if found is not None:
            check_continues(folder, found, planned.made_by, planned.columns, planned.shard_size)
            check_shards(folder, found, planned.planned)
    except ItmkitError:
        if not force:
            raise
        return None
    return found


def check_continues(
    folder: Path,
    found: Manifest,
    made_by: MadeBy,
    columns: Mapping[str, Column] | None = None,
    shard_size: int = 0,
) -> None:
    """Raises ItmkitError, listing every difference, unless the cache in `folder` may be continued or reused."""
    differences = found.made_by.differences(made_by)
    if not differences and columns is not None and found.columns != dict(columns):
        differences = ["its columns differ"]
    if not differences and shard_size and found.shard_size != shard_size:
        differences = [f"shard size is {found.shard_size} in the cache, {shard_size} now"]
    if differences:
        raise ItmkitError(
            f"{folder}: this cache was made from other data or settings ({'; '.join(differences)})."
            f" Run `itmkit {made_by.stage} --force` to make it anew, or name another cache"
        )


def check_shards(folder: Path, found: Manifest, planned: int) -> None:
    """Raises ItmkitError unless manifest and shards are what was written, and the plan is the one of before."""
    problems = []
    if found.altered:
        problems.append(f"{folder}: {found.altered}; restore it, or run `itmkit {found.made_by.stage} --force`")
    for shard in found.shards:
        path = folder / shard["file"]
        size = path.stat().st_size if path.exists() else -1
        if size != shard["bytes"]:
            state = "is missing" if size < 0 else f"has {size:,} bytes, {shard['bytes']:,} were written"
            problems.append(f"{path}: {state}; restore it, or run `itmkit {found.made_by.stage} --force`")
    if found.planned != planned:
        problems.append(
            f"{folder}: was planned for {found.planned} rows, there are {planned} now;"
            f" run `itmkit {found.made_by.stage} --force`"
        )
    if problems:
        raise ItmkitError(problems)

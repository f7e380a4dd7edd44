"""A cache that is made anew: the old one stays until the new one is whole.

A forced writer works in the folder `NEW` of the cache folder. When the new cache is whole, its shards move beside those
of the old one, under other names. The manifest moves last. This one rename is the change from old to new, so that a
kill at any moment leaves one of them. A run that was killed before that goes on in `NEW` when it is started again.
"""

from __future__ import annotations

import re
from pathlib import Path

from itmkit.cache.manifest import NAME, MadeBy, Manifest, part_manifest, parts_in, read_manifest
from itmkit.cache.recode import STAGED
from itmkit.errors import ItmkitError
from itmkit.files import remove_folder
from itmkit.machine.part import WHOLE, Part

NEW = ".new"
_SHARD = re.compile(r"shard-(\d+)b?\.h5")


def shard_number(file: str) -> int | None:
    """The number of the shard in a file of this name; None if it is no name of a shard."""
    found = _SHARD.fullmatch(file)
    return int(found[1]) if found else None


def shard_name(number: int, *, other: bool) -> str:
    """The file of a shard. other: the second of two names, for a cache that is made beside an older one."""
    return f"shard-{number:05d}{'b' if other else ''}.h5"


def is_other_name(file: str) -> bool:
    """Whether this is the second of the two names of a shard."""
    return file.endswith("b.h5")


def other_names(folder: Path) -> bool:
    """Whether the new shards of the cache in `folder` take the second of their two names."""
    manifests = [read_manifest(folder, name) for name in _names(folder)]
    used = {shard["file"] for manifest in manifests if manifest is not None for shard in manifest.shards}
    return any(file == shard_name(number, other=False) for file in used if (number := shard_number(file)) is not None)


def _names(folder: Path) -> list[str]:
    """The names of all manifests that may be in a folder, that of the whole cache first."""
    return [NAME, *(part_manifest(part) for part in parts_in(folder))]


def begun_in(folder: Path, part: Part = WHOLE) -> Manifest | None:
    """The manifest of what was begun in this very folder: the whole one, else that of `part`, else of any part."""
    names = sorted(_names(folder)[1:], key=lambda name: name != part_manifest(part))
    found = (read_manifest(folder, name) for name in [NAME, *names])
    return next((manifest for manifest in found if manifest is not None), None)


def place_to_write(folder: Path, part: Part, made_by: MadeBy, *, force: bool) -> Path:
    """Where a writer works: in `folder`, or in `NEW` if it makes the cache anew, or goes on with that.

    A part of a cache that has not been merged yet is made anew beside the other parts.

    Raises:
        ItmkitError: other jobs make this cache anew from other data or settings, and this one does not.
    """
    new = folder / NEW
    _no_link(new)
    if force:
        return new if part == WHOLE or (folder / NAME).exists() or parts_in(new) else folder
    begun = begun_in(new, part)
    if begun is None:
        return folder
    differences = begun.made_by.differences(made_by)
    if not differences:
        return new
    if part != WHOLE:
        raise ItmkitError(
            f"{new}: jobs with --force have begun to make this cache anew ({'; '.join(differences)}); go on with their"
            " settings, or delete this folder"
        )
    return folder


def _no_link(new: Path) -> None:
    """A link, as a workspace from somewhere else may have, goes: what is written or moved must not lie outside."""
    if new.is_symlink():
        new.unlink()


def discard_new(folder: Path) -> None:
    """Removes a cache that was begun anew and is not wanted any more."""
    remove_folder(folder / NEW)


def take_over(folder: Path) -> Manifest | None:
    """Replaces the cache in `folder` by the one in `NEW`, if that is whole. Returns its manifest, else None."""
    new = folder / NEW
    _no_link(new)
    manifest = read_manifest(new)
    if manifest is None:
        if new.is_dir() and not parts_in(new):  # a kill has left what there was to clear away
            _clear_away(folder)
        return None
    if not manifest.complete:
        return None
    for shard in manifest.shards:
        if (new / shard["file"]).exists():
            (new / shard["file"]).replace(folder / shard["file"])
    (new / NAME).replace(folder / NAME)
    _clear_away(folder)
    return manifest


def _clear_away(folder: Path) -> None:
    """Removes the shards and the parts of an older cache, and what is left of `NEW`."""
    manifest = read_manifest(folder)
    if manifest is not None and manifest.complete:
        for part in parts_in(folder):
            (folder / part_manifest(part)).unlink()
        kept = {shard["file"] for shard in manifest.shards}
        for path in folder.glob("shard-*.h5"):
            if path.name not in kept:
                path.unlink()
        remove_folder(folder / STAGED)
    discard_new(folder)

"""One set of string tables for parts that met their strings in different orders.

A column that has the name of a table holds places in that table. If the tables of the parts differ, every shard is
written anew beside the old one, with the places that a single process would have given its strings. When all new shards
are there, they replace the old ones. A kill before that changes nothing; if killed during it, the next merge goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from itmkit.cache.manifest import NAME, Manifest, read_manifest
from itmkit.files import atomic_path, remove_folder, sha256_file

STAGED = ".merging"


def coded(manifest: Manifest) -> list[str]:
    """The columns whose values are places in the table of the same name."""
    return [name for name in manifest.tables if name in manifest.columns]


def stage(folder: Path, manifests: Iterable[Manifest]) -> None:
    """Writes the shards of all parts anew into `STAGED`, in the order of their names, and last their manifest."""
    staged = folder / STAGED
    remove_folder(staged)
    staged.mkdir()
    parts = list(manifests)
    whole = parts[0]
    names = coded(whole)
    index: dict[str, dict[str, int]] = {name: {} for name in names}
    of = {shard["file"]: (part, shard) for part in parts for shard in part.shards}
    shards = []
    for file in sorted(of):
        part, shard = of[file]
        with atomic_path(staged / file) as partial:
            shutil.copyfile(folder / file, partial)
            with h5py.File(partial, "r+") as opened:
                for name in names:
                    opened[name][...] = _recoded(opened[name][...], part.tables[name], index[name])
        path = staged / file
        shards.append({**shard, "bytes": path.stat().st_size, "sha256": sha256_file(path)})
    whole.shards, whole.complete = shards, True
    whole.tables = {name: list(index.get(name, table)) for name, table in whole.tables.items()}
    whole.write(staged)


def _recoded(values: np.ndarray, table: list[str], index: dict[str, int]) -> np.ndarray:
    """Places in a part's table as places in `index`, which gets the new strings in order of first appearance."""
    used, first, places = np.unique(values, return_index=True, return_inverse=True)
    new = np.full(len(used), -1, values.dtype)
    for at in np.argsort(first).tolist():
        if used[at] >= 0:
            new[at] = index.setdefault(table[used[at]], len(index))
    return new[places].reshape(values.shape)


def moved(folder: Path) -> Manifest | None:
    """Moves what `stage` has written to its place. Returns None if there is nothing (left) to move."""
    staged = folder / STAGED
    manifest = read_manifest(staged)
    if manifest is None:
        return None
    for shard in manifest.shards:
        if (staged / shard["file"]).exists():
            (staged / shard["file"]).replace(folder / shard["file"])
    (staged / NAME).replace(folder / NAME)
    remove_folder(staged)
    return manifest

"""What made the caches of a run: `made/<cache>/manifest.json` in its folder, written when training begins.

With them the run reads new pictures and captions as training did, even if the caches of the workspace change or go.
Runs of older versions have none. For them the manifests of the workspace's caches count, as long as those are the
caches of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from itmkit.cache.manifest import NAME, Manifest, read_manifest
from itmkit.cache.name import CacheName
from itmkit.errors import ItmkitError
from itmkit.files import write_json
from itmkit.typed import read_strict_json
from itmkit.workspace import Workspace

FOLDER = "made"
# New pictures need these tables, whose strings the regions are numbered by. Those of words are long and of no use.
KEPT_TABLES = ("tags", "attributes")


def write_made(workspace: Workspace, folder: Path, caches: Mapping[str, str]) -> None:
    """Writes the manifests of a run's caches to `folder/made`.

    Args:
        caches: name -> fingerprint, as `run.json` will say.

    Raises:
        ItmkitError: a cache has another fingerprint by now, or is gone.
    """
    for cache, fingerprint in caches.items():
        found = read_manifest(workspace.cache(cache))
        if found is None or found.fingerprint != fingerprint:
            raise ItmkitError(
                f"{workspace.cache(cache)}: was made anew while the training began; run the same command again"
            )
        keep_manifest(workspace.cache(cache), cache, folder)


def keep_manifest(source: Path, cache: str, folder: Path) -> None:
    """Copies the manifest of a cache, in the folder `source`, to `folder/made`, with those tables that are of use."""
    record = read_strict_json(source / NAME)
    kept = KEPT_TABLES if CacheName.of(cache).kind == "regions" else ()
    record["tables"] = {name: table for name, table in record["tables"].items() if name in kept}
    record.pop("tables_sha256", None)  # of the tables that the cache has
    write_json(folder / FOLDER / cache / NAME, record)


def keeps_made(folder: Path) -> bool:
    """Whether the folder of a run, or an export, says itself what made its caches."""
    return (folder / FOLDER).is_dir()


def place_of_made(folder: Path, cache: str) -> Path:
    """The folder with the manifest of a cache of a run: in the run, else in the workspace around it."""
    within = folder / FOLDER if keeps_made(folder) else folder.parent.parent / "caches"
    return within / cache


def made_in_training(folder: Path, cache: str, fingerprint: str | None) -> Manifest:
    """The manifest of a cache as it was when the run in `folder` was trained on it.

    Args:
        fingerprint: of the cache, as `run.json` says.

    Raises:
        ItmkitError: it is not there any more, or was made again otherwise.
    """
    place = place_of_made(folder, cache)
    found = read_manifest(place)
    if found is None:
        raise ItmkitError(
            f"{place} is gone, so it is not known how the run in {folder} reads new pictures and captions;"
            f" run `itmkit {CacheName.of(cache).command}` again, or open what `itmkit export` made of the run"
        )
    if found.fingerprint != fingerprint:
        why = "is damaged: restore it, or train the run anew with --force"
        if not keeps_made(folder):
            why = f"changed since the run in {folder} was trained on it; train it anew with --force"
        raise ItmkitError(f"{place} {why}")
    return found


def made_otherwise(training: Manifest, here: Manifest) -> list[str]:
    """In words, how a cache was made otherwise than that of training; other images or captions do not count."""
    return [line for line in training.made_by.differences(here.made_by) if not line.startswith("inputs.")]

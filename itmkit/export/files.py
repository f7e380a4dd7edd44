"""The files of an exported run. All are safetensors, TOML, JSON or the card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from itmkit.cache.manifest import NAME
from itmkit.export.card import in_cell
from itmkit.files import read_text, sha256_file, write_json, write_text
from itmkit.runs.facts import CONFIG, RunFacts
from itmkit.runs.facts import FILE as FACTS
from itmkit.runs.hub import FILES
from itmkit.runs.made import FOLDER as MADE
from itmkit.runs.made import keep_manifest, place_of_made
from itmkit.runs.place import IMPORTED
from itmkit.runs.settings import read_config
from itmkit.typed import read_strict_json

CARD = "README.md"
LEFT_OUT = "damaged"  # the note of an import that names files and pictures


def copy_run(run: Path, members: Sequence[str], caches: Sequence[str], folder: Path) -> None:
    """Copies what opens a run, its figures and the manifests of its caches into an empty folder.

    Args:
        members: names of its networks. caches: those that it reads.
    """
    names = [
        "config.toml",
        "vocabulary.json",
        "metrics.jsonl",
        IMPORTED,
        *(f"best-{member}.safetensors" for member in members),
    ]
    names += sorted(path.name for path in run.glob("eval-*.json") if "+" not in path.stem)
    for name in names:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    for cache in caches:
        keep_manifest(place_of_made(run, cache), cache, folder)
    shutil.copyfile(run / FACTS, folder / FACTS)


def without_local_places(folder: Path, target: Path) -> list[str]:
    """Copies an export, without what only this machine has: places of models and other files, and what was left out.

    Returns:
        The caches whose models lie on this machine. Who opens the copy has to say where they lie there.
    """
    for name in exported(folder):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)
    local = []
    for place in sorted((target / MADE).rglob(NAME)):
        record = read_strict_json(place)
        kept = {key: value for key, value in record["notes"].items() if key != LEFT_OUT and not _has_path(value)}
        if "model" in record["notes"] and "model" not in kept:
            kept["model"] = (record["made_by"]["model"] or {}).get("id", "unknown")
            local.append(place.parent.relative_to(target / MADE).as_posix())
        record["notes"] = kept
        for shard in record["shards"]:
            shard["skipped"] = []
        write_json(place, record)
    _without_folder_of_vectors(target)
    return local


def _has_path(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_has_path, value))
    return isinstance(value, str) and Path(value).expanduser().is_absolute()


def _without_folder_of_vectors(export: Path) -> None:
    """Leaves of `--word-vectors FILE` the name of the file, in the settings and on the card."""
    config, facts = read_config(export / CONFIG), RunFacts.read(export)
    path = config.training.word_vectors
    if not path:
        return
    training = replace(config.training, word_vectors=Path(path).name)
    replace(config, training=training).write(export / CONFIG)
    if CONFIG in facts.files:
        replace(facts, files={**facts.files, CONFIG: sha256_file(export / CONFIG)}).write(export)
    card = read_text(export / CARD)
    write_text(export / CARD, card.replace(in_cell(path), in_cell(Path(path).name)))


def exported(folder: Path) -> list[str]:
    """The names of the files of an export, among whatever else lies in its folder by now."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if _is_exported(name)]


def _is_exported(name: str) -> bool:
    return any(fnmatchcase(name, form) for form in FILES)


def copy_others(folder: Path, target: Path) -> None:
    """Copies what lies beside an export in its folder, such as a LICENSE or .git, to another export."""

    def left_out(place: str, names: list[str]) -> set[str]:
        within = Path(place).relative_to(folder)
        return {name for name in names if name == MADE or _is_exported((within / name).as_posix())}

    shutil.copytree(folder, target, symlinks=True, ignore=left_out, dirs_exist_ok=True)


def differing(first: Path, second: Path) -> list[str]:
    """The names of the files in which two exports differ, apart from the card."""
    names = {*exported(first), *exported(second)} - {CARD}
    return sorted(name for name in names if not _equal(first / name, second / name))


def _equal(first: Path, second: Path) -> bool:
    return first.is_file() and second.is_file() and first.read_bytes() == second.read_bytes()

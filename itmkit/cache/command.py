"""The command that makes a cache again as it was made: with the settings that its manifest keeps."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from itmkit.cache.manifest import Manifest
from itmkit.cache.name import CacheName

_SPLITS = {"restval": "train", "dev": "val", "testall": "test"}  # what a folder of SCAN's layout is taken to mean
_REGIONS = ("backend", "model", "regions", "size", "precision", "config", "vocabulary", "selection", "min_regions")


def command_of(name: CacheName, manifest: Manifest | None, settings: Mapping[str, Any]) -> str:
    """The command, without "itmkit", that continues a cache, or with --force makes it anew as it was.

    Args:
        manifest: None if the cache was not begun.
        settings: the stage's table of workspace.toml. It decides what a run without options does.
    """
    if manifest is None:
        return f"{name.command} --model MODEL" if name.kind == "patches" else name.command
    made = manifest.made_by
    if made.stage == "import-features":
        return _written("import-features", *_import(manifest))
    if made.stage != name.stage:
        return name.command
    if made.stage == "parse-text" and name.name != "scan":
        return _written(name.stage, *_parse(manifest, plain=not settings))
    if made.stage == "extract-regions" and settings:
        known = made.settings | {key: manifest.notes.get(key) for key in ("model", "config", "vocabulary")}
        return _written(name.command, *_options({key: known.get(key) for key in _REGIONS}))
    if made.stage == "build-graphs" and name.side == "images":
        usual = {"blocks": 16, "keep": 15} | dict(settings)
        asked = {key: made.settings.get(key, usual[key]) for key in ("blocks", "keep")}
        return name.command if asked == usual else _written(name.command, *_options(asked))
    return name.command


def _written(command: str, *words: str) -> str:
    # Capitals stand for what the manifest of an older version does not say.
    return " ".join([command, *(word if word in ("FILE", "FOLDER") else shlex.quote(word) for word in words)])


def _options(values: Mapping[str, Any]) -> list[str]:
    given = {key: value for key, value in values.items() if value is not None}
    return [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def _parse(manifest: Manifest, *, plain: bool) -> list[str]:
    parser, model = manifest.made_by.settings.get("parser", "itmkit"), manifest.notes.get("model")
    if model is None and parser == "spacy":
        model = str((manifest.made_by.model or {}).get("id", "en_core_web_sm")).split()[0]
    if model is None and parser in ("stanza", "conllu", "wordpiece"):
        model = "FOLDER" if parser == "stanza" else "FILE"
    return [] if plain and parser == "itmkit" and model is None else _options({"parser": parser, "model": model})


def _import(manifest: Manifest) -> list[str]:
    made, notes = manifest.made_by.settings, manifest.notes
    layout, left_out = made.get("layout"), ["--skip-damaged"] if notes.get("damaged") else []
    if layout == "scan":
        splits: dict[str, str] = made.get("splits", {})
        other = {name: split for name, split in splits.items() if split not in (name, _SPLITS.get(name))}
        maps = [f"{name}={split}" for name, split in notes.get("split_map", other).items()]
        named = {"tags": made.get("tag_form"), "size-order": made.get("size_order")}
        asked = {key: value for key, value in named.items() if value not in ("colour-class", "width-height")}
        left_out += ["--skip-empty"] if notes.get("skip_empty") else []
        exact = ["--exact"] if made.get("features") == "float32" else []
        folder, maps = notes.get("folder", "FOLDER"), [f"--split-map={one}" for one in maps]
        return ["scan", folder, *maps, *_options(asked), *exact, *left_out]
    options = {"regions": made.get("regions")}
    if layout in ("npz", "npy", "pt"):
        options |= {"boxes": notes.get("boxes_folder")}
        return [layout, notes.get("folder", "FOLDER"), *_options(options), *left_out]
    if layout in ("hdf5", "pt-dict"):
        options |= {"index": notes.get("index")}
        return [layout.removesuffix("-dict"), *notes.get("paths", ["FILE"]), *_options(options), *left_out]
    options |= {"vocabulary": notes.get("vocabulary", "FOLDER" if made.get("vocabulary") else None)}
    options |= {"dtype": made.get("dtype")}
    return ["bottom-up", *notes.get("paths", ["FILE"]), *_options(options), *left_out]

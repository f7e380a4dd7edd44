"""One row of a cache in words; the regions of an image. Captions are in `captions.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmkit.cache import Manifest, read_manifest
from itmkit.errors import ItmkitError
from itmkit.inspection.hdf5 import ask_child
from itmkit.inspection.indexes import cache_manifest
from itmkit.inspection.report import Report, ReportTable, short
from itmkit.inspection.trees import NO_TREE, Tree, tree_lines, word_lines
from itmkit.workspace import Workspace


def inspect_row(folder: Path, key: str) -> Report:
    """The row `key` of a cache: an image id (regions, image graphs) or a text key (text, text graphs)."""
    manifest = cache_manifest(folder)
    if manifest is None:
        raise ItmkitError(f"{folder}: there is no manifest.json of a cache here, so it is no cache")
    answer = ask_child("row", folder, key)
    if answer["row"] is None:
        raise ItmkitError(f"{folder}: no row for 1 of 1 ids ({key})")
    columns: dict[str, Any] = answer["columns"]
    report = Report("row of a cache", folder)
    report.fact("id", key)
    report.fact("row", answer["row"])
    if {"boxes", "count", "size"} <= columns.keys():
        _add_regions(report, columns, manifest)
    elif manifest.made_by.stage == "parse-text" and "heads" not in columns:
        words = words_of(folder, columns, manifest)
        report.lines += ["too many words to be told"] if words is None else [NO_TREE, *word_lines(words)]
    elif {"words", "heads"} <= columns.keys():
        tree = tree_of(folder, columns, manifest)
        report.lines += ["too many words to be drawn"] if tree is None else tree_lines(tree)
    told = [
        (name, column["dtype"], " x ".join(map(str, column["shape"])) or "1", *_range(column))
        for name, column in columns.items()
    ]
    names = ("column", "type", "shape", "least", "mean", "greatest")
    report.tables.append(ReportTable("columns", names, told, names[3:]))
    return report


def inspect_image(path: Path, id: str) -> Report:
    """The regions of an image. `path` is a workspace or anything inside one, or a regions cache."""
    folder = folder_of(path, "boxes", "regions")
    skipped = {item["id"]: item["reason"] for item in manifest_of(folder, "extract-regions").skipped}
    if id in skipped:
        raise ItmkitError(f"{folder}: image {id!r} was skipped: {skipped[id]}")
    return inspect_row(folder, id)


def find_root(path: Path) -> Path | None:
    """The workspace that `path` is or lies in: the nearest folder with dataset.jsonl or caches."""
    for folder in (path.absolute(), *path.absolute().parents):
        if (folder / "dataset.jsonl").is_file() or (folder / "caches").is_dir():
            return folder
    return None


def workspace_of(path: Path) -> Workspace:
    root = find_root(path)
    if root is None:
        raise ItmkitError(f"{path}: is no workspace and lies in none")
    return Workspace(root)


def folder_of(path: Path, column: str, cache: str) -> Path:
    """The cache that `path` is or lies in if it has the column, else the cache of that name of the workspace."""
    if not path.exists():
        raise ItmkitError(f"{path}: no such file or folder")
    folder = path if path.is_dir() else path.parent
    return folder if _has_column(folder, column) else workspace_of(path).cache(cache)


def manifest_of(folder: Path, stage: str) -> Manifest:
    """The manifest of the cache in `folder`; `stage` is the command that makes it."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise ItmkitError(f"{folder}: there is no cache here; run `itmkit {stage}` first")
    return manifest


def _has_column(folder: Path, column: str) -> bool:
    manifest = cache_manifest(folder)
    return manifest is not None and column in manifest.columns


def _range(column: dict[str, Any]) -> tuple[str, str, str]:
    least, mean, greatest = (short(value) for value in column.get("range", ("", "", "")))
    return least, mean, greatest


def _string(manifest: Manifest, table: str, index: int) -> str:
    strings = manifest.tables.get(table, [])
    return strings[index] if 0 <= index < len(strings) else "" if index < 0 else f"?{index}"


def _add_regions(report: Report, columns: dict[str, Any], manifest: Manifest) -> None:
    """What an import did not know is 0 in its columns, and left out here: its notes say what the files held."""
    width, height = columns["size"]["values"]
    count = columns["count"]["values"]
    known = {name for name in ("boxes", "scores") if manifest.notes.get(name, True)}
    report.fact("size", f"{width} x {height} pixels" if width and height else "not known")
    report.fact("regions", count)
    rows = []
    for region in range(min(count, len(columns["boxes"]["values"]))):
        values = {name: columns[name]["values"][region] for name in ("tags", "attributes", "scores") if name in columns}
        box = columns["boxes"]["values"][region]
        attribute = _string(manifest, "attributes", values.get("attributes", -1))
        thing = " ".join(filter(None, [attribute, _string(manifest, "tags", values.get("tags", -1))]))
        score = f"{values['scores']:.3f}" if "scores" in values.keys() & known else ""
        rows.append((str(region), thing, score, " ".join(f"{side:.0f}" for side in box) if "boxes" in known else ""))
    right = ("region", "score", "box")
    report.tables.append(ReportTable("regions", ("region", "what", "score", "box"), rows, right))


def words_of(folder: Path, columns: dict[str, Any], manifest: Manifest) -> list[str] | None:
    """The words of a row of a text cache; None where they are too many to be told."""
    if "values" not in columns["words"]:
        return None
    if not columns["words"]["dtype"].startswith("int") or len(columns["words"]["shape"]) != 1:
        raise ItmkitError(f"{folder}: its column 'words' holds no words; run `itmkit parse-text --force`")
    return [_string(manifest, "words", index) for index in columns["words"]["values"]]


def tree_of(folder: Path, columns: dict[str, Any], manifest: Manifest) -> Tree | None:
    """The parsed words of a row; None where they are too many to be told."""
    there = [name for name in ("words", "heads", "pos", "relations", "sentences") if name in columns]
    if any("values" not in columns[name] for name in there):
        return None
    if any(not columns[name]["dtype"].startswith("int") for name in there) or (
        len({tuple(columns[name]["shape"]) for name in there}) != 1 or len(columns["words"]["shape"]) != 1
    ):
        raise ItmkitError(f"{folder}: its columns do not fit each other; run `itmkit parse-text --force`")
    heads: list[int] = columns["heads"]["values"]
    words, pos, relations = (
        [_string(manifest, name, index) for index in columns[name]["values"]] if name in there else [""] * len(heads)
        for name in ("words", "pos", "relations")
    )
    return Tree(words, pos, relations, heads, columns["sentences"]["values"] if "sentences" in there else [])

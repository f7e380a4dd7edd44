"""One row of a cache in words: the regions of an image, the dependency tree of a caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmkit.cache import Manifest, read_manifest, text_key
from itmkit.errors import ItmkitError
from itmkit.inspection.hdf5 import ask_child
from itmkit.inspection.report import Report, ReportTable, short
from itmkit.workspace import Workspace


def inspect_row(folder: Path, key: str) -> Report:
    """The row `key` of a cache: an image id (regions, image graphs) or a text key (text, text graphs)."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise ItmkitError(f"{folder}: there is no manifest.json here, so it is no cache")
    answer = ask_child("row", folder, key)
    columns: dict[str, Any] = answer["columns"]
    report = Report("row of a cache", folder)
    report.fact("id", key)
    report.fact("row", answer["row"])
    if {"boxes", "count", "size"} <= columns.keys():
        _add_regions(report, columns, manifest)
    elif {"words", "heads"} <= columns.keys():
        report.lines += tree_lines(_tokens(columns, manifest))
    told = [
        (name, column["dtype"], " x ".join(map(str, column["shape"])) or "1", *_range(column))
        for name, column in columns.items()
    ]
    names = ("column", "type", "shape", "least", "mean", "greatest")
    report.tables.append(ReportTable("columns", names, told, names[3:]))
    return report


def inspect_image(path: Path, id: str) -> Report:
    """The regions of an image. `path` is a workspace or anything inside one, or a regions cache."""
    folder = path if _has_column(path, "boxes") else workspace_of(path).cache("regions")
    skipped = {item["id"]: item["reason"] for item in _manifest(folder, "extract-regions").skipped}
    if id in skipped:
        raise ItmkitError(f"{folder}: image {id!r} was skipped: {skipped[id]}")
    return inspect_row(folder, id)


def inspect_caption(path: Path, caption: str) -> Report:
    """The tree of a caption, given by its id or its text. `path` is a workspace or inside one, or a text cache."""
    root = find_root(path)
    text = caption
    if root is not None and (root / "dataset.jsonl").exists():
        found = (c.text for i in Workspace(root).dataset().images for c in i.captions if c.id == caption)
        text = next(found, caption)
    folder = path if _has_column(path, "heads") else workspace_of(path).cache("text")
    _manifest(folder, "parse-text")
    try:
        report = inspect_row(folder, text_key(text))
    except ItmkitError as error:
        raise ItmkitError(f"{folder}: {caption!r} is neither the id nor the text of a caption parsed here") from error
    report.facts.insert(0, ("caption", text))
    return report


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


def _manifest(folder: Path, stage: str) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise ItmkitError(f"{folder}: there is no cache here; run `itmkit {stage}` first")
    return manifest


def _has_column(folder: Path, column: str) -> bool:
    manifest = read_manifest(folder) if folder.is_dir() else None
    return manifest is not None and column in manifest.columns


def _range(column: dict[str, Any]) -> tuple[str, str, str]:
    least, mean, greatest = (short(value) for value in column.get("range", ("", "", "")))
    return least, mean, greatest


def _string(manifest: Manifest, table: str, index: int) -> str:
    strings = manifest.tables.get(table, [])
    return strings[index] if 0 <= index < len(strings) else "" if index < 0 else f"?{index}"


def _add_regions(report: Report, columns: dict[str, Any], manifest: Manifest) -> None:
    width, height = columns["size"]["values"]
    count = columns["count"]["values"]
    report.fact("size", f"{width} x {height} pixels")
    report.fact("regions", count)
    rows = []
    for region in range(min(count, len(columns["boxes"]["values"]))):
        values = {name: columns[name]["values"][region] for name in ("tags", "attributes", "scores") if name in columns}
        box = columns["boxes"]["values"][region]
        attribute = _string(manifest, "attributes", values.get("attributes", -1))
        thing = " ".join(filter(None, [attribute, _string(manifest, "tags", values.get("tags", -1))]))
        score = f"{values['scores']:.3f}" if "scores" in values else ""
        rows.append((str(region), thing, score, " ".join(f"{side:.0f}" for side in box)))
    right = ("region", "score", "box")
    report.tables.append(ReportTable("regions", ("region", "what", "score", "box"), rows, right))


def _tokens(columns: dict[str, Any], manifest: Manifest) -> list[tuple[str, str, str, int]]:
    """(word, part of speech, relation, head) of each token."""
    get = {name: columns[name]["values"] if name in columns else [] for name in ("words", "pos", "relations", "heads")}
    named = [
        [_string(manifest, table, index) for index in get[table]] or [""] * len(get["heads"])
        for table in ("words", "pos", "relations")
    ]
    return [(*parts, head) for *parts, head in zip(*named, get["heads"], strict=True)]  # type: ignore[misc]


def tree_lines(tokens: list[tuple[str, str, str, int]]) -> list[str]:
    """Draws dependency trees: (word, part of speech, relation, head) a token, a root being its own head.

    Words of one head stand in the order of the caption. Works for any heads: words that no root leads to (heads in
    a circle, or out of range) are listed at the end.
    """
    children: dict[int, list[int]] = {}
    for place, (*_, head) in enumerate(tokens):
        if head != place:
            children.setdefault(head, []).append(place)
    drawn: set[int] = set()
    lines = []
    todo = [(place, "", "") for place, token in enumerate(tokens) if token[3] == place][::-1]
    while todo:
        place, own, below = todo.pop()
        drawn.add(place)
        word, pos, relation, _ = tokens[place]
        lines.append(f"{own}{word}  {pos} {relation}".rstrip())
        mine = children.get(place, [])
        for number, child in reversed(list(enumerate(mine))):
            last = number == len(mine) - 1
            todo.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
    lines += [f"{token[0]}  (in no tree: head {token[3]})" for i, token in enumerate(tokens) if i not in drawn]
    return lines

"""Cache folders and HDF5 files in words."""

from __future__ import annotations

from pathlib import Path

from itmkit.cache import CacheReader, Column, Manifest, read_manifest
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file, size_in_words
from itmkit.inspection.hdf5 import ask_child
from itmkit.inspection.indexes import cache_manifest
from itmkit.inspection.report import Report, ReportTable, leaves, short
from itmkit.models.norms import facts_of_norms

MEANINGS = {
    "features": "one vector a region or patch",
    "boxes": "x1 y1 x2 y2 in pixels of the upright picture",
    "count": "how many of the regions are used",
    "tags": "kind of thing, index into table tags; -1 none",
    "attributes": "colour or other attribute, index into table attributes; -1 none",
    "scores": "confidence of each region",
    "size": "width, height of the upright picture",
    "words": "index into table words",
    "lemmas": "index into table lemmas",
    "pos": "part of speech, index into table pos",
    "heads": "place of a word's head in the caption; a root is its own",
    "relations": "relation to the head, index into table relations",
    "starts": "first character of the word in the caption",
    "ends": "character after the word",
    "sentences": "number of the sentence in the caption",
    "blocks": "blocks of the 16 x 16 grid that a region overlaps most",
    "block_weights": "share of the region in each block",
    "polar_rho": "distance between the centres of two regions",
    "polar_theta": "angle from one region to another",
    "cls": "the vector of the whole picture, of [CLS] or of the pooling head",
    "attention": "share of each patch in the attention of [CLS]; sums to 1",
    "vector": "pooled vector in the common space of images and texts, not normalised",
    "tokens": "tokens of the caption before it was cut to what the model takes",
    "edges": "pairs of words that depend on each other",
}


def inspect_cache(folder: Path, *, verify: bool = False) -> Report:
    """A cache folder: what made it, its columns, tables and shards.

    Args:
        verify: compare the sha256 of every shard with the manifest; differences go to `problems`.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ItmkitError(f"{folder}: there is no manifest.json of a cache here, so it is no cache")
    report = Report("cache", folder)
    made_by = manifest.made_by
    report.fact("made by", f"itmkit {made_by.stage}")
    for name, value in leaves(made_by.settings, "settings") + (leaves(made_by.model, "model") if made_by.model else []):
        report.fact(name, short(value))
    for name, digest in made_by.inputs.items():
        report.fact(f"made from {name}", digest)
    done = manifest.count + len(manifest.skipped)
    report.fact("rows", f"{manifest.count:,}")
    report.fact("state", "complete" if manifest.complete else f"unfinished, {done:,} of {manifest.planned:,}")
    report.fact("skipped", f"{len(manifest.skipped):,}")
    report.fact("size", size_in_words(manifest.bytes))
    report.fact("fingerprint", manifest.fingerprint)
    for name, value in leaves(manifest.notes) if manifest.notes else []:
        report.fact(f"note {name}", short(value))
    if manifest.complete:
        for name, value in facts_of_norms(CacheReader(folder, manifest)):
            report.fact(name, value)
    report.tables += _tables(folder, manifest)
    if verify:
        report.problems = CacheReader(folder, manifest).verify()
        report.fact("verified", _verdict(len(manifest.shards), len(report.problems)))
    return report


def inspect_hdf5(path: Path, *, verify: bool = False) -> Report:
    """Any HDF5 file, opened by a child process: its objects, without following links or reading data.

    Args:
        verify: compares the sha256 of a shard with the manifest of its cache, that of scores with the one in their
            file. Any other file is a problem.
    """
    report = Report("HDF5 file", path)
    report.fact("size", size_in_words(path.stat().st_size))
    manifest = cache_manifest(path.parent)
    entry = next((s for s in manifest.shards if s["file"] == path.name), None) if manifest else None
    if manifest and entry:
        place = manifest.shards.index(entry)
        report.kind = "shard of a cache"
        report.fact("shard", f"{place + 1} of {len(manifest.shards)}, made by itmkit {manifest.made_by.stage}")
        report.fact("rows", f"{entry['count']:,}")
    if verify and entry:
        if sha256_file(path) != entry["sha256"]:
            report.problems.append(f"{path}: its content is not what was written; restore it or rerun the stage")
        report.fact("verified", _verdict(1, len(report.problems)))
        if report.problems:
            return report
    answer = ask_child("walk", path)
    rows = [tuple(str(item[key]) for key in ("path", "what", "shape", "type", "chunks")) for item in answer["objects"]]
    title = "objects" if not answer["more"] else "objects (there are more)"
    report.tables.append(ReportTable.cut(title, ("path", "what", "shape", "type", "chunks"), rows))
    if entry is None:
        _tell_of_no_shard(report, {row[0]: row[2] for row in rows if row[1] == "data"}, verify=verify)
    wrong = [f"{row[0]} {row[1]}" for row in rows if row[1].startswith(("unreadable", "refused"))]
    if wrong:
        some = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        report.problems.append(f"{path}: holds objects that no cache may hold: {some}")
    return report


def _tell_of_no_shard(report: Report, shapes: dict[str, str], *, verify: bool) -> None:
    """shapes: of the data sets of the file."""
    if not {"/scores", "/images", "/captions"} <= shapes.keys():
        report.fact("belongs to", "no cache; no stage reads it")
        if verify:
            report.problems.append(f"{report.path}: is in no cache's manifest, so there is nothing to verify it with")
        return
    report.kind = "scores of itmkit evaluate"
    report.fact("images x captions", shapes["/scores"])
    if not verify:
        return
    try:
        answer = ask_child("scores", report.path)
    except ItmkitError as error:
        report.problems += error.problems
    else:
        report.fact("verified", _verdict(1, 0) if answer["digest"] else "nothing: the file holds no digest of itself")


def _verdict(count: int, wrong: int) -> str:
    return f"{count} files, all as written" if not wrong else f"{count} files, {wrong} NOT as written"


def _tables(folder: Path, manifest: Manifest) -> list[ReportTable]:
    columns = [
        (name, column.dtype, _shape(column), MEANINGS.get(name, "")) for name, column in manifest.columns.items()
    ]
    tables = [ReportTable("columns", ("name", "type", "shape", "meaning"), columns)]
    strings = [(name, f"{len(table):,}", short(", ".join(table[:8]), 60)) for name, table in manifest.tables.items()]
    if strings:
        tables.append(ReportTable("string tables", ("name", "entries", "the first"), strings, ("entries",)))
    shards = []
    for shard in manifest.shards:
        path = folder / shard["file"]
        there = "missing" if not path.exists() else "whole" if path.stat().st_size == shard["bytes"] else "wrong size"
        size = size_in_words(shard["bytes"])
        shards.append((shard["file"], f"{shard['count']:,}", size, shard["sha256"][:16], there))
    right = ("rows", "size")
    tables.append(ReportTable.cut("shards", ("file", "rows", "size", "sha256", "on disk"), shards, right))
    if manifest.skipped:
        skipped = [(item["id"], short(item["reason"])) for item in manifest.skipped]
        tables.append(ReportTable.cut("skipped", ("id", "reason"), skipped))
    return tables


def _shape(column: Column) -> str:
    inner = " x ".join(map(str, column.shape)) or "1"
    return f"{inner} a row" if column.kind == "row" else f"{inner} each, any number a row ({column.group})"

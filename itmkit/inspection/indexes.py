"""Folders of an index in words, and how they are told from caches, which have a manifest.json too."""

from __future__ import annotations

from pathlib import Path

from itmkit.cache import Manifest, read_manifest
from itmkit.files import size_in_words
from itmkit.inspection.report import Report


def is_index(folder: Path) -> bool:
    """Whether a folder is one of `itmkit index`."""
    return (folder / "chunk-00000").is_dir()  # as in itmkit.index.store, whose import takes seconds


def cache_manifest(folder: Path) -> Manifest | None:
    """The manifest of the cache in a folder, None where there is none; errors as of `read_manifest`."""
    return None if is_index(folder) else read_manifest(folder)


def inspect_index(folder: Path) -> Report:
    """An index: what it was made from, and how much it holds."""
    from itmkit.index.store import IndexFacts

    report, facts = Report("index", folder), IndexFacts.read(folder)
    report.fact("run", facts.run)
    report.fact("method", facts.method)
    report.fact("images", f"{sum(facts.chunks) - len(facts.dead):,}")
    report.fact("captions", f"{sum(facts.captions) - len(facts.dead_captions):,}")
    report.fact("rows", facts.rows)
    report.fact("engine", facts.engine)
    report.fact("size", size_in_words(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())))
    for name, digest in facts.made_from.items():
        report.fact(f"made from {name}", digest)
    return report

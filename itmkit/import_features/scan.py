"""import-features: turns region features that users already have into `caches/regions`, and a data set if needed.

The files are read twice, in blocks of rows. The first pass checks everything and finds repeated rows, so that all
problems of a folder are reported together before anything is written. The second pass writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.cache import WHOLE, CacheWriter, MadeBy
from itmkit.cache.parts import writing
from itmkit.cache.writer import ShardWriter
from itmkit.dataset import Dataset
from itmkit.dataset_info import uneven_captions
from itmkit.errors import ItmkitError
from itmkit.files import digest
from itmkit.import_features.box_units import SCALED
from itmkit.import_features.scan_blocks import block_columns
from itmkit.import_features.scan_check import USUAL_CHECKS, CheckOptions, disagreements, read_split
from itmkit.import_features.scan_columns import TagForm, Tags, columns_of
from itmkit.import_features.scan_dataset import scan_dataset
from itmkit.import_features.scan_layout import ScanSplit, find_splits
from itmkit.import_features.scan_unread import passed_over
from itmkit.progress import SILENT, Progress
from itmkit.regions.regions import region_columns
from itmkit.workspace import Workspace

STAGE = "import-features"


@dataclass(frozen=True)
class ImportResult:
    """What `import_scan` found and wrote.

    repeated: how many rows repeated an earlier row and were left out. left_out: how many pictures of the folder the
    prepared data set has not. empty: how many captions were left out because they hold no words. damaged: {"place",
    "reason"} of every row that was left out because it cannot be used.
    """

    path: Path
    images: int
    captions: int
    rows: int
    regions: int
    dim: int
    splits: dict[str, int]
    split_captions: dict[str, int]
    extras: tuple[str, ...]
    skipped: int
    notes: list[str] = field(default_factory=list)
    unchanged: bool = False
    repeated: int = 0
    left_out: int = 0
    empty: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)


def import_scan(
    workspace: Workspace,
    folder: Path,
    *,
    split_map: Mapping[str, str] | None = None,
    tag_form: TagForm = "colour-class",
    options: CheckOptions = USUAL_CHECKS,
    exact: bool = False,
    shard_size: int = 2000,
    force: bool = False,
    progress: Progress = SILENT,
) -> ImportResult:
    """Imports a folder in the SCAN layout (see `itmkit.import_features.scan_layout`).

    Where the workspace has no data set, or one that an import made, `dataset.jsonl` is written from the captions
    (pictures without files, caption ids "<image>#k"). Where `itmkit prepare` made the data set, its captions and
    splits stay, and every picture of it must be among the features, by id or by file name. Other pictures of the folder
    are left out.

    Args:
        split_map: {"testall": "test", "dev": "-"}: the split of a name, or "-" to leave it out.
        tag_form: "colour-class" splits a tag at its first space; "class" takes it whole.
        options: the columns of `_sizes.npy`, and what is left out instead of being an error.
        exact: keep float32 features as they are, in twice the space, where others are rounded to float16.
        force: make the cache and an imported data set anew if they came from other files.

    Raises:
        ItmkitError: every problem of the folder, before anything is written.
    """
    with workspace.preparing():
        return _imported(workspace, folder, split_map, tag_form, options, exact, shard_size, force, progress)


def _imported(
    workspace: Workspace,
    folder: Path,
    split_map: Mapping[str, str] | None,
    tag_form: TagForm,
    options: CheckOptions,
    exact: bool,
    shard_size: int,
    force: bool,
    progress: Progress,
) -> ImportResult:
    names, notes = find_splits(folder, split_map)
    splits = _read_splits(folder, names, options, progress)
    notes += passed_over(folder, names)
    repeated = sum(len(split.features) - len(split) for split in splits)

    files = digest({split.name: split.digests for split in splits})
    settings: dict[str, Any] = {"layout": "scan", "splits": names, "files_sha256": files}
    with writing(workspace.cache("regions"), WHOLE):
        pass  # nobody else writes the cache, so that the data set is not replaced for nothing
    dataset, keys, sizes, left_out = scan_dataset(workspace, splits, settings, options, force=force)
    notes += uneven_captions(dataset.info["counts"])
    settings |= {"tag_form": tag_form, "size_order": options.size_order} | ({"features": "float32"} if exact else {})
    if any(split.shares for split in splits):
        notes.append(SCALED)
        settings["boxes"] = "shares"  # an older version took them for pixels: its caches are not these
    for note in notes:
        progress.note(note)
    made_by = MadeBy(STAGE, settings, None, workspace.inputs("regions", dataset))
    cache_notes: dict[str, Any] = {"split_map": dict(split_map or {})}
    cache_notes |= {"skip_empty": True} if options.skip_empty else {}
    cache_notes |= _cache_notes(folder, splits, sized=sizes is not None)
    with _begun(
        workspace, splits[0], keys, exact, made_by=made_by, notes=cache_notes, shard_size=shard_size, force=force
    ) as writer:
        unchanged = writer.manifest.complete
        _write(writer, splits, sizes, tag_form, progress)
    found = _result(writer, splits, dataset, cache_notes)
    return replace(found, notes=notes, unchanged=unchanged, repeated=repeated, left_out=left_out)


def _result(
    writer: CacheWriter, splits: list[ScanSplit], dataset: Dataset, cache_notes: dict[str, Any]
) -> ImportResult:
    _, regions, dim = splits[0].features.shape
    return ImportResult(
        path=writer.folder,
        images=sum(len(split) for split in splits),
        captions=sum(len(image.captions) for image in dataset.images),
        rows=sum(len(split.features) for split in splits),
        regions=regions,
        dim=dim,
        splits={name: count["images"] for name, count in dataset.info["counts"].items()},
        split_captions={name: count["captions"] for name, count in dataset.info["counts"].items()},
        extras=tuple(what for what in ("boxes", "blocks", "sizes", "scores", "tags") if cache_notes.get(what)),
        skipped=len(writer.manifest.skipped),
        empty=sum(split.empty for split in splits),
        damaged=cache_notes.get("damaged", []),
    )


def _read_splits(folder: Path, names: Mapping[str, str], options: CheckOptions, progress: Progress) -> list[ScanSplit]:
    """Reads and checks all splits; everything that is wrong with any of them is one error."""
    splits: list[ScanSplit] = []
    problems: list[str] = []
    for name, split in names.items():
        alone = list(names.values()).count(split) == 1
        found, wrong = read_split(folder, name, split, options, progress, fallback=split if alone else name)
        problems += wrong
        if found is not None:
            splits.append(found)
    problems += disagreements(splits)
    if problems:
        raise ItmkitError(problems)
    return splits


def _cache_notes(folder: Path, splits: list[ScanSplit], *, sized: bool) -> dict[str, Any]:
    """Where the features came from, and which optional columns of the cache are filled."""
    extras = splits[0].extras
    notes: dict[str, Any] = {"folder": str(folder.resolve()), "files": {s.name: s.digests for s in splits}}
    notes |= {what: what in extras for what in ("boxes", "scores", "tags")} | {"sizes": sized}
    damaged = [
        {"place": f"{split.name}: row {row}", "reason": why}
        for split in splits
        for row, why in sorted(split.damaged.items())
    ]
    notes |= {"damaged": damaged} if damaged else {}
    return notes | ({"blocks": True} if "blocks" in extras else {})


def _begun(
    workspace: Workspace,
    first: ScanSplit,
    keys: list[str],
    exact: bool,
    *,
    made_by: MadeBy,
    notes: dict[str, Any],
    shard_size: int,
    force: bool,
) -> CacheWriter:
    """The cache, with the columns that the first split's files ask for; all splits are alike."""
    _, regions, dim = first.features.shape
    blocks = block_columns(regions) if "blocks" in first.extras else {}
    return CacheWriter.open(
        workspace.cache("regions"),
        made_by=made_by,
        columns=region_columns(regions, dim, features="float32" if exact else "float16") | blocks,
        keys=keys,
        tables={"tags": [], "attributes": []},
        shard_size=shard_size,
        notes=notes,
        force=force,
    )


def _write(
    writer: CacheWriter, splits: list[ScanSplit], sizes: np.ndarray | None, tag_form: TagForm, progress: Progress
) -> None:
    """Writes the shards that are not there yet."""
    total, start = sum(len(split) for split in splits), writer.done
    tags = Tags(splits)
    with progress.task("import-features", total, done=start, unit="images") as advance:
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                for at, index, rows in _blocks(splits, start, start + len(keys)):
                    split, names = splits[index], keys[at - start : at - start + len(rows)]
                    good = np.array([row not in split.damaged for row in rows.tolist()])
                    for key, row in zip(names, rows.tolist(), strict=True):
                        if row in split.damaged:
                            out.skip(key, split.damaged[row])
                    size = None if sizes is None else sizes[at : at + len(rows)][good]
                    _write_rows(out, writer, [key for key, keep in zip(names, good, strict=True) if keep],
                                split, rows[good], size, tags.take(index, rows[good]), tag_form)  # fmt: skip
                    advance(len(rows))
            start += len(keys)


def _write_rows(
    out: ShardWriter,
    writer: CacheWriter,
    keys: list[str],
    split: ScanSplit,
    rows: np.ndarray,
    size: np.ndarray | None,
    tags: list[list[str]] | None,
    tag_form: TagForm,
) -> None:
    if not keys:
        return
    columns = columns_of(writer, split, rows, tags, tag_form)
    if size is not None:
        columns["size"] = size
        if split.shares:
            columns["boxes"] = np.clip(columns["boxes"], 0, 1) * np.tile(size, 2)[:, None].astype(np.float32)
    kept = columns["count"] > 0
    for key in (key for key, keep in zip(keys, kept, strict=True) if not keep):
        out.skip(key, "all features are zero")
    rest = [key for key, keep in zip(keys, kept, strict=True) if keep]
    out.append(rest, {name: column[kept] for name, column in columns.items()})


def _blocks(splits: list[ScanSplit], start: int, stop: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Cuts pictures start..stop-1 of all splits into (first picture, number of its split, rows of its files)."""
    first = 0
    for index, split in enumerate(splits):
        last, step = first + len(split), split.features.rows_per_block
        for at in range(max(start, first), min(stop, last), step):
            yield at, index, split.rows[at - first : min(at + step, stop, last) - first]
        first = last

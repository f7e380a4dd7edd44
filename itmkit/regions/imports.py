"""import-features: region features that users already have become `caches/regions`, and a data set where there is none.

The files are read twice, in blocks of rows: once to check everything and to find repeated rows, so that all
problems of a folder are told at once and before anything is written, and once to write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from itmkit.cache import CacheWriter, Column, MadeBy
from itmkit.dataset import Caption, Dataset, ImageRecord, dataset_info, read_dataset, write_dataset
from itmkit.errors import ItmkitError
from itmkit.files import digest
from itmkit.progress import SILENT, Progress
from itmkit.regions.scan_check import read_split
from itmkit.regions.scan_layout import ScanSplit, find_splits, read_tags
from itmkit.workspace import Workspace

TagForm = Literal["colour-class", "class"]
SizeOrder = Literal["width-height", "height-width"]
STAGE = "import-features"


@dataclass(frozen=True)
class ImportResult:
    """What `import_scan` found and wrote."""

    path: Path
    images: int
    captions: int
    rows: int
    regions: int
    dim: int
    splits: dict[str, int]
    extras: tuple[str, ...]
    skipped: int
    notes: list[str] = field(default_factory=list)
    unchanged: bool = False

    @property
    def repeated(self) -> int:
        """How many rows repeated the features of an earlier row and were left out."""
        return self.rows - self.images


def region_columns(regions: int, dim: int) -> dict[str, Column]:
    """The columns of every regions cache (features float16; boxes in pixels of the upright picture)."""
    return {
        "features": Column("float16", (regions, dim)),
        "boxes": Column("float32", (regions, 4)),
        "count": Column("int16"),
        "tags": Column("int32", (regions,)),
        "attributes": Column("int16", (regions,)),
        "scores": Column("float32", (regions,)),
        "size": Column("int32", (2,)),
    }


def import_scan(
    workspace: Workspace,
    folder: Path,
    *,
    split_map: Mapping[str, str] | None = None,
    tag_form: TagForm = "colour-class",
    size_order: SizeOrder = "width-height",
    shard_size: int = 2000,
    force: bool = False,
    progress: Progress = SILENT,
) -> ImportResult:
    """Imports a folder in the SCAN layout (see `itmkit.regions.scan_layout`).

    Where the workspace has no data set, or one that an import made, `dataset.jsonl` is written from the captions
    (pictures without files, caption ids "<image>#k"). Where `itmkit prepare` made the data set, its captions and
    splits stay, and every picture of it must be among the features, by id or by file name.

    Args:
        split_map: {"testall": "test", "dev": "-"}: the split of a name, or "-" to leave it out.
        tag_form: "colour-class" splits a tag at its first space; "class" takes it whole.
        size_order: what the two columns of `_sizes.npy` are.
        force: make cache and imported data set anew where they came from other files.

    Raises:
        ItmkitError: with every problem of the folder, before anything is written.
    """
    names, notes = find_splits(folder, split_map)
    splits: list[ScanSplit] = []
    problems: list[str] = []
    for name, split in names.items():
        found, wrong = read_split(folder, name, split, size_order=size_order, progress=progress)
        problems += wrong
        if found is not None:
            splits.append(found)
    problems += _disagreements(splits)
    if problems:
        raise ItmkitError(problems)
    for note in notes:
        progress.note(note)

    settings: dict[str, Any] = {
        "layout": "scan",
        "splits": names,
        "files_sha256": digest({split.name: split.digests for split in splits}),
    }
    dataset, keys = _dataset(workspace, splits, settings, size_order, force=force)
    settings |= {"tag_form": tag_form, "size_order": size_order}
    made_by = MadeBy(STAGE, settings, None, workspace.inputs("regions", dataset))
    extras = splits[0].extras
    _, regions, dim = splits[0].features.shape
    cache_notes: dict[str, Any] = {"folder": str(folder.resolve()), "files": {s.name: s.digests for s in splits}}
    cache_notes |= {what: what in extras for what in ("boxes", "sizes", "scores", "tags")}
    with CacheWriter.open(
        workspace.cache("regions"),
        made_by=made_by,
        columns=region_columns(regions, dim),
        keys=keys,
        tables={"tags": [], "attributes": []},
        shard_size=shard_size,
        notes=cache_notes,
        force=force,
    ) as writer:
        unchanged = writer.manifest.complete
        _write(writer, splits, tag_form, size_order, progress)
        skipped = len(writer.manifest.skipped)
    return ImportResult(
        path=writer.folder,
        images=len(keys),
        captions=sum(len(image.captions) for image in dataset.images),
        rows=sum(len(split.features) for split in splits),
        regions=regions,
        dim=dim,
        splits={name: count["images"] for name, count in dataset.info["counts"].items()},
        extras=extras,
        skipped=skipped,
        notes=notes,
        unchanged=unchanged,
    )


def _disagreements(splits: list[ScanSplit]) -> list[str]:
    """What does not fit between the splits: shapes, optional files, pictures that are in two of them."""
    problems = []
    for other in splits[1:]:
        first = splits[0]
        if other.features.shape[1:] != first.features.shape[1:]:
            problems.append(
                f"{other.features.path}: {_shape(other)} a picture, {first.features.path.name} has {_shape(first)}"
            )
        for what in sorted(set(first.extras) ^ set(other.extras)):
            lacks, has = (first, other) if what in other.extras else (other, first)
            problems.append(
                f"{lacks.features.path.parent}: {has.name} has {what}, {lacks.name} has not;"
                " add the file or take the other away"
            )
    owner: dict[str, ScanSplit] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for split in splits:
        for key in split.ids:
            if owner.setdefault(key, split) is not split:
                shared.setdefault((owner[key].name, split.name), []).append(key)
    for (a, b), ids in shared.items():
        some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
        problems.append(
            f"{splits[0].features.path.parent}: {len(ids)} pictures are in both {a} and {b} ({some});"
            f" leave one out with --split-map {b}=-"
        )
    return problems


def _shape(split: ScanSplit) -> str:
    return "{} regions x {}".format(*split.features.shape[1:])


def _records(splits: list[ScanSplit], size_order: str) -> Iterator[ImageRecord]:
    for split in splits:
        sizes = read_sizes(split, split.rows, size_order) if "sizes" in split.arrays else None
        for i, (key, captions) in enumerate(zip(split.ids, split.captions, strict=True)):
            width, height = (int(sizes[i, 0]), int(sizes[i, 1])) if sizes is not None else (None, None)
            texts = tuple(Caption(f"{key}#{k}", text) for k, text in enumerate(captions))
            yield ImageRecord(id=key, split=split.split, captions=texts, width=width, height=height)


def read_sizes(split: ScanSplit, rows: np.ndarray, size_order: str) -> np.ndarray:
    """(len(rows), 2) int32 width, height."""
    values = np.rint(split.arrays["sizes"].take(rows).astype(np.float64)).astype(np.int32)
    return values if size_order == "width-height" else values[:, ::-1]


def _dataset(
    workspace: Workspace, splits: list[ScanSplit], settings: dict[str, Any], size_order: SizeOrder, *, force: bool
) -> tuple[Dataset, list[str]]:
    """The data set of the workspace, written if need be, and the key of every picture in the order of the files."""
    existing = read_dataset(workspace) if workspace.dataset_path.exists() else None
    if existing is not None and existing.kind != "scan":
        return existing, _match(existing, splits)
    records = list(_records(splits, size_order))
    new = dataset_info(records, kind="scan", settings=settings)
    if existing is not None:
        same = all(existing.info[name] == new[name] for name in ("images_digest", "captions_digest"))
        if same:
            return existing, [record.id for record in records]
        if not force:
            raise ItmkitError(
                f"{workspace.dataset_path}: was imported from other files (pictures or captions differ);"
                " run `itmkit import-features scan --force` to replace it, or name another workspace with -w"
            )
    info = write_dataset(workspace, records, kind="scan", settings=settings)
    return Dataset(records, info), [record.id for record in records]


def _match(dataset: Dataset, splits: list[ScanSplit]) -> list[str]:
    """The data set's id of every imported picture, found by id, file name, or file name without its ending."""
    known = {image.id: image.id for image in dataset.images}
    for image in dataset.images:
        if image.file is not None:
            known.setdefault(Path(image.file).name, image.id)
            known.setdefault(Path(image.file).stem, image.id)
    keys = [known.get(key) for key in chain.from_iterable(split.ids for split in splits)]
    missing = [
        key for key, image in zip(chain.from_iterable(s.ids for s in splits), keys, strict=True) if image is None
    ]
    wanted = {image.id for image in dataset.images} - set(keys)
    problems = []
    for ids, what in (
        (missing, "imported pictures are not in dataset.jsonl"),
        (sorted(wanted), "pictures of dataset.jsonl are not among the features"),
    ):
        if ids:
            some = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
            problems.append(
                f"{len(ids)} {what} ({some}); import into an empty workspace to take the captions of the folder"
            )
    if problems:
        raise ItmkitError(problems)
    found = [key for key in keys if key is not None]
    if len(set(found)) != len(found):
        raise ItmkitError("several imported pictures are one picture of dataset.jsonl; import into an empty workspace")
    return found


def _write(
    writer: CacheWriter, splits: list[ScanSplit], tag_form: TagForm, size_order: SizeOrder, progress: Progress
) -> None:
    """Writes the shards that are not there yet."""
    firsts = np.cumsum([0, *(len(split) for split in splits)])
    tags = _Tags(splits)
    with progress.task("import-features", int(firsts[-1]), done=writer.done, unit="images") as advance:
        start = writer.done
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                at = start
                for index, (first, last) in enumerate(pairwise(firsts)):
                    while at < min(int(last), start + len(keys)) and at >= first:
                        split = splits[index]
                        step = split.features.rows_per_block
                        stop = min(at + step, int(last), start + len(keys))
                        rows = split.rows[at - first : stop - first]
                        _append(
                            writer,
                            out,
                            keys[at - start : stop - start],
                            split,
                            rows,
                            tags.take(index, rows),
                            tag_form,
                            size_order,
                        )
                        advance(stop - at)
                        at = stop
                start += len(keys)


class _Tags:
    """The tags of ascending rows of one split after the other, read as a stream."""

    def __init__(self, splits: list[ScanSplit]) -> None:
        self._splits = splits
        self._index = -1
        self._stream: Iterator[tuple[int, list[str]]] = iter(())

    def take(self, index: int, rows: np.ndarray) -> list[list[str]] | None:
        path = self._splits[index].tags
        if path is None:
            return None
        if index != self._index:
            self._index, self._stream = index, enumerate(read_tags(path))
        wanted = set(rows.tolist())
        found: list[list[str]] = []
        while len(found) < len(rows):
            row, tags = next(self._stream)
            if row in wanted:
                found.append(tags)
        return found


def _append(
    writer: CacheWriter,
    out: Any,
    keys: Any,
    split: ScanSplit,
    rows: np.ndarray,
    tags: list[list[str]] | None,
    tag_form: TagForm,
    size_order: SizeOrder,
) -> None:
    features = split.features.take(rows)
    n, regions, _ = features.shape
    # Where a picture had fewer regions, such files are filled up with zeros: these are not regions.
    filled = (features != 0).any(axis=2)
    count = np.where(filled.any(axis=1), regions - np.argmax(filled[:, ::-1], axis=1), 0)
    real = np.arange(regions) < count[:, None]
    tag_places, attribute_places = np.full((n, regions), -1, np.int32), np.full((n, regions), -1, np.int16)
    if tags is not None:
        pairs = [split_tag(tag, tag_form) for row in tags for tag in row]
        for place, table, column in ((0, "attributes", attribute_places), (1, "tags", tag_places)):
            flat = np.full(n * regions, -1, column.dtype)
            named = [i for i, pair in enumerate(pairs) if pair[place] and real.flat[i]]
            flat[named] = writer.index(table, [pairs[i][place] for i in named])
            column[:] = flat.reshape(n, regions)
    columns = {
        "features": features,
        "boxes": np.zeros((n, regions, 4), np.float32),
        "count": count.astype(np.int16),
        "tags": tag_places,
        "attributes": attribute_places,
        "scores": np.zeros((n, regions), np.float32),
        "size": np.zeros((n, 2), np.int32),
    }
    for name in ("boxes", "scores"):
        if name in split.arrays:
            values = split.arrays[name].take(rows).astype(np.float32)
            columns[name] = np.where(real[..., None] if name == "boxes" else real, values, 0)
    if "sizes" in split.arrays:
        columns["size"] = read_sizes(split, rows, size_order)
    kept = count > 0
    for key in np.asarray(keys, dtype=object)[~kept]:
        out.skip(str(key), "all features are zero")
    out.append([key for key, keep in zip(keys, kept, strict=True) if keep], {k: v[kept] for k, v in columns.items()})


def split_tag(tag: str, form: TagForm) -> tuple[str, str]:
    """("red", "traffic light") of "red traffic light"; the colour is "" where the tag is one word or a bare class."""
    tag = " ".join(tag.split())
    if form == "class" or " " not in tag:
        return "", tag
    colour, _, name = tag.partition(" ")
    return colour, name

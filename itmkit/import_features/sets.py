"""import-features bottom-up and npz: sets of regions that belong to the pictures of a prepared data set.

The files are read twice. The first pass checks everything and notes where each picture lies, so that all problems are
reported together before anything is written. The second pass writes, a few pictures at a time, in the order of the data
set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from itmkit.cache import CacheWriter, MadeBy
from itmkit.cache.writer import ShardWriter
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.files import digest
from itmkit.import_features.bottom_up_tsv import FeatureType, check_bottom_up
from itmkit.import_features.matching import Matched, match
from itmkit.import_features.npz import check_npz
from itmkit.import_features.region_sets import SCALED, RegionSet
from itmkit.import_features.scan import STAGE
from itmkit.import_features.scan_layout import some
from itmkit.progress import SILENT, Progress
from itmkit.regions.regions import empty_rows, region_columns
from itmkit.regions.vg_vocabulary import read_vocabulary
from itmkit.workspace import Workspace

_GROUP = 16  # pictures read and written together
_NO_FEATURES = "the files hold no features of it"


class Files(Protocol):
    """Checked files: what `bottom_up.BottomUpFiles` and `npz.NpzFiles` have in common."""

    ids: list[str]
    counts: list[int]
    sizes: list[tuple[int, int]]
    dim: int
    digests: dict[str, str]
    shares: bool
    repeated: int
    damaged: list[dict[str, str]]

    @property
    def extras(self) -> tuple[str, ...]: ...
    @property
    def vocabulary(self) -> Mapping[str, list[str]] | None: ...
    def read(self, place: int) -> RegionSet: ...


@dataclass(frozen=True)
class SetsResult:
    """What an import wrote.

    `skipped`: {"id", "reason"} of every picture of the data set that got no row. `left_out`: how many pictures the
    files have that the data set has not. `matched_by`: "id", "file name" or "COCO's number". `repeated`: how many
    records repeat an earlier one byte for byte. `damaged`: {"place", "reason"} of every record left out.
    """

    path: Path
    images: int
    regions: int
    dim: int
    extras: tuple[str, ...]
    matched_by: str
    left_out: int
    skipped: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchanged: bool = False
    repeated: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)


def import_bottom_up(
    workspace: Workspace,
    paths: Sequence[Path],
    *,
    vocabulary: Path | None = None,
    regions: int | None = None,
    dtype: FeatureType = "float32",
    skip_damaged: bool = False,
    shard_size: int = 2000,
    force: bool = False,
    progress: Progress = SILENT,
) -> SetsResult:
    """Imports bottom-up TSV files, plain or LXMERT's (see `itmkit.import_features.bottom_up_tsv`).

    Pictures are found in the data set by id, file name or COCO's number, whichever finds most.

    Args:
        paths: the files of one set, in any order.
        vocabulary: folder with objects_vocab.txt and attributes_vocab.txt. LXMERT's ids are line numbers in these.
        regions: room for this many regions per picture. Default: as many as any picture has.
        dtype: of the numbers in the field `features`; nothing in the files says it.
        skip_damaged: leave out lines that cannot be used, and list them.
        force: make the cache anew if it came from other files.

    Raises:
        ItmkitError: there is no data set, or the files have problems. All of them are reported before anything is
            written.
    """
    dataset = workspace.dataset()
    names = read_vocabulary(vocabulary) if vocabulary is not None else None
    files = check_bottom_up(paths, names, progress, dtype=dtype, skip_damaged=skip_damaged)
    notes = []
    if files.seems_float16:
        notes.append(f"the features may be float16: as float32 they are {files.dim} tiny numbers; see --dtype float16")
    if files.form == "lxmert" and names is None:
        notes.append("ids of objects and attributes are left out: --vocabulary DIR would name them")
    settings = {"layout": files.form, "vocabulary": digest(names) if names is not None else None}
    settings |= {"dtype": dtype} if dtype != "float32" else {}
    places: dict[str, Any] = {"paths": [str(path.resolve()) for path in paths]}
    places |= {"vocabulary": str(vocabulary.resolve())} if vocabulary is not None else {}
    return _write(workspace, dataset, files, settings, places, regions, notes, shard_size, force, progress)


def import_npz(
    workspace: Workspace,
    folder: Path,
    *,
    regions: int | None = None,
    skip_damaged: bool = False,
    shard_size: int = 2000,
    force: bool = False,
    progress: Progress = SILENT,
) -> SetsResult:
    """Imports a folder with one .npz file a picture (see `npz.py` beside this); arguments as `import_bottom_up`."""
    dataset = workspace.dataset()
    files = check_npz(folder, progress, skip_damaged=skip_damaged)
    notes = []
    if files.pickled:
        notes.append(f"'info' of {files.pickled} files is a pickled Python object and was not read: there are no tags")
    places = {"folder": str(folder.resolve())}
    return _write(workspace, dataset, files, {"layout": "npz"}, places, regions, notes, shard_size, force, progress)


def _write(
    workspace: Workspace,
    dataset: Dataset,
    files: Files,
    settings: dict[str, Any],
    places: dict[str, Any],
    regions: int | None,
    notes: list[str],
    shard_size: int,
    force: bool,
    progress: Progress,
) -> SetsResult:
    matched = match(dataset.images, files.ids)
    counts = {key: files.counts[place] for key, place in matched.places.items()}
    most = max(counts.values())
    if most == 0:
        raise ItmkitError("the files hold no box of any picture of the data set")
    if regions is not None and most > regions:
        many = [f"{key!r} ({count})" for key, count in counts.items() if count > regions]
        raise ItmkitError(f"--regions {regions}: too few for {some('picture', many)}; {most} holds them all")
    regions = regions or most
    notes += _other_sizes(dataset, files, matched)
    if files.shares:
        notes.append(SCALED)
        settings["boxes"] = "shares"  # an older version took them for pixels: its caches are not these
    settings |= {"regions": regions, "files_sha256": digest(sorted(files.digests.values()))}
    tables = {"tags": [], "attributes": []} if files.vocabulary is None else dict(files.vocabulary)
    cache_notes: dict[str, Any] = {**places, "files": files.digests}
    cache_notes |= {what: what in files.extras for what in ("boxes", "sizes", "scores", "tags")}
    if files.damaged:
        cache_notes["damaged"] = files.damaged
    with CacheWriter.open(
        workspace.cache("regions"),
        made_by=MadeBy(STAGE, settings, None, workspace.inputs("regions", dataset)),
        columns=region_columns(regions, files.dim),
        keys=[image.id for image in dataset.images],
        tables=tables,
        shard_size=shard_size,
        notes=cache_notes,
        force=force,
    ) as writer:
        unchanged = writer.manifest.complete
        _write_shards(writer, files, matched, regions, progress)
        skipped, images = writer.manifest.skipped, writer.manifest.count
    for note in notes:
        progress.note(note)
    return SetsResult(
        path=writer.folder,
        images=images,
        regions=regions,
        dim=files.dim,
        extras=files.extras,
        matched_by=matched.rule,
        left_out=len(files.ids) - len(matched.places),
        skipped=skipped,
        notes=notes,
        unchanged=unchanged,
        repeated=files.repeated,
        damaged=files.damaged,
    )


def _other_sizes(dataset: Dataset, files: Files, matched: Matched) -> list[str]:
    """Pictures whose features were computed from a turned or resized copy: a note, boxes and sizes still fit."""
    other = [
        image.id
        for image in dataset.images
        if image.id in matched.places
        and image.width is not None
        and (image.width, image.height) != files.sizes[matched.places[image.id]]
    ]
    if not other:
        return []
    return [
        f"{some('picture', [repr(key) for key in other])} with another width or height in the files than in the data"
        " set: the cache takes that of the files, which their boxes refer to"
    ]


def _write_shards(writer: CacheWriter, files: Files, matched: Matched, regions: int, progress: Progress) -> None:
    """Writes the shards that are not there yet."""
    planned = writer.manifest.planned
    with progress.task("import-features", planned, done=writer.done, unit="images") as advance:
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                for start in range(0, len(keys), _GROUP):
                    group = keys[start : start + _GROUP]
                    _write_group(out, group, files, matched, regions)
                    advance(len(group))


def _write_group(out: ShardWriter, keys: Sequence[str], files: Files, matched: Matched, regions: int) -> None:
    kept, found = [], []
    for key in keys:
        place = matched.places.get(key)
        if place is None or files.counts[place] == 0:
            out.skip(key, _NO_FEATURES if place is None else "has no boxes")
            continue
        kept.append(key)
        found.append(files.read(place))
    if kept:
        out.append(kept, set_columns(found, regions, files.dim))


def set_columns(found: Sequence[RegionSet], regions: int, dim: int) -> dict[str, np.ndarray]:
    """The rows of some pictures; places past a picture's last region hold zeros, and -1 for "none"."""
    counts, sizes = [len(one) for one in found], [(one.width, one.height) for one in found]
    columns = empty_rows(counts, sizes, regions, dim, features=np.float16)
    for row, one in enumerate(found):
        for name in ("features", "boxes", "scores", "tags", "attributes"):
            values = getattr(one, name)
            if values is not None:
                columns[name][row, : len(one)] = values
    return columns

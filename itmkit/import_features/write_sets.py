"""From checked sets of regions to `caches/regions`, in the order of the data set, a few pictures at a time."""

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
from itmkit.import_features.box_units import SCALED
from itmkit.import_features.matching import Matched, match
from itmkit.import_features.region_sets import SKIP_DAMAGED, UNKNOWN, RegionSet, in_pixels, wrong_values
from itmkit.import_features.scan import STAGE
from itmkit.import_features.scan_layout import some
from itmkit.progress import Progress
from itmkit.regions.regions import empty_rows, region_columns
from itmkit.workspace import Workspace

_GROUP = 16  # pictures read and written together
_NO_FEATURES = "the files hold no features of it"


class Files(Protocol):
    """Checked files: what `BottomUpFiles`, `PictureFiles` and `ManyPictures` have in common."""

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


def write_sets(
    workspace: Workspace,
    dataset: Dataset,
    files: Files,
    settings: dict[str, Any],
    places: dict[str, Any],
    regions: int | None,
    notes: list[str],
    skip_damaged: bool,
    shard_size: int,
    force: bool,
    progress: Progress,
) -> SetsResult:
    """Writes the cache of the pictures of the data set that the files have.

    Args:
        settings: of the manifest: what decides the content besides the files. places: notes on where these lie.
        regions: room for this many regions a picture; None: as many as any picture has.
        skip_damaged: leave out pictures that boxes do not fit into, where the data set says their sizes, and list them.

    Raises:
        ItmkitError: the files belong to none of the pictures, or hold more regions than there is room for; boxes refer
            to sizes that nobody knows.
    """
    matched = match(dataset.images, files.ids)
    left_out = len(files.ids) - len(matched.places)
    sizes = _sizes(dataset, files, matched, skip_damaged=skip_damaged)
    regions = _room(files, matched, regions)
    notes += _other_sizes(dataset, files, matched)
    if files.shares:
        notes.append(SCALED)
        settings["boxes"] = "shares"  # an older version took them for pixels: its caches are not these
    settings |= {"regions": regions, "files_sha256": digest(sorted(files.digests.values()))}
    with CacheWriter.open(
        workspace.cache("regions"),
        made_by=MadeBy(STAGE, settings, None, workspace.inputs("regions", dataset)),
        columns=region_columns(regions, files.dim),
        keys=[image.id for image in dataset.images],
        tables={"tags": [], "attributes": []} if files.vocabulary is None else dict(files.vocabulary),
        shard_size=shard_size,
        notes=places | _cache_notes(files),
        force=force,
    ) as writer:
        unchanged = writer.manifest.complete
        _write_shards(writer, files, matched, sizes, regions, progress)
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
        left_out=left_out,
        skipped=skipped,
        notes=notes,
        unchanged=unchanged,
        repeated=files.repeated,
        damaged=files.damaged,
    )


def _room(files: Files, matched: Matched, regions: int | None) -> int:
    """How many regions a picture there is room for. Raises ItmkitError where some have more, or none has any."""
    counts = {key: files.counts[place] for key, place in matched.places.items()}
    most = max(counts.values(), default=0)
    if most == 0:
        raise ItmkitError("the files hold no box of any picture of the data set that can be used")
    if regions is not None and most > regions:
        many = [f"{key!r} ({count})" for key, count in counts.items() if count > regions]
        raise ItmkitError(f"--regions {regions}: too few for {some('picture', many)}; {most} holds them all")
    return regions or most


def _cache_notes(files: Files) -> dict[str, Any]:
    """Which optional columns of the cache are filled, and what was left out."""
    notes: dict[str, Any] = {"files": files.digests}
    notes |= {what: what in files.extras for what in ("boxes", "sizes", "scores", "tags")}
    return notes | ({"damaged": files.damaged} if files.damaged else {})


def _sizes(dataset: Dataset, files: Files, matched: Matched, *, skip_damaged: bool) -> dict[str, tuple[int, int]]:
    """{image id: width and height}: those of the files, else those of the data set.

    With `skip_damaged`, pictures that boxes do not fit into are added to the damaged ones and no longer matched.

    Raises:
        ItmkitError: nobody knows a size that boxes refer to, or boxes lie outside pictures of the data set's size.
    """
    sizes: dict[str, tuple[int, int]] = {}
    unsized: list[str] = []
    for image in dataset.images:
        place = matched.places.get(image.id)
        if place is None:
            continue
        if files.sizes[place] != (UNKNOWN, UNKNOWN):
            sizes[image.id] = files.sizes[place]
        elif image.width and image.height:
            sizes[image.id] = (image.width, image.height)
        else:
            unsized.append(repr(image.id))
    if "boxes" not in files.extras:
        return sizes
    if unsized:
        raise ItmkitError(
            f"neither the files nor the data set say how large {some('picture', unsized)} are, which the boxes"
            " refer to; make the data set with `itmkit prepare` and its pictures"
        )
    outside = {} if files.shares else _outside(files, matched, sizes)
    if outside and not skip_damaged:
        raise ItmkitError(
            f"a box beyond the edge of {some('picture', list(map(repr, outside)))}, whose size is that of the data set,"
            " since the files do not say it; were the features computed from other copies of the pictures?"
            f" ({SKIP_DAMAGED})"
        )
    for key, why in outside.items():
        place = matched.places.pop(key)
        files.damaged.append({"place": f"picture {files.ids[place]}", "reason": f"{why}, whose size is the data set's"})
    return sizes


def _outside(files: Files, matched: Matched, sizes: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """{image id: what is wrong} of pictures that boxes do not fit into and whose size the files do not say."""
    found = {}
    for key, place in matched.places.items():
        if files.sizes[place] == (UNKNOWN, UNKNOWN):
            one = files.read(place)
            one.width, one.height = sizes[key]
            if wrong := wrong_values(one):
                found[key] = wrong[0]
    return found


def _other_sizes(dataset: Dataset, files: Files, matched: Matched) -> list[str]:
    """Pictures whose features were computed from a turned or resized copy: a note, boxes and sizes still fit."""
    other = [
        image.id
        for image in dataset.images
        if image.id in matched.places
        and image.width is not None
        and files.sizes[matched.places[image.id]] not in ((image.width, image.height), (UNKNOWN, UNKNOWN))
    ]
    if not other:
        return []
    return [
        f"{some('picture', [repr(key) for key in other])} with another width or height in the files than in the data"
        " set: the cache takes that of the files, which their boxes refer to"
    ]


def _write_shards(
    writer: CacheWriter,
    files: Files,
    matched: Matched,
    sizes: Mapping[str, tuple[int, int]],
    regions: int,
    progress: Progress,
) -> None:
    """Writes the shards that are not there yet."""
    planned, tags = writer.manifest.planned, _tags_of_cache(writer, files)
    with progress.task("import-features", planned, done=writer.done, unit="images") as advance:
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                for start in range(0, len(keys), _GROUP):
                    group = keys[start : start + _GROUP]
                    _write_group(out, group, files, matched, sizes, regions, tags)
                    advance(len(group))


def _tags_of_cache(writer: CacheWriter, files: Files) -> np.ndarray | None:
    """The numbers that the tags of the files have in the cache; None where they are the same.

    VinVL's classes are numbered as they appear. An unfinished cache has them in the order in which the files were named
    when it was begun.
    """
    names = [] if files.vocabulary is None else files.vocabulary["tags"]
    return None if writer.manifest.tables["tags"] == names else writer.index("tags", names)


def _write_group(
    out: ShardWriter,
    keys: Sequence[str],
    files: Files,
    matched: Matched,
    sizes: Mapping[str, tuple[int, int]],
    regions: int,
    tags: np.ndarray | None,
) -> None:
    kept, found = [], []
    for key in keys:
        place = matched.places.get(key)
        if place is None or files.counts[place] == 0:
            out.skip(key, _NO_FEATURES if place is None else "has no boxes")
            continue
        kept.append(key)
        one = files.read(place)
        one.width, one.height = sizes.get(key, (0, 0))
        if tags is not None and one.tags is not None:
            one.tags = np.where(one.tags < 0, -1, tags[one.tags])
        found.append(in_pixels(one) if files.shares else one)
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

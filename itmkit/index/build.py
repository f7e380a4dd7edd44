"""Builds an index of a workspace's images with a trained matcher, and adds to one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from itmkit.cache.manifest import read_manifest
from itmkit.dataset import PICTURES, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.files import digest, sha256_file
from itmkit.index.candidates import candidate_vectors
from itmkit.index.rows import RowFormat, RowType
from itmkit.index.store import IndexFacts, Store, chunk_folder, write_chunk
from itmkit.inputs.images import ImageInputs
from itmkit.matchers import Encoded, as_matcher
from itmkit.progress import SILENT, Progress
from itmkit.runs.made import made_otherwise
from itmkit.stages import require
from itmkit.trained import Matcher
from itmkit.workspace import Workspace

T = TypeVar("T")
CHUNK = 10_000  # images of a chunk: the most that a kill loses
TILE = 32  # images encoded together


@dataclass(frozen=True)
class IndexResult:
    """What `build_index` did. images: in the index now; encoded: by this call; removed: no longer in it."""

    path: Path
    images: int
    encoded: int
    removed: int
    left_out: int
    bytes_an_image: int


def made_from(workspace: Workspace, matcher: Matcher) -> dict[str, str]:
    """Digests of the run's weights and of how the caches of images were made (not of which images are in them)."""
    found = {
        f"weights of {member}": sha256_file(matcher.folder / f"best-{member}.safetensors") for member in matcher.members
    }
    for cache in matcher.needs.image_caches:
        manifest = read_manifest(workspace.cache(cache))
        assert manifest is not None  # `require` has seen it
        made = asdict(manifest.made_by)
        found[cache] = digest({key: made[key] for key in ("stage", "settings", "model")})
    return found


def build_index(
    workspace: Workspace,
    matcher: Matcher,
    *,
    folder: Path | None = None,
    rows: RowType = "float16",
    add: bool = False,
    force: bool = False,
    chunk: int = CHUNK,
    progress: Progress = SILENT,
) -> IndexResult:
    """Writes `index/` in the workspace: the images of its caches, encoded by a matcher.

    A first index is built beside its place and renamed when it is whole; a killed run continues at its last chunk.

    Args:
        matcher: a run of this workspace, or of another one whose features were made in the same way.
        rows: how numbers are stored. float16 halves the space of float32 and rounds scores by about a thousandth; int8
            halves it again.
        add: only images that the index lacks, or whose pictures changed, are encoded; images that the data set lost
            are no longer found.
        force: an index that is there is replaced.

    Raises:
        ItmkitError: caches are missing or stale, features were made otherwise than those of training, or there is an
            index already (and neither `add` nor `force`), or one of another run.
    """
    folder = folder or workspace.root / "index"
    dataset = workspace.dataset()
    require(workspace, *matcher.needs.image_caches, dataset=dataset)
    _check_made(workspace, matcher)
    from_ = made_from(workspace, matcher)
    # Pictures that `prepare images --add` did not find any more have rows in caches, and no file.
    images = [image for image in dataset.images if image.file or dataset.kind != PICTURES]
    inputs = ImageInputs(workspace, images, matcher.needs)
    wanted = {image.id: image.sha256 or "" for image in inputs.images}
    left_out = len(images) - len(inputs.images)
    place = {image.id: number for number, image in enumerate(inputs.images)}
    if (folder / "manifest.json").is_file() and not force:
        store = Store(folder)
        if store.facts.made_from != from_ or store.facts.rows != rows:
            raise ItmkitError(
                f"{folder}: was made with other weights, features or rows than asked for now; --force makes it anew"
            )
        known = {image: (k, sha) for k, (image, sha) in enumerate(store.images) if not store.dead[k]}
        gone = [k for image, (k, sha) in known.items() if wanted.get(image) != sha]
        new = [image for image, sha in wanted.items() if image not in known or known[image][1] != sha]
        if (new or gone) and not add:
            raise ItmkitError(
                f"{folder}: {len(new)} images are not in it and {len(gone)} of its images are gone or changed; --add"
                " brings it up to date, --force makes it anew"
            )
        facts = store.without(gone)
        for number, some in enumerate(_cut(new, chunk), len(facts.chunks)):
            _encode_chunk(folder, number, matcher, inputs, [place[image] for image in some], rows, progress)
            facts = replace(facts, chunks=[*facts.chunks, len(some)])
        if new or gone:
            facts.write(folder)
        return IndexResult(folder, len(wanted), len(new), len(gone), left_out, store.format.bytes)
    return _first(folder, matcher, inputs, from_, rows, chunk, left_out, progress)


def _first(
    folder: Path,
    matcher: Matcher,
    inputs: ImageInputs,
    from_: dict[str, str],
    rows: RowType,
    chunk: int,
    left_out: int,
    progress: Progress,
) -> IndexResult:
    partial = folder.with_name(f".{folder.name}.partial")
    encoded = _encode(matcher, inputs, np.arange(min(1, len(inputs.images))))
    layout = RowFormat.of(encoded, rows)
    size = candidate_vectors(encoded, matcher.weights).shape[1]
    facts = IndexFacts(str(matcher.folder), matcher.method, from_, rows, size, layout.to_json())
    facts = replace(facts, chunks=[len(some) for some in _cut(inputs.images, chunk)])
    begun = (partial / "manifest.json").is_file() and IndexFacts.read(partial) == facts
    if not begun:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        facts.write(partial)
    done = 0
    for number, some in enumerate(_cut(range(len(inputs.images)), chunk)):
        images = [(inputs.images[k].id, inputs.images[k].sha256 or "") for k in some]
        if not (begun and _has(partial, number, images)):
            _encode_chunk(partial, number, matcher, inputs, list(some), rows, progress)
            done += len(some)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return IndexResult(folder, len(inputs.images), done, 0, left_out, layout.bytes)


def _has(index: Path, number: int, images: Sequence[tuple[str, str]]) -> bool:
    """Whether an interrupted run finished this chunk, of these very images."""
    from itmkit.files import read_json

    path = chunk_folder(index, number) / "ids.json"
    return path.is_file() and read_json(path) == [list(image) for image in images]


def _encode_chunk(
    index: Path,
    number: int,
    matcher: Matcher,
    inputs: ImageInputs,
    places: Sequence[int],
    rows: RowType,
    progress: Progress,
) -> None:
    images: list[ImageRecord] = [inputs.images[place] for place in places]
    vectors, packed = [], []
    with progress.task(f"index: chunk {number + 1}", len(places), unit="images") as advance:
        for start in range(0, len(places), TILE):
            encoded = _encode(matcher, inputs, np.asarray(places[start : start + TILE]))
            vectors.append(candidate_vectors(encoded, matcher.weights))
            packed.append(RowFormat.of(encoded, rows).pack(encoded))
            advance(len(vectors[-1]))
    keys = [(image.id, image.sha256 or "") for image in images]
    write_chunk(index, number, keys, np.concatenate(vectors), np.concatenate(packed))


def _encode(matcher: Matcher, inputs: ImageInputs, places: np.ndarray) -> dict[str, Encoded]:
    batch = inputs.batch(places).to(matcher.device)
    with torch.inference_mode():
        return {name: as_matcher(network).encode_images(batch) for name, network in matcher.members.items()}


def _cut(things: Sequence[T], size: int) -> list[Sequence[T]]:
    return [things[start : start + size] for start in range(0, len(things), size)]


def _check_made(workspace: Workspace, matcher: Matcher) -> None:
    """Raises ItmkitError where the caches were made otherwise than those the run was trained on."""
    problems = []
    for cache in matcher.needs.image_caches:
        here, training = read_manifest(workspace.cache(cache)), matcher.made.manifest(cache)
        assert here is not None
        for line in made_otherwise(training, here):
            problems.append(f"{workspace.cache(cache)}: made otherwise than in training: {line}")
    if problems:
        raise ItmkitError(problems)

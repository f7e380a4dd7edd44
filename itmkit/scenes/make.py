"""Makes the scenes data set: groups of sibling pictures with captions, and the truth about both.

Every group is drawn from generators seeded with (seed, stream, split, group, attempt, ...), so that a split does not
depend on the size of the others, and a run that was killed makes the same files when it is started again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from itmkit.dataset import SPLITS, Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.files import atomic_path, remove_folder, write_text
from itmkit.progress import SILENT, Progress
from itmkit.scenes.grammar import SceneCaption, captions
from itmkit.scenes.render import Rendering, render
from itmkit.scenes.siblings import swap_colours, swap_relation
from itmkit.scenes.trees import block_of
from itmkit.scenes.world import NoRoom, Scene, changed_by_swap, sample_scene, swappable_pairs
from itmkit.workspace import Workspace

LIMIT = 100_000  # pictures a split: ids are scene-0xxxxx (train), scene-1xxxxx (val), scene-2xxxxx (test)
QUALITY = 92  # JPEG, without chroma subsampling, which would smear the colours of small objects
_NEW = ".scenes.new"  # in it wait pictures whose names those of another data set still have
_LAYOUT, _DRAWING, _ORDER = 1, 2, 3  # streams: second number of a generator's seed


@dataclass(frozen=True)
class ScenePicture:
    """A scene of a group with its captions. `sibling`: how it differs from the group's "base" scene."""

    scene: Scene
    sibling: str
    captions: tuple[SceneCaption, ...]
    group: int
    attempt: int
    member: int


def make_scenes(
    workspace: Workspace,
    *,
    train: int = 1000,
    val: int = 200,
    test: int = 300,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Makes a data set of pictures with simple objects, five captions each, and writes it to the workspace.

    In val and test every picture has at least two siblings: the same kinds and colours, but two objects have exchanged
    colours, or places, or both; four of its five captions are false of every sibling. In train most pictures have some.

    Writes images/scene-NNNNNN.jpg, scenes/truth.jsonl, scenes/trees.conllu and then the data set (kind "scenes").

    Args:
        train, val, test: pictures per split, 0 to 100,000.
        seed: the same seed and counts give the same files, byte for byte (with the same version of Pillow).

    Returns:
        What `write_dataset` returns: the contents of dataset.info.json.

    Raises:
        ItmkitError: for impossible counts or seeds, all named at once.
    """
    counts = {"train": train, "val": val, "test": test}
    _check(counts, seed)
    records: list[ImageRecord] = []
    truths: list[str] = []
    trees: list[str] = []
    remove_folder(workspace.root / _NEW)  # of a run that was killed
    with progress.task("making scenes", total=sum(counts.values()), unit="images") as advance:
        for split, count in counts.items():
            order = np.random.default_rng([seed, _ORDER, SPLITS.index(split)]).permutation(count)
            made: dict[int, tuple[ImageRecord, str, str]] = {}
            for k, picture in enumerate(split_pictures(split, count, seed)):
                number = int(order[k])
                made[number] = _write(workspace, split, number, picture, seed)
                advance()
            for number in range(count):
                record, truth, blocks = made[number]
                records.append(record)
                truths.append(truth)
                trees.append(blocks)
    _flush(workspace, records)
    _take_places(workspace)
    write_text(workspace.root / "scenes" / "truth.jsonl", "".join(truths))
    write_text(workspace.root / "scenes" / "trees.conllu", "".join(trees))
    return write_dataset(workspace.dataset_path, records, kind="scenes", settings={**counts, "seed": seed})


def _check(counts: dict[str, int], seed: int) -> None:
    problems = [
        f"--{split} {count}: must be between 0 and {LIMIT:,}"
        for split, count in counts.items()
        if not 0 <= count <= LIMIT
    ]
    if not any(counts.values()):
        problems.append("--train, --val and --test are all 0: there is nothing to make")
    if not 0 <= seed < 2**32:
        problems.append(f"--seed {seed}: must be between 0 and {2**32 - 1}")
    if problems:
        raise ItmkitError(problems)


def split_pictures(split: str, count: int, seed: int) -> Iterator[ScenePicture]:
    """The `count` pictures of a split, group by group, not yet drawn."""
    group, left = 0, count
    while left > 0:
        size = _group_size(split, group, left, seed)
        yield from _group(split, group, size, seed)
        group += 1
        left -= size


def _group_size(split: str, group: int, left: int, seed: int) -> int:
    chance = np.random.default_rng([seed, _ORDER, SPLITS.index(split), group, 1]).random()
    if split == "train":
        size = 1 if chance < 0.08 else 2 if chance < 0.2 else 3 if chance < 0.65 else 4
        return min(size, left)
    size = 3 if chance < 0.6 else 4
    # The last groups are chosen so that none is left with fewer than three pictures.
    return {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 3}.get(left, size)


def _group(split: str, group: int, size: int, seed: int) -> list[ScenePicture]:
    """A group of `size` siblings with captions; drawn again where there is no room for a sibling, or no words."""
    attempt = 0
    while True:
        rng = np.random.default_rng([seed, _LAYOUT, SPLITS.index(split), group, attempt])
        try:
            scenes, focus = _siblings(size, rng)
            result = []
            for member, (name, scene) in enumerate(scenes):
                others = [other for k, (_, other) in enumerate(scenes) if k != member]
                said = tuple(captions(scene, others, rng, focus))
                result.append(ScenePicture(scene, name, said, group, attempt, member))
            return result
        except NoRoom:
            attempt += 1


def _siblings(size: int, rng: np.random.Generator) -> tuple[list[tuple[str, Scene]], tuple[int, int]]:
    """`size` (1 to 5) scenes, each with how it differs from the first, and the two objects that differ."""
    base = sample_scene(rng)
    pairs = swappable_pairs(base)
    focus = pairs[int(rng.integers(len(pairs)))]
    kinds = ["colours", "relation"]
    if size == 2:
        kinds = [kinds[int(rng.integers(2))]]
    extra = ["both", "other"] if rng.random() < 0.6 else ["other", "both"]
    scenes = [("base", base)]
    for kind in (kinds + extra)[: size - 1]:
        if kind == "colours":
            scenes.append((kind, swap_colours(base, rng, focus)))
        elif kind == "relation":
            scenes.append((kind, swap_relation(base, rng, focus)))
        elif kind == "both":
            scenes.append((kind, swap_relation(swap_colours(base, rng, focus), rng, focus)))
        else:
            scenes.append((kind, swap_colours(base, rng, _other_pair(base, focus, rng))))
    return scenes, focus


def _other_pair(scene: Scene, focus: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """One of the two objects in focus and a third, of other kind and colour."""
    options = [
        (min(i, k), max(i, k))
        for i in focus
        for k in range(len(scene.objects))
        if k not in focus
        and scene.objects[i].kind != scene.objects[k].kind
        and scene.objects[i].colour != scene.objects[k].colour
        and changed_by_swap(scene, i, k)
    ]
    if not options:
        raise NoRoom
    return options[int(rng.integers(len(options)))]


def draw(picture: ScenePicture, split: str, seed: int) -> Rendering:
    """The picture as `make_scenes` draws it."""
    return render(
        picture.scene,
        np.random.default_rng([seed, _DRAWING, SPLITS.index(split), picture.group, picture.attempt, picture.member]),
    )


def _write(
    workspace: Workspace, split: str, number: int, picture: ScenePicture, seed: int
) -> tuple[ImageRecord, str, str]:
    """Writes one picture; returns its record, its line of truth.jsonl and its blocks of trees.conllu."""
    drawn = draw(picture, split, seed)
    image_id = f"scene-{SPLITS.index(split) * LIMIT + number:06d}"
    file = f"images/{image_id}.jpg"
    data = _jpeg(drawn.image)
    _put(workspace, file, data)
    said = [Caption(f"{image_id}#{k}", caption.text) for k, caption in enumerate(picture.captions)]
    things = picture.scene.objects
    record = ImageRecord(
        id=image_id,
        split=split,
        captions=tuple(said),
        file=file,
        labels=tuple(sorted({thing.kind for thing in things})),
        width=drawn.image.width,
        height=drawn.image.height,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    truth = {
        "id": image_id,
        "group": f"{split}-{picture.group:05d}",
        "sibling": picture.sibling,
        "boxes": drawn.boxes.tolist(),
        "tags": [thing.kind for thing in things],
        "attributes": [[thing.colour, thing.size, thing.pattern] for thing in things],
        "depth": [thing.depth for thing in things],
        "visible": [round(float(v), 3) for v in drawn.visible],
        "captions": [
            {"id": caption.id, **source.claims.to_json()}
            for caption, source in zip(said, picture.captions, strict=True)
        ],
    }
    blocks = "".join(block_of(source.words, caption.id) for caption, source in zip(said, picture.captions, strict=True))
    return record, json.dumps(truth, ensure_ascii=False) + "\n", blocks


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def _put(workspace: Workspace, file: str, data: bytes) -> None:
    """Writes a picture, unless it is there already. It is not flushed to the disk yet (see `_flush`)."""
    path = workspace.root / file
    if path.exists():
        if path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        path = workspace.root / _NEW / file  # a picture of another data set stays until all of this one are drawn
    with atomic_path(path, flush=False) as partial:
        partial.write_bytes(data)


def _flush(workspace: Workspace, records: list[ImageRecord]) -> None:
    """Flushes all pictures to the disk before the data set that names them appears.

    All at the end, as the first flush takes most of the others with it: one by one, they took as long as the drawing.
    """
    for record in records:
        new = workspace.root / _NEW / str(record.file)
        with open(new if new.exists() else workspace.root / str(record.file), "rb+") as handle:
            os.fsync(handle.fileno())


def _take_places(workspace: Workspace) -> None:
    """Moves the pictures that have waited in `_NEW`. Until the new data set is written, the workspace has none."""
    waiting = sorted((workspace.root / _NEW / "images").glob("*"))
    if waiting:
        workspace.dataset_path.unlink(missing_ok=True)
        workspace.dataset_info_path.unlink(missing_ok=True)
    for picture in waiting:
        picture.replace(workspace.root / "images" / picture.name)
    remove_folder(workspace.root / _NEW)

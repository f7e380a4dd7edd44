"""A workspace that a matcher learns in a second: drawn feature vectors, captions that name what they stand for."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np

from itmkit.cache import CacheWriter, Column, MadeBy, text_key
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.graphs import build_graphs
from itmkit.inputs import Needs
from itmkit.workspace import Workspace

REGIONS, FEATURES = 4, 8
THINGS = ("dog", "cat", "car", "tree", "ball", "boat", "bird", "horse")
REGION_COLUMNS = {
    "features": Column("float16", (REGIONS, FEATURES)),
    "boxes": Column("float32", (REGIONS, 4)),
    "count": Column("int16"),
    "size": Column("int32", (2,)),
}
TEXT_COLUMNS = {"words": Column("int32", kind="ragged"), "heads": Column("int32", kind="ragged")}

GRAPHS = Needs(edges=True, polar=True)

# Settings with which a run takes well under a second.
FAST = {
    "mpsm": {"embed": 8, "word": 6, "similarity": 4, "kgid_layers": 2, "kernels": 2},
    "vsepp": {"embed": 8, "word": 6},
}
FAST_TRAINING = {"epochs": 3, "batch_size": 8, "minimum_count": 1, "learning_rate": 0.01, "warmup_epochs": 1}


def pairs_of_things(count: int) -> list[tuple[int, int]]:
    """`count` (at most 28) pairs of different things, no two alike."""
    every = [(a, b) for a in range(len(THINGS)) for b in range(a + 1, len(THINGS))]
    order = np.random.default_rng(0).permutation(len(every))
    return [every[k] for k in order[:count]]


def captions_of(pair: tuple[int, int]) -> list[str]:
    a, b = (THINGS[k] for k in pair)
    return [f"a {a} left of a {b}", f"the {b} and the {a} there"]


def make_workspace(
    root: Path, *, train: int = 12, val: int = 6, test: int = 6, repeat: bool = False, skipped: tuple[str, ...] = ()
) -> Workspace:
    """Two captions an image; regions are noisy vectors of its two things, caches and graphs complete.

    Args:
        repeat: val has the same things, features and captions as train.
        skipped: ids of images without a row in the region cache.
    """
    workspace, random = Workspace(root), np.random.default_rng(1)
    vectors = random.normal(size=(len(THINGS), FEATURES))
    pairs = pairs_of_things(train + val + test)
    records, features = [], {}
    for number in range(train + val + test):
        split = "train" if number < train else "val" if number < train + val else "test"
        copied = repeat and split == "val"
        name = f"image{number:02d}"
        pair = pairs[number - train] if copied else pairs[number]
        noise = random.normal(size=(REGIONS, FEATURES)) * 0.1
        features[name] = vectors[[pair[0], pair[1], pair[0], pair[1]]] + noise
        if copied:
            features[name] = features[f"image{number - train:02d}"]
        captions = tuple(Caption(f"{name}#{k}", text) for k, text in enumerate(captions_of(pair)))
        records.append(ImageRecord(id=name, split=split, captions=captions))
    write_dataset(workspace, records, kind="made", settings={})
    _write_regions(workspace, features, skipped)
    _write_text(workspace)
    build_graphs(workspace)
    return workspace


def _write_regions(workspace: Workspace, features: dict[str, np.ndarray], skipped: tuple[str, ...]) -> None:
    made_by = MadeBy("extract-regions", {}, None, workspace.inputs("regions", workspace.dataset()))
    with CacheWriter.open(
        workspace.cache("regions"), made_by=made_by, columns=REGION_COLUMNS, keys=list(features), shard_size=7
    ) as writer:
        for shard, keys in writer.pending():
            with writer.shard(shard) as out:
                for key in keys:
                    if key in skipped:
                        out.skip(key, "truncated")
                        continue
                    random = np.random.default_rng(crc32(features[key].tobytes()))  # equal features lie alike
                    count = int(random.integers(2, REGIONS + 1))
                    low = random.uniform(0, 50, (REGIONS, 2))
                    boxes = np.concatenate([low, low + 20], axis=1)
                    real = np.arange(REGIONS) < count
                    row = {"features": features[key] * real[:, None], "boxes": boxes * real[:, None]}
                    rest = {"count": np.array([count]), "size": np.array([[100, 80]])}
                    out.append([key], {name: value[None] for name, value in row.items()} | rest)


def _write_text(workspace: Workspace) -> None:
    """Each word depends on the one before it."""
    texts = list(dict.fromkeys(c.text for image in workspace.dataset().images for c in image.captions))
    made_by = MadeBy("parse-text", {}, None, workspace.inputs("text", workspace.dataset()))
    with CacheWriter.open(
        workspace.cache("text"), made_by=made_by, columns=TEXT_COLUMNS, keys=[text_key(text) for text in texts]
    ) as writer:
        for shard, keys in writer.pending():
            with writer.shard(shard) as out:
                for key, text in zip(keys, texts, strict=True):
                    words = text.split()
                    heads = np.maximum(np.arange(len(words)) - 1, 0)
                    out.append(
                        [key], {"words": writer.index("words", words), "heads": heads}, lengths=np.array([len(words)])
                    )

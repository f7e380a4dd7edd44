"""A workspace that a matcher learns in a second: drawn feature vectors, captions that name what they stand for."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, text_key
from itmkit.cache.tag_phrases import TagPhrases
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.encode_text.encode import text_columns
from itmkit.graphs import build_graphs
from itmkit.inputs import Needs
from itmkit.regions.patches import patch_columns
from itmkit.workspace import Workspace

REGIONS, FEATURES, WORD_VECTOR = 4, 8, 6
THINGS = ("dog", "cat", "car", "tree", "ball", "boat", "bird", "horse")
REGION_COLUMNS = {
    "features": Column("float16", (REGIONS, FEATURES)),
    "boxes": Column("float32", (REGIONS, 4)),
    "count": Column("int16"),
    "size": Column("int32", (2,)),
}
TAG_COLUMNS = {"tags": Column("int32", (REGIONS,)), "attributes": Column("int16", (REGIONS,))}
COLOURS = ("red", "blue")
CORNERS = np.array([[0, 0, 50, 50], [50, 0, 100, 50], [0, 50, 50, 100], [50, 50, 100, 100]], np.float32)  # patches
TEXT_COLUMNS = {"words": Column("int32", kind="ragged"), "heads": Column("int32", kind="ragged")}

GRAPHS = Needs(edges=True, polar=True)

# Settings with which a run takes well under a second.
FAST = {
    "mpsm": {"embed": 8, "word": 6, "similarity": 4, "kgid_layers": 2, "kernels": 2},
    "glfn": {"embed": 8, "word": 6, "position": 4},
    "pfan": {"embed": 8, "word": 6, "position": 4},
    "scan": {"embed": 8, "word": 6},
    "sgraf": {"embed": 8, "word": 6, "similarity": 4},
    "mefn": {"embed": 8, "word": 6},
    "cmfg": {"embed": 8, "query": 4, "images": "regions"},
    "vsepp": {"embed": 8, "word": 6},
    "vseinf": {"embed": 8, "word": 6},
    "chan": {"embed": 8, "word": 6, "heads": 2},
    "rcar": {"embed": 8, "word": 6, "similarity": 4},
    "laps": {"embed": 8, "word": 6, "images": "regions", "words": "gru"},
    "scl": {"embed": 8, "width": 8, "layers": 1, "heads": 2, "text_epochs": 1, "image_epochs": 1},
    "dual": {},
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
    root: Path,
    *,
    train: int = 12,
    val: int = 6,
    test: int = 6,
    skipped: tuple[str, ...] = (),
    tags: bool = False,
    words: bool = False,
    vectors: bool = False,
    patches: str = "",
) -> Workspace:
    """Two captions an image; regions are noisy vectors of its two things, caches and graphs complete.

    Args:
        skipped: ids of images without a row in the region cache.
        tags: regions are named, and have colours.
        words: caches/words-tiny, frozen vectors of words and captions (and of tag phrases, where there are tags).
        vectors: caches/vectors-tiny, a pooled vector of each image and of each caption.
        patches: name of a cache of patches.
    """
    workspace, random = Workspace(root), np.random.default_rng(1)
    of_things = random.normal(size=(len(THINGS), FEATURES))
    pairs = pairs_of_things(train + val + test)
    records, features, pair_of = [], {}, {}
    for number in range(train + val + test):
        split = "train" if number < train else "val" if number < train + val else "test"
        name = f"image{number:02d}"
        pair = pairs[number]
        pair_of[name] = pair
        noise = random.normal(size=(REGIONS, FEATURES)) * 0.1
        features[name] = of_things[[pair[0], pair[1], pair[0], pair[1]]] + noise
        captions = tuple(Caption(f"{name}#{k}", text) for k, text in enumerate(captions_of(pair)))
        records.append(ImageRecord(id=name, split=split, captions=captions))
    write_dataset(workspace.dataset_path, records, kind="made", settings={})
    _write_regions(workspace, features, skipped, pair_of if tags else None)
    _write_text(workspace)
    build_graphs(workspace)
    if words:
        _write_words(workspace, tags=tags)
    if vectors:
        _write_vectors(workspace, pair_of, of_things)
    if patches:
        _write_patches(workspace, patches, features)
    return workspace


def _write_regions(
    workspace: Workspace,
    features: dict[str, np.ndarray],
    skipped: tuple[str, ...],
    named: dict[str, tuple[int, int]] | None,
) -> None:
    """named: the two things of each image, of which its regions are to carry the names; None for no names."""
    made_by = MadeBy("extract-regions", {}, None, workspace.inputs("regions", workspace.dataset()))
    columns = REGION_COLUMNS | (TAG_COLUMNS if named else {})
    tables = {"tags": list(THINGS), "attributes": list(COLOURS)} if named else {}
    with CacheWriter.open(
        workspace.cache("regions"),
        made_by=made_by,
        columns=columns,
        keys=list(features),
        tables=tables,
        shard_size=15,
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
                    if named:
                        a, b = named[key]
                        row["tags"] = np.where(real, [a, b, a, b], -1)
                        row["attributes"] = np.where(real, [0, 1, -1, 0], -1)
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


def _write_words(workspace: Workspace, *, tags: bool) -> None:
    """The vector of a word follows from the word alone; that of a phrase or a caption is the mean of its words."""

    def vector(word: str) -> np.ndarray:
        return np.random.default_rng(crc32(word.encode())).normal(size=WORD_VECTOR)

    texts = list(dict.fromkeys(c.text for image in workspace.dataset().images for c in image.captions))
    phrases = TagPhrases.of(CacheReader.open(workspace.cache("regions"))).phrases if tags else []
    for side, keyed, column in (
        ("texts", texts, text_columns(WORD_VECTOR)),
        ("tags", phrases, {"vector": Column("float16", (WORD_VECTOR,))}),
    ):
        if not keyed:
            continue
        name = f"words-tiny/{side}"
        made_by = MadeBy("encode-text", {}, None, workspace.inputs(name, workspace.dataset()))
        keys = [text_key(text) for text in keyed]
        with CacheWriter.open(workspace.cache(name), made_by=made_by, columns=column, keys=keys) as writer:
            for shard, pending in writer.pending():
                with writer.shard(shard) as out:
                    for key, text in zip(pending, keyed, strict=True):
                        found = np.stack([vector(word) for word in text.split()])
                        if side == "texts":
                            rows = {"vectors": found, "sentence": found.mean(axis=0)[None]}
                            out.append([key], rows, lengths=np.array([len(found)]))
                        else:
                            out.append([key], {"vector": found.mean(axis=0)[None]})


def _write_patches(workspace: Workspace, name: str, features: dict[str, np.ndarray]) -> None:
    """The patches of a picture are its features, and [CLS] is their mean."""
    made_by = MadeBy("extract-patches", {}, None, workspace.inputs(name, workspace.dataset()))
    columns, count = patch_columns(REGIONS, FEATURES, attention=True), len(features)
    with CacheWriter.open(workspace.cache(name), made_by=made_by, columns=columns, keys=list(features)) as writer:
        for shard, keys in writer.pending():
            with writer.shard(shard) as out:
                found = np.stack([features[key] for key in keys])
                rows = {"features": found, "cls": found.mean(axis=1), "count": np.full(count, REGIONS)}
                rows |= {"boxes": np.tile(CORNERS, (count, 1, 1)), "attention": np.full((count, REGIONS), 1 / REGIONS)}
                out.append(keys, rows | {"size": np.full((count, 2), 100)})


def _write_vectors(workspace: Workspace, pair_of: dict[str, tuple[int, int]], of_things: np.ndarray) -> None:
    """A picture is the sum of its things, a caption that of the things it names, in the same space, with noise."""
    random, records = np.random.default_rng(2), workspace.dataset().images
    texts = {text_key(c.text): c.text.split() for image in records for c in image.captions}
    named = {key: [THINGS.index(word) for word in words if word in THINGS] for key, words in texts.items()}
    for side, things in (("images", {key: list(pair) for key, pair in pair_of.items()}), ("texts", named)):
        name = f"vectors-tiny/{side}"
        made_by = MadeBy("embed", {}, None, workspace.inputs(name, workspace.dataset()))
        columns = {"vector": Column("float32", (FEATURES,))}
        with CacheWriter.open(workspace.cache(name), made_by=made_by, columns=columns, keys=list(things)) as writer:
            for shard, keys in writer.pending():
                with writer.shard(shard) as out:
                    noise = random.normal(size=(len(keys), FEATURES)) * 0.3
                    found = np.stack([of_things[things[key]].sum(axis=0) for key in keys])
                    out.append(keys, {"vector": found + noise})

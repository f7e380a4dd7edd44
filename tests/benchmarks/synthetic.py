"""A workspace of random features and captions, of any size, for benchmarks of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itmkit.cache import CacheWriter, Column, MadeBy, text_key
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.graphs import build_graphs
from itmkit.workspace import Workspace

REGIONS, WORDS, CAPTIONS = 36, 1000, 5


def synthetic_workspace(root: Path, *, train: int, val: int = 50, feature: int = 2048) -> Workspace:
    """`train` and `val` images of 36 regions with 5 captions each of 6 to 18 words, 12 on average; all caches."""
    workspace, random = Workspace(root), np.random.default_rng(0)
    records = []
    for number in range(train + val):
        lengths = random.integers(6, 19, CAPTIONS)
        texts = [" ".join(f"w{k}" for k in random.integers(0, WORDS, length)) for length in lengths]
        captions = tuple(Caption(f"{number}#{k}", text) for k, text in enumerate(texts))
        records.append(ImageRecord(id=f"{number:07d}", split="train" if number < train else "val", captions=captions))
    write_dataset(workspace.dataset_path, records, kind="synthetic", settings={})
    _write_regions(workspace, [record.id for record in records], feature)
    _write_text(workspace, [caption.text for record in records for caption in record.captions])
    build_graphs(workspace)
    return workspace


def _write_regions(workspace: Workspace, ids: list[str], feature: int) -> None:
    columns = {
        "features": Column("float16", (REGIONS, feature)),
        "boxes": Column("float32", (REGIONS, 4)),
        "count": Column("int16"),
        "size": Column("int32", (2,)),
    }
    made_by = MadeBy("extract-regions", {}, None, workspace.inputs("regions", workspace.dataset()))
    random = np.random.default_rng(1)
    with CacheWriter.open(
        workspace.cache("regions"), made_by=made_by, columns=columns, keys=ids, shard_size=500
    ) as writer:
        for shard, keys in writer.pending():
            with writer.shard(shard) as out:
                for start in range(0, len(keys), 50):
                    some = keys[start : start + 50]
                    features = np.maximum(random.standard_normal((len(some), REGIONS, feature), np.float32), 0)
                    corner = random.uniform(0, 50, (len(some), REGIONS, 2))
                    boxes = np.concatenate([corner, corner + random.uniform(5, 50, corner.shape)], axis=2)
                    sizes, counts = np.full((len(some), 2), 100), np.full(len(some), REGIONS)
                    out.append(some, {"features": features, "boxes": boxes, "count": counts, "size": sizes})


def _write_text(workspace: Workspace, texts: list[str]) -> None:
    """Each word depends on the one before it."""
    columns = {name: Column("int32", kind="ragged") for name in ("words", "heads")}
    made_by = MadeBy("parse-text", {}, None, workspace.inputs("text", workspace.dataset()))
    by_key = {text_key(text): text.split() for text in texts}
    with CacheWriter.open(
        workspace.cache("text"), made_by=made_by, columns=columns, keys=list(by_key), shard_size=20_000
    ) as writer:
        for shard, keys in writer.pending():
            with writer.shard(shard) as out:
                words = [by_key[key] for key in keys]
                lengths = np.array([len(each) for each in words])
                heads = np.concatenate([np.maximum(np.arange(length) - 1, 0) for length in lengths])
                flat = writer.index("words", [word for each in words for word in each])
                out.append(keys, {"words": flat, "heads": heads}, lengths=lengths)

"""Small workspaces made by hand: pictures, a data set, a region cache, a text cache, graphs, a run."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from itmkit.cache import CacheWriter, Column, MadeBy, text_key
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.files import write_json, write_text
from itmkit.pictures.facts import picture_facts
from itmkit.workspace import Workspace

TOKENS = {name: Column(dtype, kind="ragged") for name, dtype in
          {"words": "int32", "pos": "int16", "heads": "int32", "relations": "int16"}.items()}  # fmt: skip
TEXT = "two dogs run"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes; Python ignores the signal, so that the write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def close(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nobody may look into the folder any more; root may, whatever the permissions are."""
    whole = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)


def save_picture(path: Path, size: tuple[int, int] = (30, 20), colour: int = 0, orientation: int = 1) -> Path:
    """A picture of one grey; different `colour` (0 to 255), different bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (colour, colour, colour))
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(path, exif=exif) if orientation != 1 else image.save(path)
    return path


def make_dataset(root: Path, count: int = 3, *, text: str = TEXT, kind: str = "made") -> Workspace:
    """`count` images in train and one each in val and test; every image has the captions `text` and its own."""
    workspace = Workspace(root)
    records = []
    for number in range(count + 2):
        file = save_picture(root / "images" / f"{number}.png", colour=number)
        facts = picture_facts(file)
        records.append(
            ImageRecord(
                id=str(number),
                split="train" if number < count else "val" if number == count else "test",
                captions=(Caption(f"{number}#0", text), Caption(f"{number}#1", f"picture {number}")),
                file=f"images/{number}.png",
                width=facts.width,
                height=facts.height,
                bytes=facts.bytes,
                sha256=facts.sha256,
            )
        )
    write_dataset(workspace.dataset_path, records, kind=kind, settings={})
    return workspace


def made_by(workspace: Workspace, cache: str, stage: str) -> MadeBy:
    return MadeBy(stage, {"width": 8}, None, workspace.inputs(cache, workspace.dataset()))


def make_regions(
    workspace: Workspace,
    *,
    shard_size: int = 2,
    finish: bool = True,
    size: tuple[int, int] = (30, 20),
    notes: dict[str, Any] | None = None,
) -> Path:
    """Two regions an image, the first a red dog; image "1" was skipped. Not finished: only the first shard."""
    columns = {
        "features": Column("float16", (2, 8)),
        "boxes": Column("float32", (2, 4)),
        "count": Column("int16"),
        "tags": Column("int32", (2,)),
        "attributes": Column("int16", (2,)),
        "scores": Column("float32", (2,)),
        "size": Column("int32", (2,)),
    }
    ids = [image.id for image in workspace.dataset().images]
    folder = workspace.cache("regions")
    tables = {"tags": ["dog", "ball"], "attributes": ["red"]}
    made = made_by(workspace, "regions", "extract-regions")
    with CacheWriter.open(
        folder, made_by=made, columns=columns, keys=ids, tables=tables, shard_size=shard_size, notes=notes
    ) as writer:
        for shard, keys in writer.pending():
            with writer.shard(shard) as out:
                kept = [key for key in keys if key != "1"]
                n = len(kept)
                values: dict[str, Any] = {
                    "features": np.full((n, 2, 8), 0.5),
                    "boxes": np.tile(np.array([[1, 2, 11, 12], [0, 0, 30, 20]], np.float32), (n, 1, 1)),
                    "count": np.full(n, 2),
                    "tags": np.tile(np.array([0, 1]), (n, 1)),
                    "attributes": np.tile(np.array([0, -1]), (n, 1)),
                    "scores": np.tile(np.array([0.9, 0.25]), (n, 1)),
                    "size": np.tile(np.array(size), (n, 1)),
                }
                out.append(kept, values)
                if "1" in keys:
                    out.skip("1", "truncated")
            if not finish:
                break
    return folder


def make_text(workspace: Workspace) -> Path:
    """`TEXT` is parsed as run(dogs(two)), every other caption as a list of roots."""
    texts = list(dict.fromkeys(c.text for image in workspace.dataset().images for c in image.captions))
    words = list(dict.fromkeys(word for text in texts for word in text.split()))
    tables = {"words": words, "pos": ["NUM", "NOUN", "VERB"], "relations": ["nummod", "nsubj", "root"]}
    folder = workspace.cache("text")
    with CacheWriter.open(
        folder,
        made_by=made_by(workspace, "text", "parse-text"),
        columns=TOKENS,
        keys=[text_key(text) for text in texts],
        tables=tables,
    ) as writer:
        for shard, keys in writer.pending():
            with writer.shard(shard) as out:
                for key, text in zip(keys, texts, strict=True):
                    tokens = text.split()
                    n = len(tokens)
                    parsed = text == TEXT
                    arrays = {
                        "words": np.array([words.index(token) for token in tokens]),
                        "pos": np.arange(3) if parsed else np.zeros(n),
                        "heads": np.array([1, 2, 2]) if parsed else np.arange(n),
                        "relations": np.arange(3) if parsed else np.full(n, 2),
                    }
                    out.append([key], arrays, lengths=np.array([n]))
    return folder


def make_graphs(workspace: Workspace) -> None:
    for cache, base in (("graphs/images", "regions"), ("graphs/texts", "text")):
        with CacheWriter.open(
            workspace.cache(cache),
            made_by=made_by(workspace, cache, "build-graphs"),
            columns={"edges": Column("int16", (2,), "ragged", "edges")},
            keys=["a"],
        ) as writer:
            for shard, keys in writer.pending():
                with writer.shard(shard) as out:
                    out.append(keys, {"edges": np.zeros((1, 2), np.int16)}, lengths=np.array([1]))
        assert workspace.fingerprint(base) != "missing"


def make_run(workspace: Workspace, name: str = "first", *, finished: bool = True) -> Path:
    folder = workspace.run(name)
    facts = {
        "schema": 1,
        "method": "vsepp",
        "recipe": "small",
        "caches": {"regions": workspace.fingerprint("regions")},
        "captions": workspace.dataset().captions_digest,
        "epochs": 2,
        "members": {"vsepp": 1.0},
        "sizes": {},
        "epochs_done": 2 if finished else 1,
        "best": {},
        "finished": finished,
    }
    write_json(folder / "run.json", facts)
    write_text(folder / "metrics.jsonl", '{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.25}\n')
    return folder

"""Writes small bottom-up TSV and npz files for tests."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.workspace import Workspace

WIDTH, HEIGHT, DIM = 100, 60, 6


def drawn(key: str, count: int = 3, dim: int = DIM) -> dict[str, Any]:
    """The regions of one picture, the same for the same `key`."""
    rng = np.random.default_rng(list(key.encode()))
    corners = rng.uniform(0, 1, (count, 2, 2)) * [WIDTH, HEIGHT]
    return {
        "id": key,
        "w": WIDTH,
        "h": HEIGHT,
        "n": count,
        "boxes": np.concatenate([corners.min(1), corners.max(1)], 1).astype("<f4"),
        "features": rng.normal(size=(count, dim)).astype("<f4"),
        "objects": rng.integers(0, 3, count),
        "attributes": rng.integers(0, 2, count),
        "confidences": rng.uniform(size=count).astype("<f4"),
    }


def field(value: Any) -> bytes:
    return base64.b64encode(value.tobytes()) if isinstance(value, np.ndarray) else str(value).encode()


def tsv_line(row: Mapping[str, Any], form: str = "bottom-up") -> bytes:
    if form == "bottom-up":
        names = ["id", "w", "h", "n", "boxes", "features"]
    else:
        names = ["id", "h", "w", "objects", "confidences", "attributes", "confidences", "n", "boxes", "features"]
    return b"\t".join(field(row[name]) for name in names) + b"\r\n"


def write_tsv(path: Path, rows: Sequence[Mapping[str, Any]], form: str = "bottom-up") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(tsv_line(row, form) for row in rows))
    return path


def write_npz(folder: Path, row: Mapping[str, Any], *, info: bool = True, **replaced: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"x": row["features"], "bbox": row["boxes"], "num_bbox": row["n"], "image_h": row["h"],
              "image_w": row["w"]}  # fmt: skip
    if info:
        arrays["info"] = np.array({"objects_id": row["objects"]}, dtype=object)
    arrays = {name: value for name, value in {**arrays, **replaced}.items() if value is not None}
    path = folder / f"{row['id']}.npz"
    np.savez_compressed(path, **arrays)
    return path


def data_set(root: Path, ids: Sequence[str], files: Sequence[str | None] | None = None) -> Workspace:
    """A data set of pictures with these ids and file names, in this order."""
    work = Workspace(root)
    records = [
        ImageRecord(key, "train", (Caption(f"{key}#0", "a dog"),), file, width=WIDTH, height=HEIGHT)
        for key, file in zip(ids, files or [None] * len(ids), strict=True)
    ]
    write_dataset(work.dataset_path, records, kind="pairs", settings={})
    return work

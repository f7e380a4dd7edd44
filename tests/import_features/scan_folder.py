"""Writes small folders in the SCAN layout for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

COLOURS, CLASSES = ["red", "blue", "black"], ["dog", "traffic light", "person"]


def write_scan(
    folder: Path,
    name: str = "train",
    *,
    pictures: int = 4,
    captions: int = 5,
    repeat: bool = False,
    ids: str | list[str] | None = "picture",
    regions: int = 3,
    dim: int = 6,
    dtype: Any = np.float32,
    extras: tuple[str, ...] = ("boxes", "sizes", "scores", "tags"),
    seed: int = 0,
    **replaced: Any,
) -> dict[str, Any]:
    """Writes the files of one name and returns what lies in them.

    `repeat`: one row a caption instead of one a picture. `ids`: one line a "picture", "row" or "caption"; or these
    lines; or no file.
    `replaced`: other contents for single files, such as ims=array.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *name.encode()])
    sizes = rng.integers(100, 600, (pictures, 2))
    corners = rng.uniform(0, 1, (pictures, regions, 2, 2))
    low, high = corners.min(2), corners.max(2)
    rows = np.repeat(np.arange(pictures), captions if repeat else 1)
    tags = [[f"{rng.choice(COLOURS)} {rng.choice(CLASSES)}" for _ in range(regions)] for _ in range(pictures)]
    content: dict[str, Any] = {
        "ims": rng.normal(size=(pictures, regions, dim)).astype(dtype)[rows],
        "boxes": (np.concatenate([low, high], 2) * np.tile(sizes, 2)[:, None]).astype(np.float32)[rows],
        "sizes": sizes[rows],
        "scores": rng.uniform(size=(pictures, regions)).astype(np.float32)[rows],
        "tags": [tags[row] for row in rows],
        "caps": [f"A dog number {k} of {name} {i} ." for i in range(pictures) for k in range(captions)],
    }
    names = [f"{name}{i}.jpg" for i in range(pictures)]
    each = {"picture": 1, "row": captions if repeat else 1, "caption": captions}
    if isinstance(ids, list):
        content["ids"] = ids
    elif ids is not None:
        content["ids"] = [key for key in names for _ in range(each[ids])]
    content |= replaced
    for what in ("ims", "boxes", "sizes", "scores"):
        if what == "ims" or what in extras:
            np.save(folder / f"{name}_{what}.npy", content[what])
    if "tags" in extras:
        (folder / f"{name}_tags.json").write_text(json.dumps(content["tags"]), encoding="utf-8")
    (folder / f"{name}_caps.txt").write_text("\n".join(content["caps"]), encoding="utf-8")
    if "ids" in content:
        (folder / f"{name}_ids.txt").write_text("\n".join(content["ids"]) + "\n", encoding="utf-8")
    return content

"""Writes small shards, Parquet files and folders of pictures with captions for tests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image


def picture(colour: int = 0, form: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 10), (colour * 40 % 256, 90, 120)).save(out, form)
    return out.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes | tarfile.TarInfo]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def img2dataset_sample(number: int, caption: str | None) -> list[tuple[str, bytes]]:
    """The three files of a sample as img2dataset names them."""
    key = f"{number:09}"
    facts: dict[str, Any] = {
        "caption": caption, "url": f"https://example.org/{number}.jpg", "key": key, "status": "success",
        "error_message": None, "width": 20, "height": 10, "original_width": 20, "original_height": 10, "exif": "{}",
        "sha256": "0" * 64,
    }  # fmt: skip
    files = [(f"{key}.jpg", picture(number))]
    files += [(f"{key}.txt", caption.encode())] if caption is not None else []
    return [*files, (f"{key}.json", json.dumps(facts, indent=4).encode())]

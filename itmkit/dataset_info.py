"""The facts of a data set, `dataset.info.json`, which belong to the images in the `dataset.jsonl` beside it.

Two files cannot appear at once. The facts are written first, under a name that counts only if the images are theirs. So
a kill at any moment leaves the old images with the old facts, or the new ones with the new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from itmkit.files import sha256_file, write_json
from itmkit.typed import Text, read_strict_json

SHA = "jsonl_sha256"  # in dataset.info.json: of the dataset.jsonl that was written with it
FEWEST = 4  # pictures of a split whose number of captions tells something
STRONG = 2.0  # times as many captions a picture in one split as in another


@checked_dataclass
class _Info:
    """What is read from dataset.info.json."""

    kind: Text = "hand-made"
    settings: dict[str, Any] = field(default_factory=dict)


INFO = TypeAdapter(_Info)


def info_path(path: Path) -> Path:
    """The file of facts beside a `dataset.jsonl`: `dataset.info.json`."""
    return path.with_name("dataset.info.json")


def _next_path(path: Path) -> Path:
    return path.with_name(".dataset.info.next.json")


@contextmanager
def facts_first(path: Path, info: Mapping[str, Any], sha256: str) -> Iterator[None]:
    """Within it, the images are written to `path`.

    Args:
        info: their facts. sha256: the digest that `path` will have.
    """
    write_json(_next_path(path), {**info, SHA: sha256})
    yield
    settle(path)


def settle(path: Path) -> None:
    """Gives the facts of the data set in `path` their name, where a kill came before that."""
    if path.exists() and (place := info_of(path, sha256_file(path))) == _next_path(path):
        place.replace(info_path(path))


def info_of(path: Path, sha256: str) -> Path:
    """The file with the facts of the images in `path`, which has this digest. There may be none at that place."""
    following = _next_path(path)
    info = read_strict_json(following) if following.is_file() else None
    return following if isinstance(info, dict) and info.get(SHA) == sha256 else info_path(path)


def uneven_captions(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A note if a picture has far more captions in one split than in another, since they may not belong to it.

    Args:
        counts: {split: {"images": n, "captions": m}}, as in `dataset.info.json`.
    """
    enough = {split: count for split, count in counts.items() if count["images"] >= FEWEST}
    rates = {split: count["captions"] / count["images"] for split, count in enough.items()}
    most = max(rates.values(), default=0)
    if not most or most < STRONG * min(rates.values()):
        return []
    each = ", ".join(f"{split} {rate:.3g} ({counts[split]['captions']:,} captions)" for split, rate in rates.items())
    few = min(rates, key=lambda split: rates[split])
    return [f"captions a picture differ between the splits: {each}. Do those of {few} belong to its pictures?"]

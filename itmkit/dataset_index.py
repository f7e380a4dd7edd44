"""`dataset.index.json`, what `itmkit status` says about a data set without reading every line of it again.

It names the sha256 of the `dataset.jsonl` it describes, and of the `dataset.info.json` beside it. If the files are not
those any more, it counts for nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from itmkit.dataset import Dataset
from itmkit.dataset_info import info_path
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file, write_json
from itmkit.typed import read_strict_json

SCHEMA = 1


@dataclass(frozen=True)
class DatasetFacts:
    """Counts of a data set that has been read and checked, and the digests that caches and runs depend on."""

    counts: dict[str, dict[str, int]]  # split -> {"images": n, "captions": m}
    images_digest: str
    captions_digest: str
    kind: str  # "scenes", "karpathy", ...

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetFacts:
        return cls(dataset.info["counts"], dataset.images_digest, dataset.captions_digest, dataset.kind)

    @property
    def images(self) -> int:
        return sum(count["images"] for count in self.counts.values())


def index_path(path: Path) -> Path:
    """The index beside a `dataset.jsonl`."""
    return path.with_name("dataset.index.json")


def read_index(path: Path) -> DatasetFacts | None:
    """The facts of the data set in `path`; None if there is no index, or not one of this very file."""
    try:
        raw = read_strict_json(index_path(path))
        if raw["schema"] != SCHEMA or any(raw[name] != value for name, value in _sha256(path).items()):
            return None
        counts = {
            str(split): {name: int(count[name]) for name in ("images", "captions")}
            for split, count in raw["counts"].items()
        }
        return DatasetFacts(counts, str(raw["images_digest"]), str(raw["captions_digest"]), str(raw["kind"]))
    except (ItmkitError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def write_index(path: Path, dataset: Dataset, state: tuple[int, ...]) -> None:
    """Writes the index, unless the data set has changed since its `state` was taken, before it was read.

    Nothing depends on it, so a folder that cannot be written is no error.
    """
    with suppress(OSError):
        record = {"schema": SCHEMA, **_sha256(path), **asdict(DatasetFacts.of(dataset))}
        if dataset_state(path) == state:
            write_json(index_path(path), record)


def _sha256(path: Path) -> dict[str, str]:
    info = info_path(path)
    return {"sha256": sha256_file(path), "info_sha256": sha256_file(info) if info.exists() else "none"}


def dataset_state(path: Path) -> tuple[int, ...]:
    """What changes when a data set, or the file of facts beside it, is written or replaced."""
    return (*_file_state(path), *_file_state(info_path(path)))


def _file_state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

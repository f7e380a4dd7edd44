"""manifest.json: which shards a cache has, what its columns are, and what it was made from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from itmkit.errors import ItmkitError
from itmkit.files import digest, write_json
from itmkit.machine.part import Part
from itmkit.typed import Count, Text, checked, read_strict_json

SCHEMA = 1
NAME = "manifest.json"
_PART = re.compile(r"manifest\.part-(\d+)-of-(\d+)\.json")


def text_key(text: str) -> str:
    """The row id of a caption text in the text caches: 32 hex digits of its sha256.

    Identical captions have one key, and so one row, whatever image they belong to.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True)
class Column:
    """One data set of a shard.

    `kind="row"`: array (n, *shape), one entry per row. `kind="ragged"`: flat array (total, *shape); all ragged
    columns of the same `group` share one offsets array `<group>.offsets` (n + 1,) int64.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    kind: Literal["row", "ragged"] = "row"
    group: str = "tokens"

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"kind": self.kind, "dtype": self.dtype, "shape": list(self.shape)}
        return {**record, "group": self.group} if self.kind == "ragged" else record


@dataclass(frozen=True)
class MadeBy:
    """What a cache was made from. Equal values: the cache may be continued. Different: it must not be used."""

    stage: str
    settings: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] | None = None
    inputs: dict[str, str] = field(default_factory=dict)

    def differences(self, other: MadeBy) -> list[str]:
        """In words, each leaf in which `self` (on disk) and `other` (asked for) differ."""
        if self.stage != other.stage:
            return [f"it was made by `itmkit {self.stage}`, not by `itmkit {other.stage}`"]
        mine, yours = _leaves(asdict(self)), _leaves(asdict(other))
        lines = []
        for key in sorted(mine.keys() | yours.keys()):
            a, b = mine.get(key, "nothing"), yours.get(key, "nothing")
            if a != b:
                short = key.startswith("inputs.") or key.endswith("sha256")
                lines.append(f"{key} changed" if short else f"{key} is {a!r} in the cache, {b!r} now")
        return lines


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, item in value.items():
            found |= _leaves(item, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: list(value) if isinstance(value, tuple) else value}


@dataclass
class Manifest:
    """The contents of manifest.json. `shards` are dicts: file, count, bytes, sha256, skipped [{id, reason}]."""

    made_by: MadeBy
    columns: dict[str, Column]
    tables: dict[str, list[str]] = field(default_factory=dict)
    planned: int = 0
    shard_size: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    tables_sha256: str = ""  # as it was read; empty for a cache of an older version, and for one not read

    @property
    def count(self) -> int:
        return sum(int(shard["count"]) for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(int(shard["bytes"]) for shard in self.shards)

    @property
    def skipped(self) -> list[dict[str, str]]:
        return [item for shard in self.shards for item in shard.get("skipped", [])]

    @property
    def fingerprint(self) -> str:
        """Identifies the content: what made it and the bytes of every shard. Later stages record it."""
        return digest({"made_by": asdict(self.made_by), "shards": [shard["sha256"] for shard in self.shards]})

    @property
    def tables_digest(self) -> str:
        """Identifies what gives the numbers in the shards a meaning: string tables and columns."""
        return digest({"tables": self.tables, "columns": {name: one.to_json() for name, one in self.columns.items()}})

    @property
    def altered(self) -> str:
        """What of a manifest that was just read is not what was written; empty if all is."""
        as_written = self.tables_sha256 in ("", self.tables_digest)
        return "" if as_written else "its tables or columns are not what was written"

    def write(self, folder: Path, name: str = NAME) -> None:
        record = {
            "schema": SCHEMA,
            "made_by": asdict(self.made_by),
            "columns": {name: column.to_json() for name, column in self.columns.items()},
            "planned": self.planned,
            "shard_size": self.shard_size,
            "complete": self.complete,
            "shards": self.shards,
            "notes": self.notes,
            "tables": self.tables,
            "tables_sha256": self.tables_digest,
        }
        write_json(folder / name, record)


def part_manifest(part: Part) -> str:
    """The file name of the manifest of a part."""
    return f"manifest.part-{part.index}-of-{part.of}.json"


def parts_in(folder: Path) -> list[Part]:
    """The parts that have a manifest in a cache folder, in order."""
    found = (_PART.fullmatch(path.name) for path in folder.glob("manifest.part-*.json"))
    return sorted((Part(int(m[1]), int(m[2])) for m in found if m), key=lambda part: (part.of, part.index))


def _number_type(name: str) -> str:
    try:
        numbers = np.dtype(name).kind in "biuf"
    except (TypeError, ValueError, SyntaxError):
        numbers = False
    if not numbers:
        raise ValueError("is no type of numbers")
    return name


def _plain_name(name: str) -> str:
    if Path(name).name != name or name in ("", ".", "..") or "\0" in name:
        raise ValueError("lies outside the cache folder; refused")
    return name


@checked_dataclass
class _Column:
    dtype: Annotated[Text, AfterValidator(_number_type)]
    shape: list[Count]
    kind: Literal["row", "ragged"]
    group: Text = "tokens"


@checked_dataclass
class _Shard:
    file: Annotated[Text, AfterValidator(_plain_name)]
    count: Count
    bytes: Count
    sha256: Text
    skipped: list[dict[Literal["id", "reason"], Text]] = field(default_factory=list)


@checked_dataclass(config=ConfigDict(extra="forbid"))
class _MadeBy:
    stage: Text
    settings: dict[str, Any]
    model: dict[str, Any] | None
    inputs: dict[str, Text]


@checked_dataclass
class _Written:
    """manifest.json as it is in the file."""

    made_by: _MadeBy
    columns: dict[str, _Column]
    tables: dict[str, list[Text]]
    planned: Count
    shard_size: Count
    shards: list[_Shard]
    complete: Annotated[bool, Field(strict=True)]
    notes: dict[str, Any] = field(default_factory=dict)
    tables_sha256: Text = ""


_FORM = TypeAdapter(_Written)


def read_manifest(folder: Path, name: str = NAME) -> Manifest | None:
    """The manifest of a cache folder, or None where there is none.

    Raises:
        ItmkitError: the file is damaged (every wrong place), or was written by a version with another schema.
    """
    path = folder / name
    if not path.exists():
        return None
    raw = read_strict_json(path)
    advice = "rerun the stage with --force"
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA or raw["schema"] is True:
        found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise ItmkitError(f"{path}: schema {str(found)[:40]!r}, this version reads {SCHEMA}; {advice}")
    found = checked(_FORM, raw, path, f"this manifest is damaged; {advice}")
    return Manifest(
        made_by=MadeBy(**raw["made_by"]),
        columns={key: Column(c.dtype, tuple(c.shape), c.kind, c.group) for key, c in found.columns.items()},
        tables=raw["tables"],
        planned=found.planned,
        shard_size=found.shard_size,
        shards=raw["shards"],
        complete=found.complete,
        notes=found.notes,
        tables_sha256=found.tables_sha256,
    )

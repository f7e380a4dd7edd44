"""Encoded images as contiguous rows of a file, one an image: all tensors of all members side by side.

A row is read by its position, in one piece. Numbers are stored as float32, as float16, or as int8 with one scale a
tensor and image; masks as one byte each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from itmkit.matchers import Encoded

RowType = Literal["float32", "float16", "int8"]
_STORED: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "int8": np.int8}


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a row: bytes start .. start + count x size. shape: of one image."""

    member: str
    name: str
    shape: tuple[int, ...]
    kind: str  # float32, float16, int8 or bool
    start: int

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        size = 1 if self.kind in ("bool", "int8") else np.dtype(_STORED[self.kind]).itemsize
        return self.count * size + (4 if self.kind == "int8" else 0)  # the scale comes first


@dataclass(frozen=True)
class RowFormat:
    """How the rows of an index are laid out."""

    places: tuple[Place, ...]

    @property
    def bytes(self) -> int:
        """Of a row."""
        last = self.places[-1]
        return -(-(last.start + last.bytes) // 4) * 4

    @classmethod
    def of(cls, encoded: Mapping[str, Encoded], rows: RowType) -> RowFormat:
        """The layout for images encoded like these."""
        places, start = [], 0
        for member, each in encoded.items():
            for name, value in each.items():
                kind = "bool" if value.dtype == torch.bool else rows
                place = Place(member, name, tuple(value.shape[1:]), kind, start)
                places.append(place)
                start = -(-(start + place.bytes) // 4) * 4  # every tensor begins at a multiple of 4 bytes
        return cls(tuple(places))

    def pack(self, encoded: Mapping[str, Encoded]) -> np.ndarray:
        """(n, bytes) uint8 of n encoded images."""
        count = len(next(iter(next(iter(encoded.values())).values())))
        rows = np.zeros((count, self.bytes), np.uint8)
        for place in self.places:
            value = encoded[place.member][place.name].reshape(count, -1).cpu()
            packed = _packed(value, place.kind)
            rows[:, place.start : place.start + place.bytes] = packed
        return rows

    def unpack(self, rows: np.ndarray) -> dict[str, Encoded]:
        """The encoded images of n rows (n, bytes), as a matcher scores them: float32 and masks."""
        found: dict[str, Encoded] = {}
        for place in self.places:
            part = np.ascontiguousarray(rows[:, place.start : place.start + place.bytes])
            value = torch.from_numpy(_unpacked(part, place.kind)).reshape(len(rows), *place.shape)
            found.setdefault(place.member, {})[place.name] = value
        return found

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"member": p.member, "name": p.name, "shape": list(p.shape), "kind": p.kind, "start": p.start}
            for p in self.places
        ]

    @classmethod
    def from_json(cls, raw: list[dict[str, Any]]) -> RowFormat:
        return cls(tuple(Place(**{**each, "shape": tuple(each["shape"])}) for each in raw))


def _packed(value: torch.Tensor, kind: str) -> np.ndarray:
    """(n, bytes) uint8 of (n, count)."""
    if kind == "bool":
        return value.numpy().astype(np.uint8)
    numbers = value.float().numpy()
    if kind != "int8":
        return numbers.astype(_STORED[kind]).view(np.uint8)
    scale = np.abs(numbers).max(axis=1, keepdims=True).astype(np.float32) / 127
    whole = np.rint(numbers / np.where(scale > 0, scale, 1)).astype(np.int8)
    return np.concatenate([scale.view(np.uint8), whole.view(np.uint8)], axis=1)


def _unpacked(part: np.ndarray, kind: str) -> np.ndarray:
    if kind == "bool":
        return part.astype(bool)
    if kind == "int8":
        return part[:, 4:].view(np.int8).astype(np.float32) * part[:, :4].copy().view(np.float32)
    return part.view(_STORED[kind]).astype(np.float32)

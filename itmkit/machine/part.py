"""A share of the work of a stage: part i of n, of a process of torchrun or of a job of an array."""

from __future__ import annotations

import re
from dataclasses import dataclass

from itmkit.errors import ItmkitError


@dataclass(frozen=True)
class Part:
    """Part `index` (0 .. of - 1) of `of`."""

    index: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ItmkitError(f"part {self.index}/{self.of}: the first of n parts is 0/n, the last n-1/n")

    @classmethod
    def parse(cls, text: str) -> Part:
        """From `i/n`, as in `--shard 0/4`."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise ItmkitError(f"--shard {text!r}: write i/n, such as 0/4 for the first of four parts")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


WHOLE = Part(0, 1)

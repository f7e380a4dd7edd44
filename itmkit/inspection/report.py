"""What an inspection found: facts, tables and drawn lines, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = 20  # lines of a table; what is left out is counted in its title


@dataclass(frozen=True)
class ReportTable:
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: tuple[str, ...] = ()  # columns of numbers

    @classmethod
    def cut(
        cls,
        title: str,
        columns: tuple[str, ...],
        rows: Sequence[tuple[str, ...]],
        right: tuple[str, ...] = (),
        *,
        shown: int = SHOWN,
    ) -> ReportTable:
        """A table of the first `shown` rows, whose title says how many there are."""
        more = f" (the first {shown} of {len(rows):,})" if len(rows) > shown else ""
        return cls(title + more, columns, rows[:shown], right)


@dataclass
class Report:
    """`details`: facts that people want last, such as digests; in JSON they are facts like the others.

    `problems`: what `verify` found wrong; empty where all is well or nothing was verified.

    `data`: what is drawn in `lines`, as values for machines; empty for most.
    """

    kind: str
    path: Path
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[ReportTable] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    details: list[tuple[str, str]] = field(default_factory=list)

    def fact(self, name: str, value: object) -> None:
        self.facts.append((name, str(value)))

    def to_json(self) -> dict[str, Any]:
        tables = [
            {"title": table.title, "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows]}
            for table in self.tables
        ]
        return {
            "kind": self.kind,
            "path": str(self.path),
            "facts": dict([*self.facts, *self.details]),
            "tables": tables,
            "lines": self.lines,
            "problems": self.problems,
            **({"data": self.data} if self.data else {}),
        }


def leaves(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted name, value) of everything in nested dictionaries, in order; lists are values."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, value)]


def short(value: object, limit: int = 80) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."

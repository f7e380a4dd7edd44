"""What the papers report of their methods, to be read beside what is measured; never measured here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROTOCOLS = ("flickr1k", "coco1k", "coco5k")
NAMES = ("i2t R@1", "i2t R@5", "i2t R@10", "t2i R@1", "t2i R@5", "t2i R@10")


@dataclass(frozen=True)
class Reported:
    """One row of a paper's table on one data set.

    Attributes:
        settings: options of `itmkit train` that give this row; empty for the method as it is.
        protocol: a name of `itmkit.evaluation.protocols`, or words where the paper's is none of those.
        kind: "single" or "ensemble of N"; empty where the paper does not say.
        figures: in percent, by name ("i2t R@1"); what the paper leaves out is missing.
    """

    method: str
    model: str
    settings: str
    protocol: str
    kind: str
    figures: Mapping[str, float]
    source: str

    @property
    def rsum(self) -> float | None:
        """The sum of the six recalls; None where one of them is missing."""
        values = [self.figures.get(name) for name in NAMES]
        return None if None in values else round(sum(value or 0 for value in values), 1)


def reported(method: str, protocol: str | None = None) -> list[Reported]:
    """The rows of a method, in the order of the papers' tables; of one protocol where it is named."""
    text = (resources.files("itmkit.evaluation") / "reported.toml").read_text(encoding="utf-8")
    rows = [row for raw in tomllib.loads(text)["row"] for row in _rows(raw)]
    return [row for row in rows if row.method == method and protocol in (None, row.protocol)]


def _rows(raw: dict[str, Any]) -> list[Reported]:
    found = {name: _six(raw[name]) for name in PROTOCOLS if name in raw}
    if "other" in raw:
        found[raw["protocol"]] = dict(raw["other"])
    settings, kind = raw.get("settings", ""), raw.get("kind", "")
    return [
        Reported(raw["method"], raw["model"], settings, protocol, kind, figures, raw["source"])
        for protocol, figures in found.items()
    ]


def _six(text: str) -> dict[str, float]:
    """Reads 77.5 94.0 97.0 / 58.7 83.6 89.1 into figures by name."""
    values = text.replace("/", " ").split()
    return {name: float(value) for name, value in zip(NAMES, values, strict=True) if value != "-"}

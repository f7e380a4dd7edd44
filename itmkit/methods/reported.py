"""What the papers report of their methods, to be read beside what is measured; never measured here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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
        model: its name in the paper; of a baseline of the method's paper, that of another method.
        settings: options of `itmkit train` that give this row; empty for the method as it is.
        protocol: a name of `itmkit.evaluation.protocols`, or a data set in words where the paper's is none of those.
        kind: "single" or "ensemble of N"; empty where the paper does not say.
        selected: "dev" or "test", on which the epoch was chosen; empty where neither paper nor code says. Chosen on the
            test images, figures are too good.
        figures: in percent, by name ("i2t R@1"); what the paper leaves out is missing.
        of: for a member or an ablation, the model that it is a part of; empty for a whole one.
        switched: the settings that differ from that model, by name.
        caveat: why the figures compare with nothing but each other; empty where they do.
    """

    method: str
    model: str
    settings: str
    protocol: str
    kind: str
    selected: str
    figures: Mapping[str, float]
    source: str
    of: str
    switched: Mapping[str, bool | int | str]
    caveat: str

    @property
    def rsum(self) -> float | None:
        """The sum of the six recalls; None where one of them is missing."""
        values = [self.figures.get(name) for name in NAMES]
        return None if None in values else round(sum(value or 0 for value in values), 1)

    @property
    def kind_in_words(self) -> str:
        """single, chosen on dev"""
        chosen = f"chosen on {self.selected}" if self.selected else ""
        return ", ".join(says for says in (self.kind, chosen) if says)

    @property
    def figures_in_words(self) -> str:
        """R@1 82.5, R@5 94.3, mAP 76.2"""
        return ", ".join(f"{name} {value:g}" for name, value in self.figures.items())


def reported(method: str, protocol: str | None = None) -> list[Reported]:
    """The rows of a method, in the order of the papers' tables; of one protocol where it is named."""
    text = (resources.files("itmkit.methods") / "reported.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(text)
    mine = [row for row in raw["row"] if row["method"] == method]
    rows = [one for row in mine for one in _rows(row, mine, raw["caveats"])]
    return [row for row in rows if protocol in (None, row.protocol)]


def not_comparable(method: str) -> list[Reported]:
    """The rows of a method whose paper leaves open what was measured; each has a caveat."""
    return [row for row in reported(method) if row.caveat]


def ablations(
    method: str, switched: Mapping[str, object], protocol: str | None = None
) -> list[tuple[Reported, Reported]]:
    """The rows in which exactly these settings were switched, each with the row that it is an ablation of.

    A paper may have several: of each member, and of the ensemble.

    Args:
        switched: {setting: value}, such as {"kgid_layers": 0}; values may be strings, as they come from a command line.
    """
    rows, wanted = reported(method, protocol), _plain(switched)
    return [
        (row, whole)
        for row in rows
        if row.of and _plain(row.switched) == wanted
        for whole in [one for one in rows if (one.model, one.protocol) == (row.of, row.protocol)][:1]
    ]


def _plain(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value).lower() for name, value in settings.items()}


def _rows(raw: dict[str, Any], others: Sequence[dict[str, Any]], caveats: Mapping[str, str]) -> list[Reported]:
    found = {name: _six(raw[name]) for name in PROTOCOLS if name in raw}
    if "other" in raw:
        found[raw["protocol"]] = dict(raw["other"])
    options = [f"--{name.replace('_', '-')} {value}" for name, value in _plain(_settings(raw, others)).items()]
    caveat = next((says for paper, says in caveats.items() if raw["source"].startswith(paper)), "")
    return [
        Reported(
            method=raw["method"],
            model=raw["model"],
            settings=" ".join(options),
            protocol=protocol,
            kind=raw.get("kind", ""),
            selected=raw.get("selected", ""),
            figures=figures,
            source=raw["source"],
            of=raw.get("of", ""),
            switched=raw.get("settings", {}),
            caveat=caveat,
        )
        for protocol, figures in found.items()
    ]


def _settings(raw: dict[str, Any], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The settings of a row: those of the model that it is a part of, and its own."""
    if "of" not in raw:
        return {}
    whole = next(row for row in others if row["model"] == raw["of"])
    return _settings(whole, others) | dict(raw["settings"])


def _six(text: str) -> dict[str, float]:
    """Reads 77.5 94.0 97.0 / 58.7 83.6 89.1 into figures by name."""
    values = text.replace("/", " ").split()
    return {name: float(value) for name, value in zip(NAMES, values, strict=True) if value != "-"}

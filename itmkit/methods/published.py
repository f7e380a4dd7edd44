"""What a paper reports of a change to its method: the row of its table, less the row it is an ablation of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from itmkit.matchers import method, preset
from itmkit.methods.reported import PROTOCOLS, Reported, ablations


@dataclass(frozen=True)
class Published:
    """Two rows of a paper: the ablation and the whole.

    Attributes:
        protocol: what both were measured on, a name of `itmkit.evaluation.protocols` or words.
        difference: ablation less whole, of the figures that both have; with "rsum" where all six recalls are printed.
    """

    ablation: str
    whole: str
    protocol: str
    source: str
    rsum: float | None
    difference: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        facts = {"ablation": self.ablation, "whole": self.whole, "protocol": self.protocol, "source": self.source}
        return {**facts, "rsum": self.rsum, "difference": self.difference}


class Configured(Protocol):
    """A method and its settings: a `RunConfig`, of which nothing else is needed."""

    @property
    def method(self) -> str: ...
    @property
    def matcher(self) -> Any: ...


def published(config: Configured, settings: Mapping[str, Any], split: str) -> Published | None:
    """What the papers report for a method with some settings changed; None where they report nothing.

    A paper may ablate another form of the method than the run has: MPSM's tables 2 and 3 are of the distance member
    alone. The rows that agree most with the run's settings are taken, and say which they are.

    Args:
        settings: {name: value}, the change.
        split: a protocol by this name comes first.
    """
    own, default = config.matcher, method(config.method).Config(**preset(config.method))
    pairs = [(row, whole, _settings(whole)) for row, whole in ablations(config.method, settings)]
    # The change must begin where the run is: 4 layers instead of 3 say nothing of 4 instead of 2.
    if not pairs or any(getattr(own, name) != getattr(default, name) for name in settings):
        return None
    names = {name for *_, context in pairs for name in context}

    def place(pair: tuple[Reported, Reported, dict[str, str]]) -> tuple[bool, int, int]:
        row, _, context = pair
        theirs = {name: context.get(name, _plain(getattr(default, name, ""))) for name in names}
        agree = sum(theirs[name] == _plain(getattr(own, name, "")) for name in names)
        known = PROTOCOLS.index(row.protocol) if row.protocol in PROTOCOLS else len(PROTOCOLS)
        return row.protocol != split, -agree, known

    row, whole, _ = min(pairs, key=place)
    common = [name for name in row.figures if name in whole.figures]
    difference = {name: round(row.figures[name] - whole.figures[name], 2) for name in common}
    if row.rsum is not None and whole.rsum is not None:
        difference["rsum"] = round(row.rsum - whole.rsum, 2)
    return Published(row.model, whole.model, row.protocol, row.source, row.rsum, difference)


def _settings(row: Reported) -> dict[str, str]:
    """--similarities distance --kgid-layers 0 by name"""
    words = row.settings.split()
    names = [word.removeprefix("--").replace("-", "_") for word in words[::2]]
    return dict(zip(names, words[1::2], strict=True))


def _plain(value: Any) -> str:
    return str(value).lower()

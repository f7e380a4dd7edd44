"""How a published model becomes one of itmkit: where its numbers go, and the settings with which both score alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from itmkit.import_checkpoint.read import Checkpoint

GRU = tuple(f"{name}_l0{way}" for way in ("", "_reverse") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
REGIONS = {"fc.weight": "regions.project.weight", "fc.bias": "regions.project.bias"}


@dataclass(frozen=True)
class Place:
    """Where a published tensor goes. sign: 0 it is copied there; 1 or -1 it is added to, or taken from, what is there.

    A linear map before a batch normalisation has a bias in the published code; itmkit's has none, and the running mean
    takes it up.
    """

    target: str
    sign: int = 0


@dataclass(frozen=True)
class Form:
    """A published model, understood.

    Attributes:
        source: what to call it.
        method, member, settings: what it is here.
        places: (part, published name) -> where it goes; None where no score depends on it.
        ascii_letters: only ASCII letters of captions are made small, as SCAN's code does.
        mask_word: the code adds a word `<mask>` to the vocabulary.
        regions: how many regions each image must have; 0 = any number.
    """

    source: str
    method: str
    member: str
    settings: Mapping[str, Any]
    places: Mapping[tuple[int, str], Place | None]
    ascii_letters: bool = True
    mask_word: bool = False
    regions: int = 0


@dataclass
class Options:
    """The `opt` of a checkpoint. What is wrong is collected in `problems`."""

    checkpoint: Checkpoint
    problems: list[str] = field(default_factory=list)

    def number(self, name: str, default: float | None = None) -> float:
        """A number that the score depends on. Without a default it has to be there."""
        value = self.checkpoint.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._say(f"opt.{name} is {_short(value)}, a number is needed")
            return 1.0
        return value

    def one_of(self, name: str, known: Mapping[str, Any], default: str | None = None, *, why: str = "") -> Any:
        """What stands in `known` for the value of an option; others cannot be scored as published."""
        value = self.checkpoint.options.get(name, default)
        if not isinstance(value, str) or value not in known:
            self._say(f"opt.{name} is {_short(value)}; itmkit computes {' or '.join(known)} only{why}")
            return next(iter(known.values()))
        return known[value]

    def count(self, name: str, why: str) -> int:
        """A whole number from 1 on; others cannot be scored as published."""
        value = self.checkpoint.options.get(name)
        if type(value) is not int or value < 1:
            self._say(f"opt.{name} is {_short(value)}; {why}")
            return 1
        return value

    def must_be(self, name: str, wanted: Any, why: str) -> None:
        """An option that has to have this value; where it is missing, its value was the only one."""
        value = self.checkpoint.options.get(name, wanted)
        if type(value) is not type(wanted) or value != wanted:
            self._say(f"opt.{name} is {_short(value)}, and {why}")

    def usual_encoders(self) -> None:
        """What all of these models share, and itmkit has no other way of."""
        self.must_be("no_imgnorm", False, "itmkit scales regions to unit length")
        self.must_be("no_txtnorm", False, "itmkit scales words to unit length")
        self.must_be("num_layers", 1, "itmkit's GRU has one layer")

    def _say(self, problem: str) -> None:
        self.problems.append(f"{self.checkpoint.path}: {problem}")


def gru(part: int, name: str, target: str) -> dict[tuple[int, str], Place | None]:
    return {(part, f"{name}.{key}"): Place(f"{target}.{key}") for key in GRU}


def encoders(gru_name: str) -> dict[tuple[int, str], Place | None]:
    """Regions by a linear map and words by a bi-directional GRU, as in SCAN."""
    return {
        **{(0, key): Place(target) for key, target in REGIONS.items()},
        (1, "embed.weight"): Place("words.embedding.weight"),
        **gru(1, gru_name, "words.gru"),
    }


def sizes_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings `embed` and `word`, from the shapes of the first matrices."""
    parts = checkpoint.parts
    return {"embed": parts[0]["fc.weight"].shape[0], "word": parts[1]["embed.weight"].shape[-1], "tokens": "scan"}


def _short(value: Any) -> str:
    return "missing" if value is None else repr(value)[:40]

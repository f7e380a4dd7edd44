"""How a published model becomes one of itmkit: where its numbers go, and the settings with which both score alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from itmkit.import_checkpoint.read import Checkpoint

GRU = tuple(f"{name}_l0{way}" for way in ("", "_reverse") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
Places = Mapping[tuple[int, str], "Place | None"]


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
        embedding: the matrix with a row for each word, in the second part.
        bert: the sizes of its BERT, as in `itmkit.inputs.Sizes`; empty without one. Its words are word pieces.
    """

    source: str
    method: str
    member: str
    settings: Mapping[str, Any]
    places: Places
    ascii_letters: bool = True
    mask_word: bool = False
    regions: int = 0
    embedding: str = "embed.weight"
    bert: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Options:
    """The `opt` of a checkpoint. What is wrong is collected in `problems`."""

    checkpoint: Checkpoint
    problems: list[str] = field(default_factory=list)

    def number(self, name: str, default: float | None = None) -> float:
        """A number that the score depends on. Without a default it has to be there."""
        value = self.checkpoint.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.say(f"opt.{name} is {_short(value)}, a number is needed")
            return 1.0
        return value

    def one_of(self, name: str, known: Mapping[str, Any], default: str | None = None, *, why: str = "") -> Any:
        """What stands in `known` for the value of an option; others cannot be scored as published."""
        value = self.checkpoint.options.get(name, default)
        if not isinstance(value, str) or value not in known:
            self.say(f"opt.{name} is {_short(value)}; itmkit computes {' or '.join(known)} only{why}")
            return next(iter(known.values()))
        return known[value]

    def count(self, name: str, why: str) -> int:
        """A whole number from 1 on; others cannot be scored as published."""
        value = self.checkpoint.options.get(name)
        if type(value) is not int or value < 1:
            self.say(f"opt.{name} is {_short(value)}; {why}")
            return 1
        return value

    def must_be(self, name: str, wanted: Any, why: str) -> None:
        """An option that has to have this value; where it is missing, its value was the only one."""
        value = self.checkpoint.options.get(name, wanted)
        if type(value) is not type(wanted) or value != wanted:
            self.say(f"opt.{name} is {_short(value)}, and {why}")

    def usual_encoders(self, *, gru: bool = True) -> None:
        """What all of these models share, and itmkit has no other way of."""
        self.must_be("no_imgnorm", False, "itmkit scales regions to unit length")
        self.must_be("no_txtnorm", False, "itmkit scales words to unit length")
        if gru:
            self.must_be("num_layers", 1, "itmkit's GRU has one layer")

    def say(self, problem: str) -> None:
        """Adds a problem of the file."""
        self.problems.append(f"{self.checkpoint.path}: {problem}")


def gru(part: int, name: str, target: str) -> dict[tuple[int, str], Place | None]:
    return {(part, f"{name}.{key}"): Place(f"{target}.{key}") for key in GRU}


def linear(part: int, published: str, here: str) -> dict[tuple[int, str], Place | None]:
    """A linear map, or a layer normalisation."""
    return {(part, f"{published}.{name}"): Place(f"{here}.{name}") for name in ("weight", "bias")}


def batch_norm(part: int, published: str, here: str) -> dict[tuple[int, str], Place | None]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {
        **{(part, f"{published}.{name}"): Place(f"{here}.{name}") for name in names},
        (part, f"{published}.num_batches_tracked"): None,
    }


def encoders(gru_name: str) -> dict[tuple[int, str], Place | None]:
    """Regions by a linear map and words by a bi-directional GRU, as in SCAN."""
    return {
        **linear(0, "fc", "regions.project"),
        (1, "embed.weight"): Place("words.embedding.weight"),
        **gru(1, gru_name, "words.gru"),
    }


def mlp_beside(start: str = "") -> dict[tuple[int, str], Place | None]:
    """Of regions, an MLP beside the linear map. start: what its published names begin with."""
    places = batch_norm(0, f"{start}mlp.bns.0", "regions.norm")
    places[0, f"{start}mlp.layers.0.weight"] = Place("regions.enter.weight")
    places[0, f"{start}mlp.layers.1.weight"] = Place("regions.leave.weight")
    places[0, f"{start}mlp.layers.0.bias"] = Place("regions.norm.running_mean", -1)
    places[0, f"{start}mlp.layers.1.bias"] = Place("regions.project.bias", 1)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        places[0, f"{start}mlp.bns.1.{name}"] = None  # a norm that the published networks never call
    return places


def sizes_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings `embed` and `word`, from the shapes of the first matrices."""
    parts = checkpoint.parts
    return {"embed": parts[0]["fc.weight"].shape[0], "word": parts[1]["embed.weight"].shape[-1], "tokens": "scan"}


def _short(value: Any) -> str:
    return "missing" if value is None else repr(value)[:40]

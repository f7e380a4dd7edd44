"""The matchers, one file a method, behind one contract.

A method module has a `Config` (pydantic dataclass: the settings of the method, each with its default), `NEEDS` (the
caches it reads), `members(config)` (names of independently trained parts; one for most methods) and a matcher class:

    Matcher(config, member=..., feature_size=F, vocabulary_size=...)
    encode_images(ImageBatch) -> Encoded    tensors with leading dimension Bi, once per image
    encode_texts(TextBatch)   -> Encoded    tensors with leading dimension Bt, once per text
    views(images, texts)      -> tuple of (Bi, Bt)   what the loss is summed over; one matrix for most methods
    score(images, texts)      -> (Bi, Bt)   every pair of the block, the mean of the views

Training, scoring and evaluation know nothing else of a method.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from itmkit.errors import ItmkitError
from itmkit.inputs import ImageBatch, TextBatch

Encoded = dict[str, Tensor]

# Method name -> module. Imported when asked for, so that listing the methods costs nothing.
METHODS = {"mpsm": "itmkit.matchers.mpsm", "vsepp": "itmkit.matchers.vsepp"}


class Matcher(Protocol):
    """The four methods of the contract; every matcher is an `nn.Module` beside."""

    def encode_images(self, batch: ImageBatch) -> Encoded: ...

    def encode_texts(self, batch: TextBatch) -> Encoded: ...

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]: ...

    def score(self, images: Encoded, texts: Encoded) -> Tensor: ...


def method(name: str) -> ModuleType:
    """The module of a method. Raises ItmkitError listing the methods there are."""
    if name not in METHODS:
        raise ItmkitError(f"--method {name!r}: no such method; there are {', '.join(METHODS)}")
    return importlib.import_module(METHODS[name])


def as_matcher(module: nn.Module) -> Matcher:
    """The same object, seen as a matcher by the type checker (an `nn.Module` hides what its methods are)."""
    return cast(Matcher, module)


def build(name: str, config: Any, *, feature_size: int, vocabulary_size: int, seed: int) -> dict[str, nn.Module]:
    """One freshly initialised matcher per member.

    Each member draws its initial weights from a seed of its own (`seed` and its name), so that training a member
    alone gives the same weights as training it beside the others.
    """
    module = method(name)
    built = {}
    for member in module.members(config):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 1_000_003 + sum(member.encode()))
            built[member] = module.Matcher(
                config, member=member, feature_size=feature_size, vocabulary_size=vocabulary_size
            )
    return built

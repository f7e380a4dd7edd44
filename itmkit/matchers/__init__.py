"""The matchers, one file a method, behind one contract.

A method module has

    SUMMARY                 what it is, in one line: for the tables of methods in the docs (`itmkit.methods.tables`)
    Config                  pydantic dataclass: the settings of the method, each with its default
    needs(config)           -> `Needs`, the caches it reads with these settings
    members(config)         -> {name: weight} of the independently trained parts; one for most methods. The score of the
                            method is their weighted mean
    Matcher(config, member=..., sizes=Sizes)

and, where it differs from the rest,

    PRESETS                 {method: settings}: other methods that are this module with some settings
    ABLATIONS               {row: settings}: what `itmkit ablate` switches off, one row at a time
    stages(config, epochs)  -> the `Stage`s of training, one after the other; default one of `epochs` epochs
    problems(config, training)  -> what is wrong with these settings of method and training together

A matcher is an `nn.Module` with

    encode_images(ImageBatch) -> Encoded    tensors with leading dimension Bi, once per image
    encode_texts(TextBatch)   -> Encoded    tensors with leading dimension Bt, once per text
    views(images, texts)      -> tuple of (Bi, Bt)   what the triplet loss is summed over; one matrix for most methods
    score(images, texts)      -> (Bi, Bt)   every pair of the block, the mean of the views

and, where it differs,

    pairs(images, texts)    -> tuple of (Bi, Bt)   what the loss wants to know of each pair, instead of its views
    pair_loss(pairs, image_of, triplet) -> `Loss`  instead of the triplet loss of each
    batch_loss(ImageBatch, TextBatch, image_of, stage) -> `Loss`   of a stage that compares no images with texts
    begin(stage)            what is frozen in this stage; called before each of its epochs
    apart()                 whether training, too, compares each pair as if it were alone: no statistics over pairs, and
                            nothing drawn. False where a method does not say
    after_step(stage)       called after each step of the optimizer
    training_only()         -> the modules in it that no score needs
    explain(images, texts)  -> {quantity: tensor}  of one image and one text, what the method itself computes between
                            them: see `explain`
    block_attention(ImageBatch) -> (Bi, R, M)   how much each region attends to each block of the picture, or None

Training, scoring and evaluation know nothing else of a method.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from itmkit.errors import ItmkitError, nearest
from itmkit.inputs.batch import ImageBatch, Sizes, TextBatch

Encoded = dict[str, Tensor]
Triplet = Callable[[Tensor], Tensor]  # scores (Bi, Bt) -> the triplet loss of the run's settings, a scalar

# Method name -> module. Imported when asked for, so that listing the methods costs nothing.
METHODS = {
    "mpsm": "itmkit.matchers.mpsm",
    "glfn": "itmkit.matchers.glfn",
    "pfan": "itmkit.matchers.glfn",
    "scan": "itmkit.matchers.glfn",
    "sgraf": "itmkit.matchers.sgraf",
    "mefn": "itmkit.matchers.mefn",
    "cmfg": "itmkit.matchers.cmfg",
    "rcar": "itmkit.matchers.rcar",
    "laps": "itmkit.matchers.laps",
    "scl": "itmkit.matchers.scl",
    "chan": "itmkit.matchers.chan",
    "vseinf": "itmkit.matchers.vseinf",
    "vsepp": "itmkit.matchers.vsepp",
    "dual": "itmkit.matchers.dual",
}


@dataclass(frozen=True)
class Stage:
    """A part of training with a loss of its own. Only the last one is validated."""

    name: str
    epochs: int


@dataclass(frozen=True)
class Loss:
    """total: a scalar, summed over the batch. views: (Bi, Bt) scores in which a collapse would show, if any."""

    total: Tensor
    views: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Parameters:
    """How many numbers a matcher learns, and how many its scores are computed with."""

    trained: int  # by some stage; neither slow copies nor what every stage leaves as it began
    scoring: int  # frozen ones are among them, slow copies are not


class Matcher(Protocol):
    """The four methods of the contract; every matcher is an `nn.Module` beside."""

    def encode_images(self, batch: ImageBatch) -> Encoded: ...

    def encode_texts(self, batch: TextBatch) -> Encoded: ...

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]: ...

    def score(self, images: Encoded, texts: Encoded) -> Tensor: ...


def method(name: str) -> ModuleType:
    """The module of a method. Raises ItmkitError listing the methods there are."""
    if name not in METHODS:
        raise ItmkitError(f"--method {name!r}: no such method; there are {', '.join(METHODS)}{nearest(name, METHODS)}")
    return importlib.import_module(METHODS[name])


def preset(name: str) -> dict[str, Any]:
    """The settings by which a method differs from the defaults of its module."""
    return dict(getattr(method(name), "PRESETS", {}).get(name, {}))


def stages(name: str, config: Any, epochs: int) -> tuple[Stage, ...]:
    """The stages of training, in order; those without epochs left out."""
    module = method(name)
    found = module.stages(config, epochs) if hasattr(module, "stages") else (Stage("", epochs),)
    return tuple(stage for stage in found if stage.epochs)


def as_matcher(module: nn.Module) -> Matcher:
    """The same object, seen as a matcher by the type checker (an `nn.Module` hides what its methods are)."""
    return cast(Matcher, module)


def begin(module: nn.Module, stage: str) -> None:
    """Freezes what a stage leaves alone, where the method has something to freeze."""
    hook: Callable[[str], None] | None = getattr(module, "begin", None)
    if hook is not None:
        hook(stage)


def after_step(module: nn.Module, stage: str) -> None:
    """What a method does after each step of the optimizer, such as moving a slow copy of its weights."""
    hook: Callable[[str], None] | None = getattr(module, "after_step", None)
    if hook is not None:
        hook(stage)


def count_parameters(
    module: nn.Module, stages: tuple[Stage, ...], still: Set[nn.Parameter] = frozenset()
) -> Parameters:
    """Counts the parameters of a matcher. It is left in the last of the stages.

    Buffers, such as the statistics of a batch normalisation, are not counted.

    Args:
        still: parameters that no step changes, whatever the stage.
    """
    trained: set[nn.Parameter] = set()
    for stage in stages:
        begin(module, stage.name)
        trained.update(parameter for parameter in module.parameters() if parameter.requires_grad)
    hook: Callable[[], Sequence[nn.Module]] = getattr(module, "training_only", tuple)
    unused = {parameter for part in hook() for parameter in part.parameters()}
    return Parameters(
        trained=sum(parameter.numel() for parameter in trained - still),
        scoring=sum(parameter.numel() for parameter in module.parameters() if parameter not in unused),
    )


def batch_loss(module: nn.Module, images: ImageBatch, texts: TextBatch, image_of: Tensor, stage: str) -> Loss | None:
    """The loss of a stage that compares no images with texts, where a method has such stages; None for the others."""
    own: Callable[..., Loss | None] | None = getattr(module, "batch_loss", None)
    return own(images, texts, image_of, stage) if own is not None else None


def pairs(module: nn.Module, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
    """What the loss wants to know of each pair, (Bi, Bt) each: the method's own `pairs`, else its views."""
    own: Callable[..., tuple[Tensor, ...]] | None = getattr(module, "pairs", None)
    return own(images, texts) if own is not None else as_matcher(module).views(images, texts)


def pair_loss(module: nn.Module, found: tuple[Tensor, ...], image_of: Tensor, triplet: Triplet) -> Loss:
    """The loss from `pairs`: the method's own `pair_loss` where it has one, else the triplet loss of each."""
    own: Callable[..., Loss] | None = getattr(module, "pair_loss", None)
    if own is not None:
        return own(found, image_of, triplet)
    return Loss(torch.stack([triplet(view) for view in found]).sum(), found)


def apart(module: nn.Module) -> bool:
    """Whether training compares each pair as if it were alone, so that some can be compared again by themselves."""
    own: Callable[[], bool] | None = getattr(module, "apart", None)
    return own is not None and own()


def loss(
    module: nn.Module, images: ImageBatch, texts: TextBatch, image_of: Tensor, triplet: Triplet, stage: str
) -> Loss:
    """The loss of a batch.

    Args:
        image_of: (Bt,) int64, the place among `images` of each text's image.
    """
    found = batch_loss(module, images, texts, image_of, stage)
    if found is not None:
        return found
    matcher = as_matcher(module)
    every = pairs(module, matcher.encode_images(images), matcher.encode_texts(texts))
    return pair_loss(module, every, image_of, triplet)


def explain(module: nn.Module, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
    """What a method computes on the way to the score of one pair; nothing where it compares two vectors only.

    Args:
        images, texts: one of each, the text without padding.

    Returns:
        Any of: words_to_regions (L, R), each row a softmax over regions; regions_to_words (L, R), each column a softmax
        over words; entropy (L, R), 0 to 1; nodes (L) or, with the whole pair first, (L + 1), the weight of each
        similarity vector. Columns of missing regions hold zeros, or NaN in entropy.
    """
    own: Callable[..., dict[str, Tensor]] | None = getattr(module, "explain", None)
    return own(images, texts) if own is not None else {}


def build(name: str, config: Any, *, sizes: Sizes, seed: int) -> dict[str, nn.Module]:
    """One freshly initialised matcher per member.

    Each member draws its initial weights from a seed of its own (`seed` and its name), so that training a member
    alone gives the same weights as training it beside the others.
    """
    module = method(name)
    built = {}
    for member in module.members(config):
        with torch.random.fork_rng(devices=[]):
            # The CPU's alone: `torch.manual_seed` would also seed, and not give back, that of the caller's GPU.
            torch.default_generator.manual_seed(seed * 1_000_003 + sum(member.encode()))
            built[member] = module.Matcher(config, member=member, sizes=sizes)
    return built

"""A look at the first vectors a model gives: damaged weights and wrong settings show before hours are spent.

A model that was loaded without an error can still give nothing: random masks or dropout left on, a layer of zeros,
numbers that a cache cannot hold, one vector whatever it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.errors import ItmkitError

if TYPE_CHECKING:
    from PIL import Image

SMALLEST, LARGEST = 1e-6, 1e6  # norms: those of known models lie between 0.1 and 5,000
_EQUAL = 1e-9  # of the norm, less than float32 can tell: a dead layer gives the same numbers whatever comes in
_REPEATED = 1e-2  # of the norm: more than rounding and the order of sums can do
_ASK = "look at its weights and settings, or name another model; nothing more was done"


def probes() -> list[Image.Image]:
    """Two pictures that any model tells apart: a slope of colours, and noise."""
    from PIL import Image

    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    slope = np.stack([across, down, 255 - across], 2).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    return [Image.fromarray(slope), Image.fromarray(noise)]


def check_probes(model: str, first: np.ndarray, again: np.ndarray) -> None:
    """Looks at what a model gives for the two `probes`, asked twice.

    Args:
        first, again: (2, ...) float32

    Raises:
        ItmkitError: the two answers differ, or both pictures get the same one, or they are no usable numbers.
    """
    if not np.isfinite(first).all():
        raise ItmkitError(f"{model}: gives numbers that are not finite for a plain picture; {_ASK}")
    flat, other = first.reshape(len(first), -1), again.reshape(len(again), -1)
    if _far(flat, other).max() > _REPEATED:
        raise ItmkitError(
            f"{model}: gives other vectors when it is asked twice about the same picture, so chance is at work in it"
            " (a mask, dropout, or a layer without weights); such a model is not supported"
        )
    _check_norms(model, first.reshape(-1, first.shape[-1]))
    if _far(flat[:1], flat[1:]).max() < _EQUAL:
        raise ItmkitError(f"{model}: gives the same vectors for two pictures with nothing in common; {_ASK}")


@dataclass
class FirstLook:
    """Looks at the vectors of the first pictures or texts of a run that can be compared with each other.

    Attributes:
        model: its name, for messages; what: "pictures" or "captions".
    """

    model: str
    what: str
    done: bool = False

    def at(self, names: Sequence[str], inputs: Sequence[Any], vectors: Sequence[np.ndarray]) -> None:
        """Looks once, at the first call with two or more inputs that differ.

        Args:
            names: of n inputs, for messages. inputs: as the model takes them.
            vectors: (D) or (R, D) of each input, as they are before they are stored.

        Raises:
            ItmkitError: see `check_probes`; or all vectors of each input are the same.
        """
        if self.done or len(names) < 2:
            return
        filled = [one for one in vectors if one.size]
        for name, one in zip(names, vectors, strict=True):
            if not np.isfinite(one).all():
                raise ItmkitError(f"{self.model}: gives numbers that are not finite for {name}; {_ASK}")
        if not filled:
            return
        _check_norms(self.model, np.concatenate([one.reshape(-1, one.shape[-1]) for one in filled]))
        differ = [at for at in range(1, len(names)) if not _same_input(inputs[0], inputs[at])]
        if not differ:
            return
        self.done = True
        equal = [at for at in differ if vectors[at].shape == vectors[0].shape and _same(vectors[0], vectors[at])]
        if equal == differ:
            some = ", ".join(names[at] for at in (0, *differ[:2])) + (", ..." if len(differ) > 2 else "")
            raise ItmkitError(
                f"{self.model}: gives the same vectors for {len(differ) + 1} different {self.what} ({some}); {_ASK}"
            )
        several = [one for one in filled if one.ndim == 2 and len(one) > 1]
        if self.what == "pictures" and several and all(_same(one[:1].repeat(len(one), 0), one) for one in several):
            raise ItmkitError(f"{self.model}: gives one vector for everything in a picture ({names[0]}); {_ASK}")


def _check_norms(model: str, vectors: np.ndarray) -> None:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    if norms.max() < SMALLEST:
        raise ItmkitError(f"{model}: gives vectors of zeros; {_ASK}")
    if norms.max() > LARGEST:
        raise ItmkitError(f"{model}: gives vectors with norms up to {norms.max():.3g}; {_ASK}")


def _far(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,) how far apart rows are, relative to their norms."""
    apart = np.linalg.norm(one.astype(np.float64) - other, axis=1)
    return np.asarray(apart / np.maximum(np.linalg.norm(one.astype(np.float64), axis=1), 1e-12))


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(_far(one.reshape(1, -1), other.reshape(1, -1)).max() < _EQUAL)


def _same_input(one: Any, other: Any) -> bool:
    """Whether two inputs of a model hold the same values: texts, arrays, tensors, or dictionaries of them."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same_input(one[key], other[key]) for key in one)
    if not hasattr(one, "shape"):
        return bool(one == other)
    return one.shape == other.shape and bool((np.asarray(one) == np.asarray(other)).all())

"""Reads a checkpoint with torch's reader for weights, which runs no code and may build argparse.Namespace alone."""

from __future__ import annotations

import argparse
import math
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmkit.errors import ItmkitError, first_line
from itmkit.import_checkpoint.before_reading import CONVERT, check_file

MOST_TENSORS = 5_000  # BERT has 200
MODULES = ("img_enc", "txt_enc", "sim_enc")  # of a model that is saved as one module, as RCAR's is
Part = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What a train loop saved.

    Attributes:
        parts: the state of each part of the model, in order, float32 and without the `module.` of DataParallel.
            The state of one module with `MODULES` in it is taken apart into those.
        apart: whether it was.
        options: the plain values of `opt`.
    """

    path: Path
    parts: list[Part]
    apart: bool
    options: Mapping[str, Any]
    epoch: int
    best_rsum: float

    def named(self, part: int, key: str) -> str:
        """What to call a tensor in errors: as the file names it."""
        return f"{MODULES[part]}.{key[:60]}" if self.apart else f"{key[:60]} of part {part}"


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint of the form {"epoch", "model", "best_rsum", "opt", ...}.

    Raises:
        ItmkitError: it is not one, names more than tensors and plain containers, is damaged, has tensors larger than
            the file, or NaN in them. It is never read in another way then.
    """
    check_file(path)
    found = _loaded(path)
    if not isinstance(found, dict) or "model" not in found:
        raise ItmkitError(f"{path}: has no 'model'; a checkpoint of a train loop is needed, with 'model' and 'opt'")
    model, options = found["model"], found.get("opt")
    states = [model] if isinstance(model, dict) else list(model) if isinstance(model, (list, tuple)) else []
    if not 0 < len(states) <= 8 or not all(isinstance(state, dict) for state in states):
        raise ItmkitError(f"{path}: 'model' is no list of weights by name")
    if not isinstance(options, argparse.Namespace):
        raise ItmkitError(f"{path}: has no 'opt', which says how its scores are computed; they cannot be guessed")
    parts = [_plain(path, state, path.stat().st_size) for state in states]
    apart = isinstance(model, dict) and {key.partition(".")[0] for key in parts[0]} == set(MODULES)
    if apart:
        parts = [_within(parts[0], f"{module}.") for module in MODULES]
    epoch, rsum = found.get("epoch", 0), found.get("best_rsum", 0.0)
    whole = isinstance(epoch, int) and not isinstance(epoch, bool) and 0 <= epoch < 1 << 31
    real = isinstance(rsum, (int, float)) and math.isfinite(rsum)
    values = {
        key: value for key, value in vars(options).items() if isinstance(value, (str, int, float, dict, type(None)))
    }
    return Checkpoint(path, parts, apart, values, epoch if whole else 0, float(rsum) if real else 0.0)


def _loaded(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ItmkitError(
            f"{path}: is more than weights, or damaged ({_reason(error)}); nothing of it was run; {CONVERT}"
        ) from None
    except Exception as error:  # a forged file can fail in any way
        raise ItmkitError(f"{path}: cut short or damaged ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    said = first_line(error).removeprefix("Weights only load failed. ")
    return said[:160]


def _plain(path: Path, state: dict[Any, Any], size: int) -> Part:
    """The tensors of one part, checked. Numbers of half or double precision become float32."""
    if len(state) > MOST_TENSORS:
        raise ItmkitError(f"{path}: has {len(state):,} tensors in one part")
    wrong = [str(key)[:60] for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if wrong:
        raise ItmkitError(f"{path}: {', '.join(wrong[:5])}: not tensors by name")
    wanted = sum(value.numel() * value.element_size() for value in state.values())
    if wanted > size or any(value.layout != torch.strided or value.is_quantized for value in state.values()):
        raise ItmkitError(f"{path}: its tensors claim {wanted:,} bytes, and the file has {size:,}")
    wrapped = bool(state) and all(key.startswith("module.") for key in state)
    part = {key.removeprefix("module.") if wrapped else key: value.detach() for key, value in state.items()}
    lost = [key for key, value in part.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if lost:
        raise ItmkitError([f"{path}: {key} holds NaN or infinity" for key in lost[:10]])
    return {key: value.float() if value.is_floating_point() else value for key, value in part.items()}


def _within(part: Part, start: str) -> Part:
    return {key.removeprefix(start): value for key, value in part.items() if key.startswith(start)}

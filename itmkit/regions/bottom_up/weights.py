"""Weights of detectron2 models: files as they are passed around, and whether they fit a model.

The names in the files of the Visual Genome model are those of the fork of detectron2 that made them. Ours are the same
but for the attribute layers, which are a module of their own.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itmkit.errors import ItmkitError, first_line
from itmkit.regions.bottom_up.pickles import PickledArray, read_pickle

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pkl", ".pth", ".pt", ".safetensors")
_MODULE = "roi_heads.box_predictor.attributes."
# What some files hold beside the weights. It follows from the settings, or is a count of the training.
_BESIDE = re.compile(r"pixel_mean|pixel_std|.*anchor_generator\.cell_anchors.*|.*\.num_batches_tracked")
_SHOWN = 10  # names in one error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file by name, on the CPU.

    A .pkl holds numpy arrays, {"model": {name: array}} or {name: array}. Nothing else in it is admitted. A .pth is read
    by torch's weights-only loader, a .safetensors by safetensors.

    Raises:
        ItmkitError: there is no such file or kind of file, its content is forbidden, or it holds no tensors.
    """
    import torch

    if not path.is_file():
        raise ItmkitError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".pkl":
        found = read_pickle(path)
    elif path.suffix in SUFFIXES:
        found = _torch_file(path)
    else:
        raise ItmkitError(f"{path}: weights are read from {', '.join(SUFFIXES)} files")
    if isinstance(found, dict) and "blobs" in found:
        raise ItmkitError(f"{path}: holds weights of Caffe2's Detectron; convert them to detectron2's names first")
    entries = found.get("model", found) if isinstance(found, dict) else None
    if not isinstance(entries, Mapping) or not entries:
        raise ItmkitError(f"{path}: holds no weights; a dictionary of names and arrays is needed")
    weights = {}
    for name, value in entries.items():
        if isinstance(value, PickledArray) and hasattr(value, "values"):
            value = torch.from_numpy(value.values)
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ItmkitError(f"{path}: {name!r} is no array but {type(value).__name__}")
        weights[name] = value
    return weights


def fitted(path: Path, weights: Mapping[str, torch.Tensor], model: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The weights under the names of a model.

    Args:
        path: the file, for errors. weights: by the names in the file. model: the model's own state, by its names.

    Raises:
        ItmkitError: with all names that are missing, that the model does not have, or that have another shape.
    """
    given = {name: value for name, value in weights.items() if not _BESIDE.fullmatch(name)}
    wanted = {file_name(name): name for name in model if not _BESIDE.fullmatch(name)}
    missing = [name for name in wanted if name not in given]
    if missing and not any(name.endswith((".running_mean", ".running_var")) for name in given):
        # Files converted from Caffe2 have the statistics of the batch norms folded into scale and shift.
        for name in [name for name in missing if name.endswith((".norm.running_mean", ".norm.running_var"))]:
            state = model[wanted[name]]
            given[name] = state.new_ones(state.shape) if name.endswith("var") else state.new_zeros(state.shape)
        missing = [name for name in missing if name not in given]
    unexpected = [name for name in given if name not in wanted]
    misshaped = [
        f"{name} is {tuple(given[name].shape)}, {tuple(model[ours].shape)} is needed"
        for name, ours in wanted.items()
        if name in given and given[name].shape != model[ours].shape
    ]
    problems = [
        f"{path}: {len(names)} weights {what}: {_listed(names)}"
        for what, names in (
            ("are missing", missing),
            ("are not of this model", unexpected),
            ("have another shape", misshaped),
        )
        if names
    ]
    if problems:
        raise ItmkitError([*problems, f"{path}: is of another model, or of another configuration than the one given"])
    return {ours: given[name] for name, ours in wanted.items()}


def file_name(name: str) -> str:
    """How a weight of ours is called in the files: the attribute layers lie beside the others there."""
    return name.replace(_MODULE, "roi_heads.box_predictor.", 1) if name.startswith(_MODULE) else name


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _torch_file(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"GLOBAL (\S+)", str(error))
        raise ItmkitError(
            f"{path}: holds more than tensors ({reason[1] if reason else 'forbidden content'}), which can run code when"
            " it is read; it was refused and nothing of it was run. Save the model's state_dict alone"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ItmkitError(f"{path}: is no file of torch.save, or damaged ({first_line(error)})") from None


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ItmkitError(f"{path}: is no safetensors file, or damaged ({first_line(error)})") from None

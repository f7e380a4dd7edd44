"""The state of an unfinished run in one file, `last/state.safetensors`, replaced by rename."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from itmkit.errors import ItmkitError
from itmkit.files import atomic_path


def save_weights(path: Path, module: nn.Module, facts: Mapping[str, Any]) -> None:
    """A member's weights and running statistics, with facts (JSON) in the header."""
    _save(path, {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}, facts)


def load_weights(path: Path, module: nn.Module) -> dict[str, Any]:
    """Loads what `save_weights` wrote; returns its facts."""
    tensors, facts = _load(path)
    own = module.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) + [
        k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape
    ]
    if wrong:
        raise ItmkitError(f"{path}: does not hold the weights of this configuration ({', '.join(wrong[:5])})")
    module.load_state_dict(tensors)
    return facts


def save_state(
    path: Path, members: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]
) -> None:
    """Weights of every member, the moments of Adam, and everything else that the next step depends on."""
    tensors: dict[str, Tensor] = {}
    for name, module in members.items():
        tensors |= {f"weights/{name}/{key}": value.detach().cpu() for key, value in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{number}/{key}": torch.as_tensor(value).cpu() for key, value in state.items()}
    _save(path, tensors, facts)


def load_state(path: Path, members: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restores what `save_state` wrote; returns its facts."""
    tensors, facts = _load(path)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam/"):
            _, number, name = key.split("/")
            moments.setdefault(int(number), {})[name] = value
    for name, module in members.items():
        prefix = f"weights/{name}/"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return facts


def _save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    # One metadata key: safetensors does not keep the order of several, and files would differ from run to run.
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    data = save({key: value.contiguous().clone() for key, value in tensors.items()}, {"itmkit": text})
    with atomic_path(path) as partial:
        partial.write_bytes(data)  # Python writes, so that a full disk is an OSError like any other


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = json.loads((file.metadata() or {}).get("itmkit", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError:
        raise ItmkitError(f"{path}: no such file; run `itmkit train` first") from None
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ItmkitError(
            f"{path}: not weights written by itmkit ({error}). Checkpoints of other programs, pickled ones above all,"
            " are not read"
        ) from None
    if not isinstance(facts, dict):
        raise ItmkitError(f"{path}: safetensors, but not written by itmkit train")
    return tensors, facts

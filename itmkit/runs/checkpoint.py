"""The state of an unfinished run in one file, `last/state.safetensors`, replaced by rename."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from itmkit.errors import ItmkitError
from itmkit.files import atomic_path
from itmkit.typed import parse_json

DIGEST = "sha256"
_MOMENT = re.compile(r"adam/(\d{1,9})/(\w+)")


def save_weights(path: Path, module: nn.Module, facts: Mapping[str, Any]) -> None:
    """A member's weights and running statistics, with facts (JSON) in the header."""
    _save(path, {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}, facts)


def load_weights(path: Path, module: nn.Module) -> dict[str, Any]:
    """Loads what `save_weights` wrote; returns its facts."""
    tensors, facts = load(path)
    _check(path, module.state_dict(), tensors)
    module.load_state_dict(tensors)
    return facts


def _check(path: Path, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    wrong = sorted(set(own) ^ set(tensors)) + [
        k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape
    ]
    if wrong:
        raise ItmkitError(f"{path}: does not hold the weights of this configuration ({', '.join(wrong[:5])})")


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
    tensors, facts = load(path)
    own = {f"weights/{name}/{k}": v for name, module in members.items() for k, v in module.state_dict().items()}
    learned = [value for group in optimizer.param_groups for value in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        found = _MOMENT.fullmatch(key)
        if found is not None and int(found[1]) < len(learned):
            if value.shape not in ((), learned[int(found[1])].shape):
                raise ItmkitError(f"{path}: {key} has the shape {tuple(value.shape)}, not that of what is learned")
            moments.setdefault(int(found[1]), {})[found[2]] = value
    _check(path, own, {key: value for key, value in tensors.items() if not key.startswith("adam/")})
    for name, module in members.items():
        prefix = f"weights/{name}/"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return facts


def _save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    facts = {**facts, DIGEST: _digest(tensors, facts)}  # in the file itself, so that no kill can part the two
    # One metadata key: safetensors does not keep the order of several, and files would differ from run to run.
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    data = save({key: value.clone() for key, value in tensors.items()}, {"itmkit": text})
    with atomic_path(path) as partial:
        partial.write_bytes(data)  # Python writes, so that a full disk is an OSError like any other


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of such a file. Raises ItmkitError if it is another, or if its content has changed."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = parse_json((file.metadata() or {}).get("itmkit", "null"), f"{path}: header")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError:
        raise ItmkitError(f"{path}: no such file; run `itmkit train` first") from None
    except (SafetensorError, UnicodeDecodeError, OSError, ValueError) as error:
        raise ItmkitError(
            f"{path}: not weights written by itmkit ({error}). Checkpoints of other programs, pickled ones above all,"
            " are not read"
        ) from None
    if not isinstance(facts, dict):
        raise ItmkitError(f"{path}: safetensors, but not written by itmkit train")
    digest = facts.pop(DIGEST, None)
    if digest is not None and digest != _digest(tensors, facts):
        raise ItmkitError(
            f"{path}: its content is not what was written; restore it, or train the run anew with --force"
        )
    return tensors, facts


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Hex sha256 of the facts and of every tensor: its name, type, shape and bytes."""
    state = hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()

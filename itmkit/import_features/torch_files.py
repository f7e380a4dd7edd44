"""Files that torch.save wrote: tensors of one picture, or {id: tensors} of many.

torch.load reads them with `weights_only`, which makes tensors, numbers and text and calls nothing else that a file
names. Before that the zip directory is looked at: torch packs nothing, so a file that is packed was made by somebody
else, and could unpack to any size.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.errors import first_line
from itmkit.import_features.named_arrays import WrongFile, region_set
from itmkit.import_features.npy import PICKLED, is_pickle
from itmkit.import_features.region_sets import RegionSet


def parse_pt(data: bytes, boxes: np.ndarray | None = None) -> tuple[RegionSet, bool]:
    """(the regions, False) of the bytes of a file of one picture: a tensor of features, or a dict of arrays by name."""
    if is_pickle(data[:16]):
        raise WrongFile(f"was saved by an old version of PyTorch: it {PICKLED}, or save it again with torch.save")
    _check_zip(BytesIO(data), len(data))
    return of_value(_load(BytesIO(data), mmap=False), boxes), False


def load_pictures(path: Path) -> dict[str, Any]:
    """{id: tensor, or dict of tensors} of a file of many pictures; the tensors stay on disk until they are used.

    Raises:
        WrongFile: the file is none that torch.save wrote, or no dict of pictures.
    """
    with open(path, "rb") as file:
        if is_pickle(file.read(16)):
            raise WrongFile(f"was saved by an old version of PyTorch: it {PICKLED}, or save it again with torch.save")
    _check_zip(path, path.stat().st_size)
    found = _load(path, mmap=True)
    if not isinstance(found, Mapping) or not found or not all(_is_picture(value) for value in found.values()):
        raise WrongFile("holds no dict {id of a picture: tensor of features (n, D), or dict of tensors}")
    return {str(key): value for key, value in found.items()}


def of_value(value: Any, boxes: np.ndarray | None = None) -> RegionSet:
    """The regions of one picture, from a tensor or a dict. Raises WrongFile."""
    named = {str(key): part for key, part in value.items()} if isinstance(value, Mapping) else {"features": value}
    return region_set(named, lambda name: _array(named[name], name), boxes)


def _is_picture(value: Any) -> bool:
    import torch

    return isinstance(value, Mapping) or (isinstance(value, torch.Tensor) and value.ndim >= 2)


def _array(value: Any, name: str) -> np.ndarray:
    import torch

    if isinstance(value, torch.Tensor):
        plain = value.detach().resolve_conj().resolve_neg()  # features may have been saved with their gradients
        try:
            return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, of 8 bits, without data
            raise WrongFile(f"{name!r} is a tensor without plain numbers ({first_line(error)})") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return np.array(value)
    if isinstance(value, list | tuple):
        try:
            return np.array(value, np.float32)
        except (ValueError, TypeError, RuntimeError, OverflowError):
            pass
    raise WrongFile(f"{name!r} is neither a tensor nor a number")


def _check_zip(file: Path | BytesIO, size: int) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile raises many kinds on damaged files
        raise WrongFile(f"not a file that torch.save wrote, or a damaged one ({type(error).__name__})") from None
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WrongFile("is packed, which torch.save never does")
    if sum(entry.file_size for entry in entries) > size:
        raise WrongFile("claims to hold more bytes than the file has")


def _load(file: Path | BytesIO, *, mmap: bool) -> Any:
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except MemoryError:
        raise
    except Exception as error:  # pickle.UnpicklingError, RuntimeError and many others on damaged files
        text = first_line(error)
        if "weights_only" in str(error) or "Unsupported" in text or "WeightsUnpickler" in str(error):
            raise WrongFile("holds Python objects besides tensors, which are never read; save tensors alone") from None
        raise WrongFile(f"not a file that torch.save wrote, or a damaged one ({text[:120]})") from None

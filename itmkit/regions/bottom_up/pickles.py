"""Reads pickled weights without running anything: a pickle may hold arrays of numbers and plain containers only.

Every name a pickle refers to is looked up in a fixed table. The table holds stand-ins from this module, not numpy's own
functions, so the worst a forged array can do is to look damaged.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from itmkit.errors import ItmkitError

_NUMBERS = {f"{kind}{size}" for kind, sizes in {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,)}.items()
            for size in sizes}  # fmt: skip


class PickledArray:
    """An array as a pickle describes it. `values`: the numbers."""

    values: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, number, by_column, data = state
        self.values = _array(data, number, shape, "F" if by_column else "C")


class _NumberType:
    def __init__(self, name: Any, *flags: Any) -> None:
        if name not in _NUMBERS:
            raise _Damaged(f"an array of type {name!r}; only numbers are admitted")
        self.name, self.order = name, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = {">": ">"}.get(state[1], "<")


class _Damaged(Exception):
    pass


class _Forbidden(Exception):
    pass


def _array(data: Any, number: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin-1")  # pickles of Python 2
    if not isinstance(number, _NumberType) or not isinstance(data, (bytes, bytearray)):
        raise _Damaged("an array without numbers")
    shape = tuple(shape)
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise _Damaged(f"an array of shape {shape}")
    dtype = np.dtype(number.order + number.name)
    if math.prod(shape) * dtype.itemsize != len(data):
        raise _Damaged(f"{len(data)} bytes for an array of shape {shape} and type {number.name}")
    found = np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")
    return found.astype(dtype.newbyteorder("="))  # a copy: what torch takes must be writable


def _empty(*facts: Any) -> PickledArray:
    return PickledArray()  # the array itself follows as its state


def _from_buffer(data: Any, number: Any, shape: Any, order: Any = "C") -> PickledArray:
    array = PickledArray()
    array.values = _array(data, number, shape, order)
    return array


def _scalar(number: Any, data: Any) -> PickledArray:
    return _from_buffer(data, number, ())


def _latin(text: Any, encoding: Any = "latin1") -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise _Damaged("bytes in an encoding of their own")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    return b""  # which old protocols write as a call of bytes()


_TABLE: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _NumberType,
    ("_codecs", "encode"): _latin,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): dict,
}
for _core in ("numpy.core", "numpy._core"):
    _TABLE[f"{_core}.multiarray", "_reconstruct"] = _empty
    _TABLE[f"{_core}.multiarray", "scalar"] = _scalar
    _TABLE[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _ArraysOnly(pickle._Unpickler):
    """The reader written in Python, whose memo is a dictionary.

    The one in C has a list, which grows to the greatest number that a file gives an object: four changed bytes ask for
    64 GiB. Weights are few objects, so the time is the same.
    """

    # A bytearray is read as bytes are. The library's own would first fill with zeros what the file claims to have.
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _TABLE[module, name]
        except KeyError:
            raise _Forbidden(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Forbidden("a reference to an object outside the file")


def read_pickle(path: Path) -> Any:
    """What a pickle holds. Arrays and numpy scalars come as `PickledArray`.

    Raises:
        ItmkitError: the file is damaged or not a pickle, or it refers to something other than an array or a plain
            container. The error names that reference, which is never run.
    """
    try:
        with open(path, "rb") as file:
            return _ArraysOnly(file, encoding="latin1").load()
    except _Forbidden as found:
        hint = "; save its tensors with torch.save as .pth" if str(found).startswith("torch") else ""
        raise ItmkitError(
            f"{path}: refers to {found}, and a pickle that holds more than numpy arrays can run code when it is read;"
            f" it was refused and nothing of it was run{hint}"
        ) from None
    except OSError as error:
        raise ItmkitError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a damaged pickle can fail in any way
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ItmkitError(f"{path}: is no pickle of numpy arrays, or damaged ({reason})") from None

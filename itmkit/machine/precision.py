"""Matrix products in bfloat16 with sums in float32, on hardware that has them.

Only products of matrices are rounded: what goes into them, to 8 significant bits, and what comes out. Everything
between them (norms, softmax, exponentials) stays float32.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Products = Literal["float32", "bfloat16"]
WantedProducts = Literal["auto", "float32", "bfloat16"]

_PRODUCTS = {
    *(torch.matmul, torch.mm, torch.bmm, torch.einsum, torch.addmm, torch.baddbmm),
    *(torch.linalg.multi_dot, functional.linear),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.bmm),
}


def precision_of(wanted: WantedProducts, device: torch.device) -> Products:
    """What `auto` means on this machine: bfloat16 where its processor multiplies matrices of it."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if has_bfloat16(device) else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 matrices are done in hardware, which makes them several times as fast."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def products_in(precision: Products, device: torch.device) -> AbstractContextManager[object]:
    """Within it, and within this thread, products of float32 matrices are done in this precision.

    In training their gradients are products of the same precision, since what they are products of is.
    """
    return nullcontext() if precision == "float32" else _Rounded(hardware=has_bfloat16(device))


def products_as_here() -> AbstractContextManager[object]:
    """The precision of this thread now, to be entered later, perhaps by another thread.

    A forward pass that is done again for its gradients is done by the thread that computes these.
    """
    return nullcontext() if _here.mode is None else _Again(hardware=_here.mode.hardware)


@contextmanager
def products_unrounded() -> Iterator[None]:
    """Within it, and within this thread, products are those of float32, also where `products_in` is around it."""
    before, _here.whole = _here.whole, True
    try:
        yield
    finally:
        _here.whole = before


class _Here(threading.local):
    """Where this thread is."""

    mode: _Rounded | None = None  # in which `products_in` of less than float32
    whole: bool = False  # in `products_unrounded`


_here = _Here()


class _Rounded(TorchFunctionMode):
    """Without the hardware the same roundings, and a product in float32: as exact as with it, and no faster."""

    def __init__(self, *, hardware: bool) -> None:
        super().__init__()
        self.hardware = hardware

    def __enter__(self) -> _Rounded:
        self._outside, _here.mode = _here.mode, self
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)  # type: ignore[no-untyped-call]
        _here.mode = self._outside

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func not in _PRODUCTS or _here.whole:
            # Torch leaves the mode while it calls `func`. What `func` computes itself is not rounded: `backward`, for
            # one, may do a forward pass again, and must enter the mode for it.
            _here.mode = self._outside
            try:
                return func(*args, **(kwargs or {}))
            finally:
                _here.mode = self
        # The rounded product has memory of its own, so there is nothing to write into.
        named = {name: value for name, value in (kwargs or {}).items() if name != "out"}
        product = func(*self._round(list(args)), **{name: self._round(value) for name, value in named.items()})
        if product.dtype == torch.float64:
            return product
        return product.float() if self.hardware else product.bfloat16().float()

    def _round(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):  # of operands
            return [self._round(one) for one in value]
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        return value.bfloat16() if self.hardware else value.bfloat16().float()


class _Again(AbstractContextManager[None]):
    """A `_Rounded` of the thread that enters it, unless that thread is in one."""

    def __init__(self, *, hardware: bool) -> None:
        self._hardware = hardware

    def __enter__(self) -> None:
        self._mode = nullcontext() if _here.mode is not None else _Rounded(hardware=self._hardware)
        self._mode.__enter__()

    def __exit__(self, *failure: Any) -> None:
        self._mode.__exit__(*failure)

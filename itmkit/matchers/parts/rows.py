"""Padded sets of vectors without their padding, so that no time goes into it."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor


class Rows:
    """Where the real rows of a padded tensor (B, N, ...) are, to lay them end to end, (T, ...), and back."""

    def __init__(self, mask: Tensor) -> None:
        """mask: (B, N) bool, True for the T real rows."""
        self.mask, self.even = mask, bool(mask.all())  # even: no padding; both ways are views then

    @cached_property
    def _places(self) -> Tensor:
        """(T,) int64, in the padded order."""
        return self.mask.flatten().nonzero().squeeze(1)

    def take(self, padded: Tensor) -> Tensor:
        """(B, N, ...) -> (T, ...)"""
        flat = padded.flatten(0, 1)
        return flat if self.even else flat.index_select(0, self._places)

    def put(self, rows: Tensor) -> Tensor:
        """(T, ...) -> (B, N, ...), zero where the mask is False."""
        if not self.even:
            padded = rows.new_zeros(self.mask.numel(), *rows.shape[1:])
            rows = padded.index_copy(0, self._places, rows)
        return rows.unflatten(0, self.mask.shape)  # type: ignore[no-any-return,no-untyped-call]

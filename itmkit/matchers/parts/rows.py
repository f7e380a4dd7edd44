"""Padded sets of vectors without their padding, so that no time goes into it."""

from __future__ import annotations

import torch
from torch import Tensor


class Rows:
    """Where the real rows of a padded tensor (B, N, ...) are, to lay them end to end, (T, ...), and back."""

    def __init__(self, mask: Tensor) -> None:
        """mask: (B, N) bool, True for the T real rows."""
        self.mask = mask
        # Where there is no padding, both ways are views.
        self._places = None if bool(mask.all()) else mask.flatten().nonzero().squeeze(1)

    def take(self, padded: Tensor) -> Tensor:
        """(B, N, ...) -> (T, ...)"""
        flat = padded.flatten(0, 1)
        return flat if self._places is None else flat.index_select(0, self._places)

    def put(self, rows: Tensor) -> Tensor:
        """(T, ...) -> (B, N, ...), zero where the mask is False."""
        if self._places is not None:
            rows = torch.zeros(self.mask.numel(), *rows.shape[1:], dtype=rows.dtype, device=rows.device).index_copy(
                0, self._places, rows
            )
        return rows.unflatten(0, self.mask.shape)  # type: ignore[no-any-return,no-untyped-call]

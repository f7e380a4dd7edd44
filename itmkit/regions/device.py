"""Where a model runs, and errors of the device in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from itmkit.errors import ItmkitError


def usable_device(device: str | None) -> str:
    """`device`, as torch names it; for None cuda where there is one, else cpu.

    Raises:
        ItmkitError: there is no such device here.
    """
    if device == "cpu":
        return device
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ItmkitError(f"--device {device}: cannot be used here ({reason})") from None
    return device


@contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Turns torch's error about too little memory into advice. `batch`: pictures or captions run at once."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate" not in str(error):
            raise
        raise ItmkitError(
            f"the device has not enough memory for a batch of {batch}; lower --batch-size"
            " (what is done is kept, the run continues)"
        ) from error

"""Where a model runs, and errors of the device in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from itmkit.errors import ItmkitError, first_line

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


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


def half(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Within it, torch computes products in this precision and keeps sums, norms and softmaxes in float32."""
    import torch

    return torch.autocast(device.type, dtype=getattr(torch, precision), enabled=precision != "float32")


def check_precision(precision: Any, problems: list[str]) -> None:
    """Adds to the problems where there is no such precision."""
    if precision not in PRECISIONS:
        problems.append(f"precision {precision!r}: there are {', '.join(PRECISIONS)}")


def recorded(precision: Precision) -> dict[str, str]:
    """The precision as a cache records it among its settings; float32 goes without saying."""
    return {} if precision == "float32" else {"precision": precision}


# What torch and the libraries below it say, in small letters. On a GPU the error is a RuntimeError too.
LACK_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate",
    "bad_alloc",
    "create a memory",
    "alloc_failed",
    "size calculation",
)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, of the machine or of a GPU."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in LACK_OF_MEMORY)


@contextmanager
def memory_for(what: str, advice: str) -> Iterator[None]:
    """Turns an error about too little memory into one sentence.

    Args:
        what: what the memory is needed for; advice: what to do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
        raise ItmkitError(f"not enough memory for {what}: {advice} ({first_line(error)})") from error


@contextmanager
def enough_memory(batch: int, option: str = "--batch-size") -> Iterator[None]:
    """Turns torch's error about too little memory into advice.

    batch: pictures, captions or tokens run at once; option: the one that says how many.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
        raise ItmkitError(
            f"the device has not enough memory for a batch of {batch}; lower {option}"
            " (what is done is kept, the run continues)"
        ) from error

"""Several processes on one stage: the ranks of torchrun, or the jobs of an array (`--shard i/n`).

Nothing here talks between processes: each owns the shards of its part, and files tell who is done.
"""

from __future__ import annotations

import os

from itmkit.errors import ItmkitError
from itmkit.machine.part import WHOLE, Part


def rank() -> Part:
    """This process among those torchrun started: (RANK, WORLD_SIZE) of the environment; (0, 1) without torchrun."""
    try:
        return Part(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError:
        raise ItmkitError("RANK and WORLD_SIZE in the environment are no numbers; torchrun sets them") from None


def part_to_do(shard: str | None) -> Part:
    """The part of a cache this process writes: that of `--shard i/n`, else that of its rank.

    Raises:
        ItmkitError: both are given.
    """
    mine = rank()
    if shard is None:
        return mine
    if mine != WHOLE:
        raise ItmkitError("--shard and torchrun both divide the work; use one of them")
    return Part.parse(shard)


def rank_device() -> str | None:
    """The device of this rank: the cuda device of its number on its machine, where there is cuda; else None."""
    if rank() == WHOLE:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"

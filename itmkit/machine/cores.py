"""What a computation costs in core seconds, on a quiet machine and on a busy one alike."""

from __future__ import annotations

import time

import torch


def core_seconds(device: torch.device) -> float:
    """A clock of core seconds, of which differences mean something.

    On the processor it is the processor time of all threads of this process, which stands still while other processes
    have the cores. A GPU counts as one core, by the clock on the wall.
    """
    return time.process_time() if device.type == "cpu" else time.perf_counter()

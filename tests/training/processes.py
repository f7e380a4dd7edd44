"""Two processes for tests, connected as torchrun connects them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run_two(target: Callable[..., None], *arguments: Any) -> list[int | None]:
    """`target(0, *arguments)` and `target(1, *arguments)`, each in a new process; their exit codes.

    The processes are forked from a server that loads torch, what its optimizers load when they are first used and the
    module of the first target once for all tests of a pytest process. They cannot be forked from pytest's own process:
    autograd does not work in a child of a process that has used it.
    """
    port = free_port()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["itmkit.training.train", target.__module__, "torch._dynamo"])
    running = [context.Process(target=_start, args=(index, port, target, arguments)) for index in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(300)
    return [process.exitcode for process in running]


def _start(index: int, port: int, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(index), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    target(index, *arguments)

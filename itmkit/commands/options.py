"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from itmkit.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])


def _workspace(context: click.Context, parameter: click.Parameter, value: str) -> Workspace:
    return Workspace(Path(value))


def workspace_option(function: F) -> F:
    """`-w DIR`: passes a `Workspace` as the argument `workspace`."""
    return click.option(
        "-w",
        "--workspace",
        envvar="ITMKIT_WORKSPACE",
        default=".",
        show_default="current folder",
        type=click.Path(file_okay=False),
        callback=_workspace,
        help="Folder with the data set and its caches.",
    )(function)


def force_option(function: F) -> F:
    return click.option("--force", is_flag=True, help="Do it anew, whatever an earlier run left.")(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for machines.")(function)


def device_option(function: F) -> F:
    return click.option(
        "--device", default=None, show_default="cuda if there is one, else cpu", help="Where the model runs."
    )(function)


Path_ = click.Path(path_type=Path)

"""What a shell offers after the tab key: methods, runs and splits. Nothing here loads a model or a cache."""

from __future__ import annotations

import json
from contextlib import suppress
from importlib import resources

import click

from itmkit.commands.visible import visible
from itmkit.workspace import Workspace


def methods(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """By their folders of recipes, since the methods themselves load torch."""
    folders = (resources.files("itmkit.methods") / "recipes").iterdir()
    return sorted(entry.name for entry in folders if entry.is_dir() and entry.name.startswith(begun))


def methods_in_a_list(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """`mpsm,sc` goes on with `mpsm,scan`."""
    before, comma, last = begun.rpartition(",")
    return [before + comma + name for name in methods(context, parameter, last)]


def runs(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Those whose names a terminal shows as they are."""
    from itmkit.runs.facts import run_names

    return [name for name in run_names(_workspace(context)) if name.startswith(begun) and visible(name) == name]


def runs_and_methods(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    return runs(context, parameter, begun) + methods(context, parameter, begun)


def splits(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Those of the data set, and the protocols."""
    from itmkit.evaluation.protocols import PROTOCOLS

    there: list[str] = []
    with suppress(OSError, ValueError, KeyError, TypeError):  # no data set, or none that can be read
        there = list(json.loads(_workspace(context).dataset_info_path.read_text(encoding="utf-8"))["counts"])
    return [name for name in dict.fromkeys([*there, *PROTOCOLS]) if name.startswith(begun)]


def _workspace(context: click.Context) -> Workspace:
    given = context.params.get("workspace")
    return given if isinstance(given, Workspace) else Workspace(".")

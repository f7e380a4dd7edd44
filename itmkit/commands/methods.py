"""itmkit methods."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from itmkit.commands import complete
from itmkit.commands.options import json_option, workspace_option
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.methods.about import About


@click.command("methods")
@click.argument("name", required=False, shell_complete=complete.methods)
@workspace_option
@json_option
def command(name: str | None, workspace: Workspace, as_json: bool) -> None:
    """List the methods, or describe one: its settings, caches and recipes, and what its papers report.

    Inside a workspace it also says which of those caches are there.

    \b
    Examples:
      itmkit methods
      itmkit methods mpsm
      itmkit methods glfn -w work --json
    """
    from itmkit.commands.console import print_json, table
    from itmkit.matchers import METHODS
    from itmkit.methods.about import about

    there = workspace if workspace.dataset_path.exists() else None
    if name is not None:
        found = about(name, there)
        print_json(asdict(found)) if as_json else _show(found)
        return
    every = [about(one) for one in METHODS]
    if as_json:
        print_json([{"name": one.name, "says": one.says, "recipes": list(one.recipes)} for one in every])
        return
    table(None, ["method", "what it is", "recipes"], [(one.name, one.says, ", ".join(one.recipes)) for one in every])


def _show(found: About) -> None:
    from itmkit.commands.console import out, styled, table
    from itmkit.methods.reported import NAMES

    out.print(styled((found.name, "bold"), f"  {found.says}"))
    if len(found.members) > 1:
        parts = ", ".join(f"{name} ({weight:g})" for name, weight in found.members.items())
        out.print(f"an ensemble of independently trained members, by weight: {parts}")
    rows = [(one.option, _default(one.default), one.values, one.says) for one in found.settings]
    out.print()
    table("settings of `itmkit train`", ["option", "default", "may be", "meaning"], rows)
    columns = ["cache", "command that makes it"] + (["state"] if found.caches[0].state else [])
    caches = [(one.name, one.command, one.state)[: len(columns)] for one in found.caches]
    out.print()
    table("caches it reads, with these defaults", columns, caches)
    out.print()
    table("recipes (--recipe)", ["recipe", "what for"], list(found.recipes.items()))
    if not found.reported:
        return
    six = [one for one in found.reported if NAMES[0] in one.figures and one.kind]
    if six:
        cells = []
        for one in six:
            figures = [f"{one.figures[name]:.1f}" if name in one.figures else "-" for name in NAMES]
            cells.append((one.model, one.kind, one.selected or "-", one.protocol, *figures))
        title = f"reported, not measured by itmkit ({'; '.join(dict.fromkeys(one.source for one in six))})"
        out.print()
        table(title, ["in the paper", "kind", "chosen on", "protocol", *NAMES], cells, right=NAMES)
    other = [one for one in found.reported if one not in six]
    if other:
        title = f"reported, not measured by itmkit ({'; '.join(dict.fromkeys(one.source for one in other))})"
        lines = [(one.model, one.protocol, one.figures_in_words) for one in other]
        out.print()
        table(title, ["in the paper", "on", "figures"], lines)
        for caveat in dict.fromkeys(one.caveat for one in other):
            out.print(f"these compare with nothing but each other: {caveat}")
    ablations = [(one.model, one.settings) for one in found.reported if one.settings]
    if ablations:
        out.print()
        table("rows of its tables as options", ["row", "itmkit train ..."], list(dict.fromkeys(ablations)))


def _default(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "the only one"

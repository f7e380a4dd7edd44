"""itmkit status."""

from __future__ import annotations

import shlex
from dataclasses import asdict

import click
from rich.text import Text

from itmkit.commands.console import out, print_json, styled, table
from itmkit.commands.options import json_option, workspace_option
from itmkit.files import size_in_words
from itmkit.status import next_command, status
from itmkit.workspace import Workspace

STYLES = {"done": "green", "partial": "yellow", "missing": "dim", "stale": "yellow", "damaged": "bold red"}


@click.command("status")
@workspace_option
@json_option
@click.pass_context
def command(context: click.Context, workspace: Workspace, as_json: bool) -> None:
    """Show every stage of the workspace: done, partial, missing, stale or damaged, and what to run next.

    A stage is stale if what it was made from (pictures, captions, earlier caches) has changed since.

    \b
    Example:
      itmkit status -w work
    """
    rows = status(workspace)
    if as_json:
        print_json([{**asdict(row), "path": str(row.path)} for row in rows])
        return
    table(
        None,
        ["stage", "state", "rows", "skipped", "size", "detail"],
        [
            (
                row.stage,
                Text(row.state, STYLES[row.state]),
                f"{row.count:,}" if row.count else "",
                f"{row.skipped:,}" if row.skipped else "",
                size_in_words(row.bytes) if row.bytes else "",
                row.detail,
            )
            for row in rows
        ],
        right=["rows", "skipped", "size"],
    )
    there = rows[0].state == "done"
    following = next_command(rows, workspace.dataset_facts().kind if there else "")
    given = context.get_parameter_source("workspace") == click.core.ParameterSource.COMMANDLINE
    where = f" -w {shlex.quote(str(workspace.root))}" if given and not following.endswith("--help") else ""
    if following:
        out.print(styled("next: ", (following + where, "bold")))
    if rows[0].state == "missing":
        out.print("which draws a data set and does everything once; for pictures of your own, `itmkit prepare --help`")

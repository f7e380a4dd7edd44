"""itmkit plot."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from itmkit.commands import complete
from itmkit.commands.options import Path_, json_option, split_option, workspace_option
from itmkit.workspace import Workspace

WHAT = ("epochs", "compare", "cmc", "precision", "slices", "labels", "alpha")


@click.command("plot")
@click.argument("what", nargs=-1, required=True, type=click.Choice(WHAT), metavar="WHAT...")
@workspace_option
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="NAME",
    shell_complete=complete.runs,
    help="A run to draw (default: every one that has what is drawn).",
)
@split_option(help="As in evaluate; epochs are of val.")
@click.option(
    "--comparison",
    default="compare",
    show_default=True,
    metavar="PREFIX",
    help="Prefix of the `itmkit compare` to draw.",
)
@click.option(
    "--figure", default="rsum", show_default=True, metavar="NAME", help='Figure of compare: rsum, "i2t R@1", ...'
)
@click.option("--members", is_flag=True, help="Draw the members of ensembles too.")
@click.option(
    "--labels",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Number of labels drawn, those with the most queries.",
)
@click.option("--out", type=Path_, metavar="FOLDER", show_default="plots/ of the workspace", help="Where to write.")
@click.option(
    "--format", type=click.Choice(["svg", "png"]), default="svg", show_default=True, help="Format of the files."
)
@click.option("--transparent", is_flag=True, help="No background, and text in a grey read on white and dark pages.")
@json_option
def command(
    what: tuple[str, ...],
    workspace: Workspace,
    runs: tuple[str, ...],
    split: str,
    comparison: str,
    figure: str,
    members: bool,
    labels: int,
    out: Path | None,
    format: Literal["svg", "png"],
    transparent: bool,
    as_json: bool,
) -> None:
    """Draw figures from the files of runs, one column of a paper wide. Needs itmkit[report].

    \b
    WHAT is one or more of
      epochs     rsum, loss and R@1 of every member and ensemble over the epochs
      compare    bars of the table of `itmkit compare`, with spread and seeds
      cmc        R@k for every k, of `itmkit evaluate --curves`
      precision  precision over recall, likewise
      slices     R@1 of slices with intervals, of `itmkit evaluate --slices`
      labels     R@1 of each label, of `itmkit evaluate --labels`
      alpha      R@1 over the weight of a member, of `itmkit evaluate --alpha`

    \b
    Examples:
      itmkit plot epochs
      itmkit plot epochs --run mpsm --run scan --format png
      itmkit plot cmc precision slices --run mpsm --split val --out figures
      itmkit plot compare --comparison ablation --figure "t2i R@1"
    """
    from itmkit.commands.console import ConsoleProgress, print_json, table
    from itmkit.report.left_out import left_out
    from itmkit.report.plots import plot

    plots = plot(
        workspace,
        what,
        runs=runs,
        split=split,
        comparison=comparison,
        figure=figure,
        members=members,
        labels=labels,
        out=out,
        format=format,
        transparent=transparent,
    )
    for note in [] if runs else left_out(workspace, what, split):
        ConsoleProgress().note(note)
    if as_json:
        print_json([one.to_json() for one in plots])
    else:
        table(None, ["plot", "of", "series", "file"], [[p.what, p.title, len(p.series), p.path] for p in plots])

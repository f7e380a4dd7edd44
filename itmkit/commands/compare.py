"""itmkit compare."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from itmkit.commands.options import device_option, force_option, json_option, workspace_option
from itmkit.commands.train import read_settings
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.evaluation.compare import Comparison, Row


@click.command("compare", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@workspace_option
@click.option(
    "--methods", required=True, metavar="A,B,...", help="Methods, with settings of their own: mefn,mefn:mfe=false."
)
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each, with seeds 0, 1, ..."
)
@click.option("--recipe", default="small", show_default=True, metavar="NAME", help="As in train.")
@click.option("--split", default="test", show_default=True, metavar="NAME", help="As in evaluate.")
@click.option("--prefix", default="compare", show_default=True, metavar="NAME", help="Begins the names of the runs.")
@device_option
@force_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    workspace: Workspace,
    methods: str,
    seeds: int,
    recipe: str,
    split: str,
    prefix: str,
    device: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Train and evaluate several methods, each with several seeds; one table with mean and spread.

    Other options are settings of training for all of them (--epochs 3). What is finished is kept: run the command
    again to continue, or to add a method. The table is also written to runs/PREFIX-SPLIT.json.

    \b
    Examples:
      itmkit compare --methods mpsm,scan,vsepp
      itmkit compare --methods mefn,mefn:mfe=false,mefn:local-attention=false --seeds 5 --recipe paper
      itmkit compare --methods cmfg,cmfg:edges=intra --epochs 4 --split val --json
    """
    from itmkit.commands.console import ConsoleProgress, print_json
    from itmkit.evaluation.compare import compare

    result = compare(
        workspace,
        [name.strip() for name in methods.split(",") if name.strip()],
        seeds=seeds,
        recipe=recipe,
        settings=read_settings(context.args),
        split=split,
        prefix=prefix,
        device=device,
        force=force,
        progress=ConsoleProgress(),
    )
    if as_json:
        print_json(result.to_json())
    else:
        show(result)


def show(result: Comparison) -> None:
    """One table of the methods, one of the members of ensembles."""
    from itmkit.commands.console import out, table
    from itmkit.evaluation.compare import FIGURES

    count = len(result.seeds)
    over = f"mean and standard deviation over {count} seeds" if count > 1 else "one seed, so no spread is known"
    title = f"{result.says}: {result.images:,} images, {result.captions:,} captions; {over}"
    for heading, rows in ((title, result.rows), ("their members, each by itself", result.members)):
        if rows:
            cells = [[row.name, row.kind, *(_cell(row, figure) for figure in FIGURES)] for row in rows]
            table(heading, ["method", "kind", *FIGURES], cells, right=FIGURES)
    out.print(f"chance: rsum {result.chance_rsum:.1f}")


def _cell(row: Row, figure: str) -> str:
    spread = row.spread(figure)
    return f"{row.mean(figure):.1f}" + ("" if math.isnan(spread) else f" ±{spread:.1f}")

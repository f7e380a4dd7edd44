"""itmkit compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from itmkit.commands import complete
from itmkit.commands.options import device_option, force_option, json_option, split_option, workspace_option
from itmkit.commands.train import read_settings
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.studies.comparison import Comparison, ComparisonRow


@click.command("compare", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@workspace_option
@click.option(
    "--methods",
    required=True,
    metavar="A,B,...",
    shell_complete=complete.methods_in_a_list,
    help="Methods; settings of one follow its name: mefn,mefn:mfe=false.",
)
@click.option(
    "--images",
    metavar="CACHE,...",
    show_default="of each method",
    help="regions, patches, ...: with several, each method with each of them.",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each method, with seeds 0, 1, ..."
)
@click.option("--recipe", default="small", show_default=True, metavar="NAME", help="As in train.")
@split_option()
@click.option("--prefix", default="compare", show_default=True, metavar="NAME", help="Start of the names of the runs.")
@click.option("--intervals", is_flag=True, help="95% intervals of the means over seeds, by bootstrap over images.")
@click.option("--against", metavar="METHOD", help="One of --methods: differences of the others from it, with p-values.")
@device_option
@force_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    workspace: Workspace,
    methods: str,
    images: str | None,
    seeds: int,
    recipe: str,
    split: str,
    prefix: str,
    intervals: bool,
    against: str | None,
    device: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Train and evaluate several methods, each with several seeds; one table with mean and spread.

    Other options are settings of training for all of them: --epochs 3, or --budget 40m, which trains each run for so
    many core minutes instead. cmfg:seeds=1 gives CMFG one seed only. Finished runs are kept: run the command again
    to continue, or to add a method. The table is also written to runs/PREFIX-SPLIT.json.

    \b
    Examples:
      itmkit compare --methods mpsm,scan,vsepp
      itmkit compare --budget 40m --methods mpsm,sgraf,scan,vsepp --split val
      itmkit compare --methods mpsm,scan,cmfg:seeds=1 --intervals --against scan
      itmkit compare --methods mefn,mefn:mfe=false --seeds 5 --recipe paper
      itmkit compare --methods cmfg,cmfg:edges=intra --epochs 4 --split val --json
      itmkit compare --methods chan,scan --images patches,regions
    """
    from itmkit.commands.console import ConsoleProgress, print_json
    from itmkit.studies.compare import Asked, compare

    result = compare(
        workspace,
        [name.strip() for name in methods.split(",") if name.strip()],
        seeds=seeds,
        recipe=recipe,
        settings=read_settings(context.args) | ({"images": images} if images is not None else {}),
        prefix=prefix,
        asked=Asked(split, intervals, against),
        device=device,
        force=force,
        progress=ConsoleProgress(),
    )
    if as_json:
        print_json(result.to_json())
    else:
        show(result)


def show(result: Comparison) -> None:
    """One table of the methods, one of the members of ensembles, and those that were asked for."""
    from itmkit.commands.console import out, table
    from itmkit.studies.comparison import FIGURES

    title = f"{result.says}: {result.images:,} images, {result.captions:,} captions; {_over(result)}"
    title += f"; a budget of {result.budget:g} core minutes a run" if result.budget else ""
    uneven = len({len(row.seeds) for row in result.rows}) > 1
    for heading, rows in ((title, result.rows), ("their members, each by itself", result.members)):
        more = (["seeds"] if uneven else []) + (["core min"] if rows is result.rows and _timed(rows) else [])
        more += list(COSTS) if rows is result.rows else []
        cells = []
        for row in rows:
            known = {"seeds": str(len(row.seeds)), "core min": _number(row.mean_core_minutes, ".1f")}
            known |= {name: _number(cost(row), ",.0f") for name, cost in COSTS.items()}
            cells.append([row.name, row.kind, *(_cell(row, f) for f in FIGURES), *(known[name] for name in more)])
        if rows:
            table(heading, ["method", "kind", *FIGURES, *more], cells, right=(*FIGURES, *more))
    shown = [row for row in (*result.rows, *result.members) if row.intervals]
    if shown:
        cells = [
            [row.name, *(_span(row.intervals[f].low, row.intervals[f].high, ".1f") for f in FIGURES)] for row in shown
        ]
        table("95% intervals over images, of the means over seeds", ["method", *FIGURES], cells, right=FIGURES)
    if result.against:
        _show_against(result)
    out.print(f"chance: rsum {result.chance_rsum:.1f}")


# Columns beside the figures: what is learned, what a score is computed with, and how fast it is trained.
COSTS: dict[str, Callable[[ComparisonRow], float | None]] = {
    "trained": lambda row: row.parameters.trained if row.parameters else None,
    "at inference": lambda row: row.parameters.scoring if row.parameters else None,
    "pairs/s": lambda row: row.mean_pairs_per_second,
}


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _over(result: Comparison) -> str:
    counts = sorted({len(row.seeds) for row in result.rows})
    if counts == [1]:
        return "one seed, so no spread is known"
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    return f"mean and standard deviation over {seeds} seeds"


def _timed(rows: list[ComparisonRow]) -> bool:
    return any(row.mean_core_minutes is not None for row in rows)


def _show_against(result: Comparison) -> None:
    from itmkit.commands.console import table

    cells = []
    for one in result.against:
        rsum, i2t, t2i = (one.figures[name] for name in ("rsum", "i2t R@1", "t2i R@1"))
        p = "< 0.001" if rsum.p < 0.001 else f"{rsum.p:.3f}"
        seeds = " ".join(f"{value:+.1f}" for value in one.by_seed.values()) or "-"
        cells.append([one.first, f"{rsum.value:+.1f}", _span(rsum.low, rsum.high, "+.1f"), p, seeds])
        cells[-1] += [f"{figure.value:+.1f} ({_span(figure.low, figure.high, '+.1f')})" for figure in (i2t, t2i)]
    title = f"less {result.against[0].second}, on the same images; p: how often luck alone gives as much in rsum"
    columns = ["method", "rsum", "95% interval", "p", "seed by seed", "i2t R@1", "t2i R@1"]
    table(title, columns, cells, right=columns[1:])


def _span(low: float, high: float, form: str) -> str:
    return "not known" if math.isnan(low) else f"{low:{form}} to {high:{form}}"


def _cell(row: ComparisonRow, figure: str) -> str:
    spread = row.spread(figure)
    return f"{row.mean(figure):.1f}" + ("" if math.isnan(spread) else f" ±{spread:.1f}")

"""itmkit plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from itmkit.commands import complete
from itmkit.commands.options import (
    Path_,
    device_option,
    json_option,
    models_option,
    places_of,
    split_option,
    workspace_option,
)
from itmkit.workspace import Workspace

WHAT = (
    *("epochs", "compare", "cmc", "precision", "slices", "labels", "alpha", "categories", "scores", "retrieved"),
    *("attention", "entropy", "edges", "blocks"),
)


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
@click.option(
    "--by",
    type=click.Choice(["own", "labels"]),
    default="own",
    show_default=True,
    help="What is right in cmc, precision and retrieved: a query's own, or what shares a label.",
)
@click.option(
    "--scores",
    multiple=True,
    type=Path_,
    metavar="FILE",
    show_default="scores-SPLIT.h5 of the runs",
    help="A file of `itmkit evaluate --save-scores`, for scores and retrieved; repeatable.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="ID",
    help="An image query of retrieved (repeatable), or the picture that is explained: its id, or a file.",
)
@click.option(
    "--caption",
    "captions",
    multiple=True,
    metavar="ID|TEXT",
    help="A caption query of retrieved (repeatable), or the caption that is explained.",
)
@click.option(
    "--queries",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Of retrieved, drawn by lot each way where none is named.",
)
@click.option("--seed", default=0, show_default=True, help="Of that lot; the same seed draws the same.")
@click.option(
    "--best", type=click.IntRange(1, 10), default=5, show_default=True, help="How many finds of a query are shown."
)
@click.option("--out", type=Path_, metavar="FOLDER", show_default="plots/ of the workspace", help="Where to write.")
@click.option(
    "--format", type=click.Choice(["svg", "png", "pdf"]), default="svg", show_default=True, help="Format of the files."
)
@click.option("--transparent", is_flag=True, help="No background, and text in a grey read on white and dark pages.")
@models_option
@device_option
@json_option
def command(
    what: tuple[str, ...],
    workspace: Workspace,
    runs: tuple[str, ...],
    split: str,
    scores: tuple[Path, ...],
    by: str,
    models: tuple[str, ...],
    as_json: bool,
    **choice: Any,
) -> None:
    """Draw figures of runs, as papers show them. Needs itmkit[report].

    \b
    WHAT is one or more of
      epochs     rsum, loss and R@1 of every member and ensemble over the epochs
      compare    bars of the table of `itmkit compare`, with spread and seeds
      cmc        R@k for every k, of `itmkit evaluate --curves`
      precision  precision over recall, likewise; --by labels: of --labels
      slices     R@1 of slices with intervals, of `itmkit evaluate --slices`
      labels     R@1 of each label, of `itmkit evaluate --labels`
      alpha      R@1 over the weight of a member, of `itmkit evaluate --alpha`
      categories R@K by COCO's super-categories, of `itmkit evaluate --slices`
      scores     histograms of matching pairs and of others, of --save-scores
      retrieved  the best finds of queries, both ways, of --save-scores

    \b
    or, of one run, one --image and one --caption,
      attention  what each word looks at, in the picture
      entropy    regions x words (MEFN)
      edges      between regions and words (CMFG)
      blocks     of the picture that each region attends to (GLFN, PFAN)

    \b
    Examples:
      itmkit plot epochs
      itmkit plot epochs --run mpsm --run scan --format png
      itmkit plot cmc precision slices --run mpsm --split val --out figures
      itmkit plot compare --comparison ablation --figure "t2i R@1"
      itmkit plot retrieved --run mpsm --run scan --queries 5 --seed 1
      itmkit plot retrieved --scores mpsm.h5 --caption "two dogs run" --best 10
      itmkit plot attention --run mpsm --image beach.jpg --caption "two dogs"
    """
    from itmkit.commands.console import ConsoleProgress, print_json, table
    from itmkit.report.left_out import left_out
    from itmkit.report.plots import plot

    plots = plot(
        workspace,
        what,
        runs=runs,
        split=split,
        scores=scores,
        by=by,
        models=places_of(models),
        **choice,
    )
    for note in [] if runs else left_out(workspace, what, split, by=by, files=bool(scores)):
        ConsoleProgress().note(note)
    if as_json:
        print_json([one.to_json() for one in plots])
    else:
        table(None, ["plot", "of", "series", "file"], [[p.what, p.title, len(p.series), p.path] for p in plots])

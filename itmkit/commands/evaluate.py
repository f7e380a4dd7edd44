"""itmkit evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from itmkit.commands.options import device_option, json_option, workspace_option
from itmkit.progress import SILENT
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.evaluation.evaluate import Evaluation
    from itmkit.precision import Precision

LEAST = 300_000_000  # bytes that a model, a tile of pairs and some rows of scores need in any case


@click.command("evaluate")
@workspace_option
@click.option("--run", "runs", multiple=True, metavar="NAME", help="A trained run; several are averaged (ensemble).")
@click.option(
    "--split",
    default="test",
    show_default=True,
    metavar="NAME",
    help="train, val, test, or a protocol: coco5k, coco1k (five folds), flickr1k, f8k.",
)
@click.option(
    "--scores",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file of --save-scores instead of a run; several are averaged.",
)
@click.option(
    "--save-scores", "save", type=click.Path(path_type=Path), metavar="FILE", help="Keep the score matrix, as HDF5."
)
@click.option(
    "--memory", type=float, default=2.0, show_default=True, metavar="GB", help="What the process should stay under."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of matrix products; auto: bfloat16 where the hardware has it.",
)
@device_option
@json_option
def command(
    workspace: Workspace,
    runs: tuple[str, ...],
    split: str,
    files: tuple[Path, ...],
    save: Path | None,
    memory: float,
    precision: Precision,
    device: str | None,
    as_json: bool,
) -> None:
    """Score a split and print R@1/5/10 both ways; says of every figure whether it is a single model or an ensemble.

    Without --run the only run of the workspace is taken. Everything is also written to runs/NAME/eval-SPLIT.json.
    A killed evaluation continues. Under torchrun the ranks share the images.

    \b
    Examples:
      itmkit evaluate --run mpsm
      itmkit evaluate --run mpsm --split coco1k
      itmkit evaluate --run mpsm-seed0 --run mpsm-seed1 --split val --json
      itmkit evaluate --run mpsm --save-scores mpsm.h5
      itmkit evaluate --scores mpsm.h5 --scores scan.h5
      torchrun --nproc-per-node 2 -m -- itmkit evaluate --run mpsm --split coco5k
    """
    from itmkit.commands.console import ConsoleProgress, print_json
    from itmkit.errors import ItmkitError
    from itmkit.evaluation.evaluate import evaluate, evaluate_files
    from itmkit.memory import resident
    from itmkit.ranks import rank, rank_device

    if memory * 1e9 < resident() + LEAST:
        raise ItmkitError(
            f"--memory {memory:g}: {resident() / 1e9:.1f} GB are in use before anything is read; give at least"
            f" {(resident() + LEAST) / 1e9:.1f}"
        )
    if runs and files:
        raise ItmkitError("--run and --scores: give one of them; --save-scores turns a run into a file")
    if files:
        result = evaluate_files(workspace, files, split=split, save=save)
    else:
        leads = rank().index == 0
        result = evaluate(
            workspace,
            runs or _only_run(workspace),
            split=split,
            device=device or rank_device(),
            memory=int(memory * 1e9),
            precision=precision,
            save=save,
            part=rank(),
            progress=ConsoleProgress() if leads else SILENT,
        )
        if not leads:
            return
    if as_json:
        print_json(result.to_json())
    else:
        show(result)


def _only_run(workspace: Workspace) -> tuple[str, ...]:
    from itmkit.errors import ItmkitError

    have = sorted(path.parent.name for path in (workspace.root / "runs").glob("*/run.json"))
    if len(have) != 1:
        raise ItmkitError(
            f"--run NAME says which run to evaluate; there are {', '.join(have)}"
            if have
            else "nothing to evaluate yet; run `itmkit train --method mpsm` first"
        )
    return (have[0],)


def show(result: Evaluation) -> None:
    """The table of an evaluation; median ranks and mR only where the terminal is wide enough for them."""
    from itmkit.commands.console import out, table

    wide = not out.is_terminal or out.width >= 110
    columns = ["run", "kind", "i2t R@1", "R@5", "R@10", "t2i R@1", "R@5", "R@10", "rsum"]
    if wide:
        columns += ["mR", "medr i2t", "medr t2i"]
    rows = []
    for row in result.rows:
        i2t, t2i = row.result.i2t, row.result.t2i
        figures = [i2t.r1, i2t.r5, i2t.r10, t2i.r1, t2i.r5, t2i.r10, row.result.rsum]
        cells = [f"{figure:.1f}" for figure in figures]
        if wide:
            cells += [f"{row.result.mean_recall:.1f}", f"{i2t.medr:.0f}", f"{t2i.medr:.0f}"]
        rows.append([row.name, row.kind, *cells])
    folds = f", mean of {result.protocol.folds} folds" if result.protocol.folds > 1 else ""
    title = f"{result.protocol.says}: {result.images:,} images, {result.captions:,} captions{folds}"
    table(title, columns, rows, right=columns[2:])
    rounded = ", scores from bfloat16 products" if result.precision == "bfloat16" else ""
    out.print(f"chance: rsum {result.chance_rsum:.1f}{rounded}")
    if result.left_out:
        out.print(f"{result.left_out} images of the split have no features and are left out")

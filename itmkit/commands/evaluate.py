"""itmkit evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from itmkit.commands import complete
from itmkit.commands.formats import FORMATS, Format, formatted
from itmkit.commands.options import (
    Amount,
    CountOrAll,
    Path_,
    Several,
    device_option,
    json_option,
    split_option,
    workspace_option,
)
from itmkit.commands.visible import visible
from itmkit.methods.reported import PROTOCOLS, Reported, not_comparable, reported
from itmkit.progress import SILENT
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.evaluation.results import Evaluation
    from itmkit.machine.precision import WantedProducts
    from itmkit.relevance.ratings import Kind

LEAST = 300_000_000  # bytes that a model, a tile of pairs and some rows of scores need in any case


@click.command("evaluate")
@workspace_option
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="NAME",
    shell_complete=complete.runs,
    help="A trained run; several are averaged (ensemble).",
)
@split_option(help="train, val, test, or a protocol: coco5k, coco1k (five folds), flickr1k, f8k.")
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
    "--trec",
    type=Path_,
    metavar="DIR",
    help="Write rankings and right answers as TREC's run and qrels files, for ir_measures, ranx, trec_eval.",
)
@click.option(
    "--trec-depth", type=CountOrAll(), default=100, show_default=True, help="Items of each ranking in --trec."
)
@click.option("--force", is_flag=True, help="Let --save-scores and --trec replace files of another kind.")
@click.option(
    "--memory",
    type=Amount(1_000_000),
    default=2.0,
    show_default=True,
    metavar="GB",
    help="Memory that the process should not exceed.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Precision of matrix products; auto is bfloat16 if the hardware has it, for imported weights float32.",
)
@click.option("--intervals", is_flag=True, help="95% intervals of every figure, by bootstrap over images.")
@click.option(
    "--against",
    metavar="RUN",
    shell_complete=complete.runs,
    help="Another run (with --scores: a file): differences, their intervals and p-values.",
)
@click.option("--compare-paper", is_flag=True, help="Add what the methods' papers report on this protocol.")
@click.option("--map", "own", is_flag=True, help="mAP, P@k and the like of a query's own captions or image.")
@click.option(
    "--ks",
    type=Several(int, 1, 1_000_000),
    default=(),
    show_default="1,5,10; of --labels 10,50,100",
    help="Where the figures of --map, --labels and --judgements are cut.",
)
@click.option(
    "--alpha",
    "alphas",
    type=Several(float, 0, 1),
    default=(),
    help="Weights of the second of a run's two members (of i2t in glfn, pfan, scan); nothing is trained again.",
)
@click.option("--slices", is_flag=True, help="R@K by length and words of the caption, by regions of the image.")
@click.option("--curves", is_flag=True, help="CMC and precision-recall curves, for `itmkit plot`.")
@click.option(
    "--rerank",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="Also as `itmkit search` finds: only N candidates of a query are scored.",
)
@click.option("--labels", is_flag=True, help="Retrieval by category: items that share a label match. mAP, P@k.")
@click.option(
    "--judgements",
    type=Path_,
    metavar="DIR",
    help="ECCV-Caption's ground truth (its folder data/): mAP@R, R-precision on ECCV, CxC and COCO's own pairs.",
)
@click.option(
    "--coco-captions",
    type=Path_,
    multiple=True,
    metavar="FILE",
    help="COCO's caption file: for --judgements of captions whose ids are not COCO's.",
)
@click.option("--scan-order", is_flag=True, help="For --judgements: captions are in the order of SCAN's testall.")
@click.option(
    "--ratings",
    multiple=True,
    metavar="KIND=FILE",
    help="People's ratings: expert=FILE, crowdflower=FILE (Flickr8k), cxc=FILE (COCO); Kendall's tau with the scores.",
)
@click.option("--tokens", type=Path_, metavar="FILE", help="Flickr8k.token.txt, for --ratings of other caption ids.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Format of the output."
)
@device_option
@json_option
def command(
    workspace: Workspace,
    runs: tuple[str, ...],
    split: str,
    files: tuple[Path, ...],
    save: Path | None,
    force: bool,
    memory: float,
    precision: WantedProducts,
    against: str | None,
    compare_paper: bool,
    ratings: tuple[str, ...],
    rerank: int | None,
    trec: Path | None,
    trec_depth: int | None,
    form: Format,
    device: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Score a split and print R@1/5/10 both ways, of single models and of ensembles.

    Without --run, the only run of the workspace is taken. --run may also name the folder of a run in another workspace.
    Everything is also written to runs/NAME/eval-SPLIT.json. A killed evaluation continues. Under torchrun the ranks
    share the images.

    \b
    Examples:
      itmkit evaluate --run mpsm
      itmkit evaluate --run mpsm --split coco1k --compare-paper
      itmkit evaluate --run mpsm --against scan --intervals
      itmkit evaluate --run mpsm-seed0 --run mpsm-seed1 --split val --json
      itmkit evaluate --run mpsm --rerank 200
      itmkit evaluate --run mefn --split coco1k --map --ks 1,5,10
      itmkit evaluate --run glfn --alpha 0,0.2,0.5,0.8,1
      itmkit evaluate --run mpsm --trec trec --trec-depth all
      itmkit evaluate --run mpsm --save-scores mpsm.h5
      itmkit evaluate --scores mpsm.h5 --scores scan.h5
      itmkit evaluate --run ../flickr30k/runs/mpsm -w coco    # zero-shot transfer
      torchrun --nproc-per-node 2 -m -- itmkit evaluate --run mpsm --split coco5k
    """
    from itmkit.commands.console import ConsoleProgress, print_json
    from itmkit.errors import ItmkitError
    from itmkit.evaluation.evaluate import evaluate
    from itmkit.evaluation.measures import Wanted
    from itmkit.evaluation.score_files import evaluate_files
    from itmkit.evaluation.trec import Trec
    from itmkit.machine.memory import resident
    from itmkit.machine.processes import rank, rank_device
    from itmkit.scoring.engine import Scoring

    if memory * 1e9 < resident() + LEAST:
        raise ItmkitError(
            f"--memory {memory:g}: {resident() / 1e9:.1f} GB are in use before anything is read; give at least"
            f" {(resident() + LEAST) / 1e9:.1f}"
        )
    if runs and files:
        raise ItmkitError("--run and --scores: give one of them; --save-scores turns a run into a file")
    _check_used(files, trec, compare_paper)
    rankings = None if trec is None else Trec(trec, trec_depth)
    wanted = Wanted(**asked, ratings=_ratings(ratings), rerank=rerank or 0, trec=rankings)
    if compare_paper and split not in PROTOCOLS:
        raise ItmkitError(
            f"--compare-paper: papers report on {', '.join(PROTOCOLS)}; figures on --split {split} are not comparable"
            " to theirs"
        )
    if files:
        other = Path(against) if against else None
        result = evaluate_files(workspace, files, split=split, wanted=wanted, against=other, save=save, force=force)
    else:
        leads = rank().index == 0
        result = evaluate(
            workspace,
            runs or _only_run(workspace),
            split=split,
            wanted=wanted,
            against=against,
            save=save,
            force=force,
            scoring=Scoring(device or rank_device(), int(memory * 1e9), precision, rank()),
            progress=ConsoleProgress() if leads else SILENT,
        )
        if not leads:
            return
    methods = dict.fromkeys(row.method for row in result.rows if row.method) if compare_paper else {}
    papers = [paper for method in methods for paper in reported(method, split)]
    apart = [paper for method in methods for paper in not_comparable(method)]
    if as_json:
        theirs = {
            "reported": [asdict(paper) | {"rsum": paper.rsum} for paper in papers],
            "not_comparable": [asdict(paper) for paper in apart],
        }
        print_json(result.to_json() | (theirs if compare_paper else {}))
    else:
        show(result, papers, apart, form)


def _check_used(files: Sequence[Path], trec: Path | None, compare_paper: bool) -> None:
    """Raises ItmkitError naming options that are given and would do nothing."""
    from itmkit.errors import ItmkitError

    context, typed = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    given = [name for name in ("precision", "device") if context.get_parameter_source(name) == typed]
    problems = [f"--{name}: a file of scores is read, and nothing is computed with a model" for name in given if files]
    if files and compare_paper:
        problems.append("--compare-paper: a file of scores does not say its method; give the run with --run")
    if trec is None and context.get_parameter_source("trec_depth") == typed:
        problems.append("--trec-depth: how long the rankings of --trec are; give --trec DIR too")
    if problems:
        raise ItmkitError(problems)


def _ratings(given: Sequence[str]) -> dict[Kind, Path]:
    """expert=FILE, crowdflower=FILE, cxc=FILE"""
    from itmkit.errors import ItmkitError
    from itmkit.relevance.ratings import KEEPS_OWN

    found: dict[Kind, Path] = {}
    problems = []
    for one in given:
        kind, equals, file = one.partition("=")
        if not equals or kind not in KEEPS_OWN:
            problems.append(f"--ratings {one}: is written {' or '.join(f'{name}=FILE' for name in KEEPS_OWN)}")
        elif kind in found:
            problems.append(f"--ratings {one}: {kind} has another file already; evaluate once with each")
        found[cast("Kind", kind)] = Path(file)
    if problems:
        raise ItmkitError(problems)
    return found


def _only_run(workspace: Workspace) -> tuple[str, ...]:
    from itmkit.errors import ItmkitError
    from itmkit.runs.facts import run_names

    have = run_names(workspace)
    if len(have) != 1:
        raise ItmkitError(
            f"--run NAME says which run to evaluate; there are {', '.join(have)}"
            if have
            else "nothing to evaluate yet; run `itmkit train --method mpsm` first"
        )
    return (have[0],)


def show(
    result: Evaluation, papers: Sequence[Reported] = (), apart: Sequence[Reported] = (), form: Format = "table"
) -> None:
    """The tables of an evaluation; median ranks and mR only where the terminal is wide enough for them."""
    from itmkit.commands.console import out, table
    from itmkit.commands.evaluation_tables import tables

    wide = not out.is_terminal or out.width >= 110
    every = tables(result, papers, apart, wide=wide)
    if form != "table":
        for shown in every:
            if form == "csv" and len(every) > 1:
                click.echo(f"# {visible(shown.title)}")
            click.echo(formatted(shown.title, shown.columns, shown.rows, form, right=shown.right) + "\n")
        return
    for shown in every:
        table(shown.title, shown.columns, shown.rows, right=shown.right)
    rounded = ", scores from bfloat16 products" if result.precision == "bfloat16" else ""
    out.print(f"chance: rsum {result.chance_rsum:.1f}{rounded}")
    if result.left_out:
        lack = "features" if result.precision else "scores in these files"
        out.print(f"{result.left_out} images of the split have no {lack} and are left out")
    for note in result.notes:
        out.print(note)

"""itmkit import-checkpoint."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

import click

from itmkit.commands.console import out, print_json
from itmkit.commands.options import Path_, force_option, json_option, workspace_option
from itmkit.workspace import Workspace


@click.command("import-checkpoint")
@click.argument("file", type=Path_)
@click.option(
    "--vocabulary", type=Path_, required=True, metavar="FILE",
    help="The words of the checkpoint: the JSON file that its code reads, such as f30k_precomp_vocab.json; of one with"
    " BERT, the vocab.txt of bert-base-uncased, or a folder with it.",
)  # fmt: skip
@workspace_option
@click.option(
    "--as", "wanted", type=click.Choice(["scan", "sgraf", "rcar", "vseinf", "chan"]), show_default="as its tensors say",
    help="The method that the checkpoint has to be.",
)  # fmt: skip
@click.option("--run", metavar="NAME", show_default="published-METHOD", help="Name of the run that is written.")
@force_option
@json_option
def command(
    workspace: Workspace,
    file: Path,
    vocabulary: Path,
    wanted: str | None,
    run: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """FILE with published weights (model_best.pth of SCAN, SGRAF, RCAR, VSE-infinity, ESA, HREM, CHAN) into a run.

    The weights score as published, or are refused. FILE is read without running any of it: tensors, plain containers
    and one argparse.Namespace are all that is read.

    \b
    Example:
      itmkit import-features scan f30k_precomp --exact -w work
      itmkit parse-text --parser scan -w work
      itmkit import-checkpoint model_best.pth.tar -w work --run scan \\
        --vocabulary f30k_precomp_vocab.json
      itmkit evaluate --run scan -w work
    \b
    One with BERT, whose captions are word pieces:
      itmkit parse-text --parser wordpiece --model vocab.txt -w work
      itmkit import-checkpoint model_best.pth --vocabulary vocab.txt -w work
    """
    from itmkit.import_checkpoint.write import import_checkpoint

    result = import_checkpoint(workspace, file, vocabulary=vocabulary, wanted=wanted, run=run, force=force)
    if as_json:
        print_json(asdict(result))
        return
    words = f"{result.words} {'word pieces' if result.pieces else 'words'}"
    said = f", validated at rsum {result.best_rsum:.1f}" if result.best_rsum else ""
    out.print(
        f"{result.run}: {result.source} as {result.method}, epoch {result.epoch}{said}, {words};"
        f" run `itmkit evaluate --run {shlex.quote(result.run.name)}` and compare it with what was published",
        markup=False,
    )

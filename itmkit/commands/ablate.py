"""itmkit ablate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from itmkit.commands import complete
from itmkit.commands.options import device_option, force_option, json_option, split_option, workspace_option
from itmkit.commands.train import read_settings
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.methods.published import Published
    from itmkit.studies.ablate import Ablation, AblationRow


@click.command("ablate", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("name", metavar="RUN|METHOD", shell_complete=complete.runs_and_methods)
@workspace_option
@click.option("--recipe", metavar="NAME", show_default="of the run, else small", help="As in train.")
@click.option("--only", multiple=True, metavar="ROW", help="One row of the table (may be repeated); default: all.")
@split_option()
@device_option
@force_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    name: str,
    workspace: Workspace,
    recipe: str | None,
    only: tuple[str, ...],
    split: str,
    device: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Switch off the parts of a method one by one; print what each is worth, beside what the paper reports.

    Every row is trained like the RUN: with the same settings, seed, and epochs or budget. If a METHOD has no run of its
    name, that run is trained first; other options are settings of training (--budget 40m). Finished runs are kept: run
    the command again to continue. The table is also written to runs/RUN-ablation-SPLIT.json.

    \b
    Examples:
      itmkit ablate mpsm --split val
      itmkit ablate mpsm --budget 40m --split val
      itmkit ablate my-run --only "without KGID" --only "without SRGR"
    """
    from itmkit.commands.console import ConsoleProgress, print_json
    from itmkit.errors import ItmkitError
    from itmkit.studies.ablate import ablate

    words = context.args
    if words and not words[0].startswith("--"):
        raise ItmkitError(
            f"{words[0]!r}: one run or method at a time; options follow it, and a row is --only {words[0]!r}"
        )
    result = ablate(
        workspace,
        name,
        recipe=recipe,
        settings=read_settings(words),
        only=only,
        split=split,
        device=device,
        force=force,
        progress=ConsoleProgress(),
    )
    if as_json:
        print_json(result.to_json())
    else:
        show(result)


def show(result: Ablation) -> None:
    """One table, and below it which rows of which papers stand beside."""
    from itmkit.commands.console import out, table

    cells = [_cells(row) for row in (result.full, *result.rows)]
    title = (
        f"{result.run} on {result.says}: {result.images:,} images, {result.captions:,} captions;"
        " each row less the full method, on the same images"
    )
    columns = ["row", "kind", "rsum", "difference", "95% interval", "p", "core min", "paper: rsum", "paper: difference"]
    table(title, columns, cells, right=columns[2:])
    for paper, rows in _papers(result.rows).items():
        out.print(f"paper: {paper}: {', '.join(rows)}")
    for label, why in result.left_out.items():
        out.print(f"left out: {label} ({why})")


def _cells(row: AblationRow) -> list[str]:
    minutes = "-" if row.core_minutes is None else f"{row.core_minutes:.1f}"
    rsum = row.difference.get("rsum")
    tested = ["", "", ""]
    if rsum is not None:
        span = "not known" if rsum.low != rsum.low else f"{rsum.low:+.1f} to {rsum.high:+.1f}"
        tested = [f"{rsum.value:+.1f}", span, "< 0.001" if rsum.p < 0.001 else f"{rsum.p:.3f}"]
    return [row.label, row.kind, f"{row.figures['rsum']:.1f}", *tested, minutes, *_published(row.published)]


def _published(found: Published | None) -> tuple[str, str]:
    if found is None:
        return "-", "-"
    if "rsum" in found.difference:
        return f"{found.rsum:.1f}", f"{found.difference['rsum']:+.1f}"
    return "-", ", ".join(f"{name} {value:+.1f}" for name, value in found.difference.items())


def _papers(rows: list[AblationRow]) -> dict[str, list[str]]:
    """{what the paper's differences are of: the rows they stand beside}"""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.published is not None:
            paper = row.published
            found.setdefault(f"less {paper.whole}, {paper.protocol} ({paper.source})", []).append(row.label)
    return found

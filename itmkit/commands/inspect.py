"""itmkit inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from itmkit.commands.console import ConsoleProgress, out, print_json, styled, table
from itmkit.commands.options import Path_, fixed, json_option
from itmkit.errors import ItmkitError

if TYPE_CHECKING:
    from itmkit.inspection.report import Report


@click.command("inspect")
@click.argument("path", type=Path_, default=".", envvar="ITMKIT_WORKSPACE")
@click.option("--verify", is_flag=True, help="Compare contents with their recorded sha256; exit code 2 on a mismatch.")
@click.option("--row", metavar="ID", help="One row of the cache PATH.")
@click.option("--image", metavar="ID", help="The regions of an image: tags, colours, scores, boxes.")
@click.option(
    "--caption",
    metavar="ROW|ID|TEXT",
    help="The dependency tree of a caption, the adjacency of its graph and the neighbours of its words. Tried in this"
    " order: a row number of the text cache, from 0; a caption id of the data set; a text as written there.",
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    path: Path,
    verify: bool,
    row: str | None,
    image: str | None,
    caption: str | None,
    as_json: bool,
) -> None:
    """Describe what PATH holds: a workspace, a cache, an index, a shard (or any HDF5 file), dataset.jsonl, a run,
    a .safetensors file, metrics.jsonl. PATH is the current folder by default.

    HDF5 files are opened by a separate process, and no link in them is followed.

    \b
    Examples:
      itmkit inspect caches/regions --verify
      itmkit inspect --image 1012212859_01547e3f17.jpg
      itmkit inspect caches/text --caption 123
      itmkit inspect --caption "Two dogs run on the beach."
      itmkit inspect runs/mpsm
    """
    from itmkit.inspection.captions import inspect_caption
    from itmkit.inspection.rows import inspect_image, inspect_row
    from itmkit.inspection.what import inspect

    path = fixed(path)
    asked = [value for value in (row, image, caption) if value is not None]
    if len(asked) > 1 or (asked and verify):
        raise ItmkitError("--row, --image, --caption and --verify exclude each other; give one of them")
    if row is not None:
        report = inspect_row(path, row)
    elif image is not None:
        report = inspect_image(path, image)
    elif caption is not None:
        report = inspect_caption(path, caption)
    else:
        report = inspect(path, verify=verify, progress=ConsoleProgress())
    if as_json:
        print_json(report.to_json())
        if report.problems:  # which the document names
            context.exit(2)
        return
    _show(report)
    if report.problems:
        raise ItmkitError(report.problems)


def _show(report: Report) -> None:
    out.print(styled((str(report.path), "bold"), f": {report.kind}"))
    _facts(report.facts)
    for line in report.lines:
        out.print(line)
    for drawn in report.tables:
        table(drawn.title, drawn.columns, drawn.rows, right=drawn.right)
    _facts(report.details)


def _facts(facts: list[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        out.print(styled("  ", (name.ljust(width), "dim"), f"  {value}"))

"""itmkit report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from itmkit.commands import complete, options
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.report.html.write import Written


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete.runs)
@options.workspace_option
@options.split_option(help="train, val, test or a protocol, as in evaluate, but for coco1k.")
@click.option(
    "--scores",
    "files",
    multiple=True,
    metavar="RUN=FILE",
    help="Scores of evaluate --save-scores for a run, in place of those kept in its folder. May be repeated.",
)
@click.option(
    "--queries",
    type=click.IntRange(1, 2000),
    default=24,
    show_default=True,
    metavar="N",
    help="Queries shown of each direction, in three lists.",
)
@click.option(
    "--images",
    type=options.Path_,
    metavar="DIR",
    help="Folder of pictures named like their ids, for those that the workspace lacks.",
)
@click.option("--pages", is_flag=True, help="Write a folder with the pictures as files: no limit of 20 MB.")
@click.option(
    "-o",
    "--out",
    type=options.Path_,
    metavar="FILE",
    show_default="reports/ of the workspace",
    help="Where to write; with --pages, a folder.",
)
@options.models_option
@options.device_option
@options.json_option
def command(
    runs: tuple[str, ...],
    workspace: Workspace,
    split: str,
    files: tuple[str, ...],
    queries: int,
    images: Path | None,
    pages: bool,
    out: Path | None,
    models: tuple[str, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """One HTML file of what runs found and where they are wrong. Needs itmkit[report].

    It opens from disk and loads nothing: figures with intervals, curves, slices, and queries with the pictures found
    for them, the regions that each word looks at, and the caption's tree. The first RUN is shown query by query, and
    compared with the second if there is one: largest gains, largest losses, still wrong. Scores are taken from
    runs/RUN/scores-SPLIT.h5; where there is no such file, the run scores the split once and writes it.

    \b
    Examples:
      itmkit report mpsm
      itmkit report mpsm vsepp --split val --queries 60
      itmkit report mpsm --images flickr8k/images -o mpsm.html
      itmkit report mpsm clip --scores clip=clip.h5
      itmkit report mpsm --queries 300 --pages -o mpsm-report
    """
    from itmkit.commands.console import ConsoleProgress
    from itmkit.report.html.make import Asked, make_report

    asked = Asked(
        runs=runs,
        split=split,
        scores={run: options.fixed(Path(file)) for run, file in _scores(files).items()},
        queries=queries,
        images=images,
        pages=pages,
        out=options.fixed(out) if out is not None else None,
        command=_command(runs, split, files, queries, images, pages),
        models=options.places_of(models),
        device=device,
    )
    _show(make_report(workspace, asked, ConsoleProgress()), as_json=as_json)


def _scores(given: Sequence[str]) -> dict[str, str]:
    """Raises ItmkitError where one is not written RUN=FILE."""
    from itmkit.errors import ItmkitError

    wrong = [one for one in given if not all(one.partition("=")[::2])]
    if wrong:
        raise ItmkitError([f"--scores {one}: is written RUN=FILE, such as mpsm=mpsm.h5" for one in wrong])
    return dict(one.split("=", 1) for one in given)


def _command(
    runs: Sequence[str], split: str, files: Sequence[str], queries: int, images: Path | None, pages: bool
) -> str:
    """What to type for the same page, for its footer: without what differs between machines."""
    words = ["itmkit", "report", *runs, "--split", split, "--queries", str(queries)]
    for file in files:
        words += ["--scores", file]
    words += ["--images", str(images)] if images is not None else []
    return shlex.join(words + ["--pages"] * pages)


def _show(written: Written, *, as_json: bool) -> None:
    from itmkit.commands.console import err, out, print_json
    from itmkit.files import size_in_words

    if as_json:
        print_json({"report": str(written.path), "bytes": written.bytes, "notes": written.notes})
        return
    for note in written.notes:
        err.print(note)
    out.print(f"report -> {written.path} ({size_in_words(written.bytes)})")

"""itmkit index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from itmkit.commands import complete, options
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.index.engines import Engine
    from itmkit.index.rows import RowType


@click.command("index")
@options.workspace_option
@click.option(
    "--run",
    metavar="NAME|PATH",
    shell_complete=complete.runs,
    show_default="the index's, else the only one",
    help="The trained run that encodes, of this workspace or the folder of one.",
)
@click.option(
    "--rows",
    type=click.Choice(["float32", "float16", "int8"]),
    show_default="float16",
    help="How numbers are stored: int8 takes half the space of float16, and rounds more.",
)
@click.option(
    "--engine",
    type=click.Choice(["exact", "faiss"]),
    show_default="exact",
    help="What finds candidates: every vector is compared, or some by faiss.",
)
@click.option("--add", is_flag=True, help="Encode only what is new, and drop what is gone.")
@options.force_option
@click.option("--out", default="index", show_default=True, metavar="NAME", help="Folder of the index in the workspace.")
@click.option(
    "--to",
    nargs=2,
    type=(click.Choice(["parquet"]), options.Path_),
    metavar="parquet FILE",
    help="Write ids and vectors of the index for a vector database. Needs itmkit[parquet].",
)
@options.device_option
@options.json_option
def command(
    workspace: Workspace,
    run: str | None,
    rows: RowType | None,
    engine: Engine | None,
    add: bool,
    force: bool,
    out: str,
    to: tuple[str, Path] | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Encode the images and captions of a workspace for `itmkit search` -> index/.

    An index holds what the matcher made of each image, and one vector an image that finds candidates. The features have
    to be made as those the run was trained on. A killed run continues; run again, it does nothing.

    \b
    Examples:
      itmkit index -w work --run mpsm
      itmkit index -w photos --run ../trained/runs/mpsm --rows int8
      itmkit index -w work --add                 (after new pictures came)
      itmkit index -w work --engine faiss        (for millions of pictures)
      itmkit index -w work --to parquet vectors.parquet
    """
    from itmkit.commands import console
    from itmkit.errors import ItmkitError
    from itmkit.files import size_in_words
    from itmkit.index.build import build_index
    from itmkit.index.export import write_parquet
    from itmkit.index.open import index_folder, run_of
    from itmkit.index.store import IndexFacts, Store
    from itmkit.runs.facts import run_folder
    from itmkit.trained import open_matcher

    folder, progress = index_folder(workspace, out), console.ConsoleProgress()
    there = (folder / "manifest.json").is_file()
    if add and force:
        raise ItmkitError("--add and --force: give one of them")
    if to is not None and there and not (run or rows or engine or add or force):
        count = write_parquet(Store(folder), to[1], progress=progress)
        if as_json:
            console.print_json({"path": str(to[1]), "images": count})
        else:
            console.out.print(f"{count:,} images: ids and vectors -> {to[1]}")
        return
    if run is None and there and not force:
        run = str(run_of(workspace, IndexFacts.read(folder), folder))
    with open_matcher(run_folder(workspace, run), device=device) as matcher:
        result = build_index(
            workspace, matcher, folder=folder, rows=rows, engine=engine, add=add, force=force, progress=progress
        )
    if to is not None:
        write_parquet(Store(folder), to[1], progress=progress)
    if as_json:
        console.print_json(asdict(result) | ({"parquet": str(to[1])} if to else {}))
        return
    did = f"{result.encoded:,} encoded now" if result.encoded or result.removed else "nothing to do"
    gone = f", {result.removed:,} dropped" if result.removed else ""
    console.out.print(
        f"{result.images:,} images ({did}{gone}) and {result.captions:,} captions, {result.bytes_an_image:,} bytes an"
        f" image as {result.rows}, {size_in_words(result.size)} -> {result.path}"
    )
    if result.left_out:
        console.out.print(f"{result.left_out:,} images have no features and are left out")
    if to is not None:
        console.out.print(f"ids and vectors -> {to[1]}")

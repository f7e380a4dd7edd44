"""itmkit build-graphs: positions of regions and dependencies of words."""

from __future__ import annotations

from dataclasses import asdict

import click

from itmkit.commands import options
from itmkit.workspace import Workspace


@click.command("build-graphs")
@options.workspace_option
@click.option("--blocks", type=click.IntRange(1, 128), help="Blocks per side of a picture: N x N (16).", metavar="N")
@click.option("--keep", type=click.IntRange(min=1), help="Blocks kept per region, by overlap (15).", metavar="N")
@click.option("--only", type=click.Choice(["images", "texts"]), help="Build one of the two caches.")
@options.force_option
@options.json_option
def command(
    workspace: Workspace, blocks: int | None, keep: int | None, only: str | None, force: bool, as_json: bool
) -> None:
    """Block positions and polar coordinates of regions, dependency edges of captions.

    Needs caches/regions and caches/text; writes caches/graphs/images and caches/graphs/texts.

    \b
    Example: itmkit build-graphs -w work
    """
    from itmkit.commands import console
    from itmkit.graphs import build_graphs

    result = build_graphs(
        workspace,
        blocks=blocks,
        keep=keep,
        parts=None if only is None else [only],  # type: ignore[list-item]
        force=force,
        progress=console.ConsoleProgress(),
    )
    if as_json:
        console.print_json(asdict(result))
        return
    if result.images is not None:
        console.out.print(
            f"{result.images} pictures: {result.keep} of {result.blocks} x {result.blocks} blocks a region,"
            f" {'polar coordinates' if result.polar else 'no polar coordinates (imported without boxes)'}"
            f" -> {result.path / 'images'}"
        )
    if result.texts is not None:
        console.out.print(f"{result.texts} caption texts: {result.edges} dependency edges -> {result.path / 'texts'}")

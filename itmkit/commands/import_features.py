"""itmkit import-features: region features that lie in files already."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from itmkit.commands import options
from itmkit.workspace import Workspace


@click.group("import-features")
def command() -> None:
    """Take region features from files of other projects instead of computing them.

    \b
    Example: itmkit import-features scan f30k_precomp -w work
    """


def split_pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """{"dev": "val"} of ("dev=val",); commas also separate pairs."""
    pairs = {}
    for value in (part for given in values for part in given.split(",") if part):
        name, equals, split = value.partition("=")
        if not equals or not name or not split:
            raise click.BadParameter(f"{value!r}: write NAME=SPLIT, such as testall=test, or NAME=- to leave it out")
        pairs[name] = split
    return pairs


@command.command("scan")
@click.argument("folder", type=click.Path(path_type=Path))
@options.workspace_option
@click.option(
    "--split-map", "split_map", multiple=True, callback=split_pairs, metavar="NAME=SPLIT",
    help="Which split a name is (dev is val, testall is test by itself); NAME=- leaves it out. May be given again.",
)  # fmt: skip
@click.option(
    "--tags", "tag_form", type=click.Choice(["colour-class", "class"]), default="colour-class", show_default=True,
    help="Tags are split at the first space into colour and class, or taken whole.",
)  # fmt: skip
@click.option(
    "--size-order", type=click.Choice(["width-height", "height-width"]), default="width-height", show_default=True,
    help="The columns of *_sizes.npy.",
)  # fmt: skip
@options.force_option
@options.json_option
def scan(
    workspace: Workspace,
    folder: Path,
    split_map: dict[str, str],
    tag_form: str,
    size_order: str,
    force: bool,
    as_json: bool,
) -> None:
    """FOLDER in the SCAN layout: train_ims.npy, train_caps.txt, dev_ims.npy, ... (f30k_precomp, coco_precomp).

    Beside the features: *_ids.txt, *_boxes.npy, *_sizes.npy, *_tags.json, *_scores.npy where there are any.
    Writes dataset.jsonl unless `itmkit prepare` made one, and caches/regions.

    \b
    Example: itmkit import-features scan f30k_precomp -w work
    """
    from itmkit.commands import console
    from itmkit.regions.imports import import_scan

    result = import_scan(
        workspace,
        folder,
        split_map=split_map,
        tag_form=tag_form,  # type: ignore[arg-type]
        size_order=size_order,  # type: ignore[arg-type]
        force=force,
        progress=console.ConsoleProgress(),
    )
    if as_json:
        console.print_json(asdict(result))
        return
    if result.unchanged:
        console.out.print(f"{result.path}: complete, made from these files; nothing to do")
        return
    splits = ", ".join(f"{name} {count}" for name, count in result.splits.items())
    console.out.print(
        f"{result.images} pictures ({splits}), {result.captions} captions, {result.regions} regions x {result.dim}"
        f" with {', '.join(result.extras) or 'neither boxes nor tags'} -> {result.path}"
    )
    if result.repeated:
        console.out.print(f"{result.repeated} of {result.rows} rows repeated an earlier row and were left out")
    if result.skipped:
        console.out.print(f"{result.skipped} pictures skipped (listed in {result.path / 'manifest.json'})")
    if "boxes" not in result.extras:
        console.out.print("without boxes, build-graphs has no block positions and no polar coordinates to make")

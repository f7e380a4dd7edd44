"""itmkit explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from itmkit.commands import complete, options
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

    from itmkit.trained import Explanation, Matcher


@click.command("explain")
@click.argument("caption")
@options.workspace_option
@click.option(
    "--run",
    metavar="NAME|PATH",
    shell_complete=complete.runs,
    show_default="the only one",
    help="The trained run, of this workspace or the folder of one.",
)
@click.option("--image", required=True, metavar="ID|FILE", help="An image of the run's workspace, or any picture file.")
@click.option(
    "-o",
    "--out",
    type=options.Path_,
    metavar="FILE",
    help="Write a figure (.svg, .png, .pdf; needs itmkit[report]), or all numbers (.json).",
)
@options.models_option
@options.device_option
@options.json_option
def command(
    caption: str,
    workspace: Workspace,
    run: str | None,
    image: str,
    out: Path | None,
    models: tuple[str, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Show why a matcher scores an image and a caption as it does.

    The table says of every word how much the score falls without it, and which region it looks at most, by its number
    in `itmkit inspect --image`. The figure shows each content word's regions in the light and the rest of the picture
    in the dark, the caption with its tree, and the entropies (MEFN) or edges (CMFG) of the method.

    \b
    Examples:
      itmkit explain --run mpsm --image scene-200000 "a red car left of a boat"
      itmkit explain --run mpsm --image beach.jpg "two dogs" -o beach.png
      itmkit explain --run ../old/runs/mpsm --image beach.jpg "two dogs" --json
    """
    from itmkit.commands import console
    from itmkit.report.explained import check_target, write_explained
    from itmkit.runs.facts import run_folder
    from itmkit.trained import open_matcher

    places = options.places_of(models)
    if out is not None:
        out = options.fixed(out)
        check_target(out)
    with open_matcher(run_folder(workspace, run), device=device, models=places) as matcher:
        found = matcher.explain(image, caption)
        unknown = matcher.texts.unknown([caption])
        if out is not None:
            picture = _picture(matcher, image) if out.suffix.lower() != ".json" else None
            write_explained(found, out, picture, run=matcher.name)
    if unknown:
        console.err.print(f"words that training did not see, all read as the same: {', '.join(unknown)}")
    if as_json:
        console.print_json(found.to_json())
        return
    _show(found, matcher.name)
    if out is not None:
        console.out.print(f"-> {out}")


def _picture(matcher: Matcher, image: str) -> Image.Image | None:
    """None where the picture is not to be had, while its regions are in a cache: the figure is grey there."""
    from itmkit.commands.console import err
    from itmkit.errors import ItmkitError

    try:
        return matcher.picture(image)
    except ItmkitError as error:
        err.print(f"drawn without the picture: {error}")
        return None


def _show(found: Explanation, run: str) -> None:
    from itmkit.commands.console import out, styled, table
    from itmkit.report.page import signed
    from itmkit.report.spotlight import region_name

    out.print(styled((found.image, "bold"), f": score {found.score:.4f} by {run}"))
    if len(found.members) > 1:
        out.print(f"  mean of {', '.join(f'{name} {score:.4f}' for name, score in found.members.items())}")
    attention = found.attention
    rows = []
    for number, word in enumerate(found.words.words):
        row = [word, signed(found.importance[number], 4)]
        if attention is not None:
            best = int(attention[number].argmax())
            row += [region_name(found.regions, best), f"{attention[number, best]:.3f}"]
        rows.append(row)
    looks = [f"looks at {found.part}", "weight"] if attention is not None else []
    table(None, ["word", "importance", *looks], rows, right=["importance", "weight"])
    if attention is None:
        out.print("the method compares whole pictures with whole captions: no word looks at a region")

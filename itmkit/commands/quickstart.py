"""itmkit quickstart."""

from __future__ import annotations

import shlex

import click

from itmkit.commands.options import as_workspace, force_option, json_option
from itmkit.workspace import Workspace


@click.command("quickstart")
@click.option(
    "-w", "--workspace", default="quickstart", show_default=True, type=click.Path(file_okay=False), metavar="DIR",
    callback=as_workspace, help="Folder to work in; a killed quickstart continues there.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of the scenes, the weights and the order of training.")
@force_option
@json_option
def command(workspace: Workspace, seed: int, force: bool, as_json: bool) -> None:
    """Run the whole pipeline once on drawn scenes: a few minutes on two cores, without downloads.

    Draws 1,400 pictures with five captions each, finds their objects with the detector that ships with itmkit,
    parses the captions, trains MPSM and VSE++ on the same caches and compares them on 300 test pictures, each of
    which has siblings with the same objects but other colours or places. A second call shows the table again.

    \b
    Example:
      itmkit quickstart -w quickstart
    """
    from itmkit.commands.console import ConsoleProgress, out, print_json, styled, table
    from itmkit.commands.evaluate import show
    from itmkit.quickstart import quickstart

    result = quickstart(workspace, seed=seed, force=force, progress=ConsoleProgress())
    if as_json:
        print_json(result.to_json())
        return
    show(result.evaluation)
    out.print(f"MPSM over VSE++: {result.gain:+.1f} rsum, same regions, same captions, seed {seed}")
    out.print()
    for example in result.examples:
        out.print(styled(("picture" if example.direction == "i2t" else "caption", "bold"), f" {example.query}"))
        for number, (text, right) in enumerate(zip(example.found, example.right, strict=True), 1):
            out.print(styled(f"  {number}. {text}", *([("  right", "green")] if right else [])))
    rows = [(stage, f"{seconds:.0f}") for stage, seconds in result.seconds.items()]
    table("seconds", ["stage", "s"], [*rows, ("all", f"{sum(result.seconds.values()):.0f}")], right=["s"])
    place = shlex.quote(str(workspace.root))
    out.print(f"files: {workspace.root}; what is there: itmkit status -w {place}")
    caption = shlex.quote(next(example.query for example in result.examples if example.direction == "t2i"))
    image = shlex.quote(next(example.query for example in result.examples if example.direction == "i2t").split()[0])
    out.print("see where MPSM is right and VSE++ is wrong, search the scenes, and ask why a picture was found:")
    out.print(f"  itmkit report -w {place} mpsm vsepp")
    out.print(f"  itmkit index -w {place} --run mpsm")
    out.print(f"  itmkit search -w {place} {caption}")
    out.print(f"  itmkit explain -w {place} --run mpsm --image {image} {caption} -o explained.svg")

"""itmkit photos: a folder of photographs, ready to be searched."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from itmkit.commands import options
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace

SHOWN = 10  # files left out


@click.command("photos")
@click.argument("folder", metavar="DIR", type=options.Path_)
@options.workspace_option
@click.option(
    "--model", metavar="PATH|NAME", show_default="google/siglip2-base-patch16-224",
    help="Folder of a dual encoder (CLIP, SigLIP, ...), or its name on the hub.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Fetch the model without asking, if it is not on this machine.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", show_default="4 on a CPU, else 32",
    help="Pictures the model takes at once.",
)  # fmt: skip
@options.device_option
@options.decoding_options
@options.force_option
@options.json_option
@click.pass_context
def command(
    context: click.Context,
    workspace: Workspace,
    folder: Path,
    model: str | None,
    yes: bool,
    batch_size: int | None,
    device: str | None,
    workers: int | None,
    timeout: float | None,
    force: bool,
    as_json: bool,
) -> None:
    """From a folder of photographs to an index, in one command: then `itmkit search` finds them by words.

    Takes every picture in DIR and in the folders below it, no captions needed, and encodes each once by a dual encoder.
    The pictures stay where they are. Run it again when there are new ones: only those are encoded.

    \b
    Examples:
      itmkit photos ~/Pictures -w photos
      itmkit search "two dogs in the snow" -w photos
    """
    from itmkit.commands.console import ConsoleProgress, out, print_json
    from itmkit.job import Job
    from itmkit.photos import MODEL, SHARD, SIZE, is_here, photos

    model = model or MODEL
    if not folder.is_dir():
        raise ItmkitError(f"{folder}: {'is a file, a folder is needed' if folder.exists() else 'no such folder'}")
    if not yes and not is_here(model):
        _ask(model, f" ({SIZE})" if model == MODEL else "")
    job = Job(
        batch=batch_size,
        device=device,
        workers=workers,
        timeout=timeout,
        shard_size=SHARD,
        force=force,
        progress=ConsoleProgress(),
    )
    result = photos(workspace, options.fixed(folder), model=model, job=job)
    if as_json:
        print_json(asdict(result))
        return
    for note in result.notes:
        out.print(f"note: {note}")
    for line in result.left_out[:SHOWN]:
        out.print(f"left out: {line}")
    if len(result.left_out) > SHOWN:
        out.print(f"and {len(result.left_out) - SHOWN:,} more")
    out.print(f"{result.images:,} photographs, {result.encoded:,} of them new -> {result.index}")
    given = context.get_parameter_source("workspace") == click.core.ParameterSource.COMMANDLINE
    where = f" -w {shlex.quote(str(workspace.root))}" if given else ""
    out.print(f'next: itmkit search "two dogs in the snow"{where}')


def _ask(model: str, size: str) -> None:
    """Asks whether a model may be fetched. Raises ItmkitError where nobody can answer, or the answer is no."""
    ways = f"--yes fetches it from the Hugging Face hub{size}; --model FOLDER takes one that is here"
    if not sys.stdin.isatty():
        raise ItmkitError(f"{model} is not on this machine: {ways}")
    if not click.confirm(f"{model} is not on this machine. Fetch it from the Hugging Face hub{size}?", err=True):
        raise ItmkitError(f"nothing was fetched: {ways}")

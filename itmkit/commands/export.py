"""itmkit export: a trained run as a folder of its own."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import click

from itmkit.commands import complete
from itmkit.commands.options import Path_, fixed, force_option, json_option, workspace_option
from itmkit.workspace import Workspace


@click.command("export")
@click.argument("run", shell_complete=complete.runs)
@click.argument("folder", metavar="DIR", type=Path_)
@workspace_option
@click.option("--push", "repository", metavar="OWNER/NAME", help="Upload the folder to the Hugging Face hub, too.")
@click.option("--private", is_flag=True, help="With --push: if the repository is new, only you can see it.")
@force_option
@json_option
def command(
    workspace: Workspace,
    run: str,
    folder: Path,
    repository: str | None,
    private: bool,
    force: bool,
    as_json: bool,
) -> None:
    """A run as a folder that opens anywhere: weights, settings, vocabulary, figures, and a card that describes it.

    RUN is a run of the workspace, or the folder of one. In Python, itmkit.open(DIR) opens the export, and `itmkit
    evaluate --run DIR` evaluates it on the data set of another workspace. It holds safetensors, TOML and JSON only, and
    no pictures, captions or features.

    --push uploads it with the token of HF_TOKEN or of `hf auth login`. itmkit.open("hf:OWNER/NAME") fetches it again.

    \b
    Examples:
      itmkit export mpsm exported/mpsm
      itmkit export mpsm exported/mpsm --push me/mpsm-flickr30k
    """
    from itmkit.commands.console import out, print_json
    from itmkit.export.export import export_run, push
    from itmkit.files import size_in_words

    if private and not repository:
        raise click.UsageError("--private belongs to --push OWNER/NAME")
    result = export_run(workspace, run, fixed(folder), force=force)
    if not as_json:
        said = "holds this run already" if result.unchanged else f"{result.files} files, {size_in_words(result.bytes)}"
        out.print(f"{result.folder}: {said}")
    if repository:
        address, notes = push(result.folder, repository, private=private)
        result = replace(result, address=address, notes=tuple(notes))
    if as_json:
        print_json(asdict(result))
        return
    if result.address:
        out.print(f"uploaded to {result.address}")
    for note in result.notes:
        out.print(f"note: {note}")

"""itmkit serve."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

import click

from itmkit.commands import complete, options
from itmkit.workspace import Workspace

NEEDED = ("starlette", "uvicorn", "jinja2")
HERE = ("127.0.0.1", "localhost", "::1")


@click.command("serve")
@options.workspace_option
@click.option(
    "--run", metavar="NAME", shell_complete=complete.runs, show_default="the one that made the index",
    help="The run that made the index.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any free port.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
    help="Where to listen. With any other address, everyone who reaches it sees your pictures.",
)  # fmt: skip
@options.models_option
@options.device_option
def command(
    workspace: Workspace, run: str | None, port: int, host: str, models: tuple[str, ...], device: str | None
) -> None:
    """A page for searching the indexed images of a workspace. Needs itmkit[serve].

    It is served on this machine only, until Ctrl-C. `itmkit index` has to be run first.

    \b
    Examples:
      itmkit serve -w work
      itmkit serve -w work --port 8080 --device cpu
      ssh -L 8000:127.0.0.1:8000 server      (serve there, open the page here)
    """
    from itmkit.commands.console import err, out
    from itmkit.errors import ItmkitError

    for name in NEEDED:
        try:
            import_module(name)
        except ImportError:
            raise ItmkitError(f"serving needs the package {name}: pip install 'itmkit[serve]'") from None
    places = options.places_of(models)

    from itmkit.index.open import behind_note
    from itmkit.serve.answers import open_answers
    from itmkit.serve.run import bound, server, url_of

    with bound(host, port) as listening:
        answers = open_answers(workspace, run=run, device=device, models=places)
        if host not in HERE:
            err.print(
                f"warning: with --host {host} everyone who reaches this machine sees the pictures and captions of"
                f" {workspace.root}; there is no password and no encryption"
            )
        if note := behind_note(workspace, answers.searcher.store):
            err.print(note)
        images = len(answers.images.positions)
        out.print(f"{images:,} images, run {answers.matcher.name}: {url_of(listening)} (Ctrl-C ends)")
        serving = server(answers, host)
        with suppress(KeyboardInterrupt):  # uvicorn has ended in good order and passes the signal on
            serving.run([listening])
        err.print("ended")

"""The command line: one small module a command, loaded only when it is called or listed."""

from __future__ import annotations

import importlib
import sys

import click

import itmkit

# In the order of the pipeline, which is also the order of `itmkit --help`.
COMMANDS = {
    "quickstart": "quickstart",
    "prepare": "prepare",
    "extract-regions": "extract_regions",
    "import-features": "import_features",
    "parse-text": "parse_text",
    "build-graphs": "build_graphs",
    "train": "train",
    "evaluate": "evaluate",
    "status": "status",
    "inspect": "inspect",
}


class LazyGroup(click.Group):
    """Imports the module of a command when the command is needed. No module imports torch at its top."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        module = COMMANDS.get(name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(f"itmkit.commands.{module}").command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(itmkit.__version__, prog_name="itmkit")
def cli() -> None:
    """Image-text matching: find the caption for an image and the image for a caption.

    Stages talk through files in a workspace (-w DIR, or $ITMKIT_WORKSPACE, or the current folder):

    \b
      prepare -> extract-regions -> parse-text -> build-graphs -> train -> evaluate

    `itmkit status` shows what is done and what to run next. A stage run again continues or does nothing.
    """


def main() -> None:
    """Entry point of the `itmkit` command."""
    from itmkit.commands.console import run

    sys.exit(run(cli))

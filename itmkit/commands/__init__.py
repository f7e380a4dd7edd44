"""The command line: one small module a command, loaded only when it is called or listed."""

from __future__ import annotations

import importlib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

import itmkit
from itmkit.errors import nearest

# In the order of the pipeline: name -> (module, what it does).
COMMANDS = {
    "quickstart": ("quickstart", "The whole pipeline once, on drawn scenes."),
    "photos": ("photos", "Your photographs, ready to be searched: no captions, one command."),
    "prepare": ("prepare", "Read a data set: Karpathy, Flickr8k, COCO, MIRFLICKR, NUS-WIDE, JSON, CSV."),
    "extract-regions": ("extract_regions", "Boxes, features, tags and colours of every picture."),
    "extract-patches": ("extract_patches", "Patch vectors of a vision transformer, with [CLS]."),
    "import-features": ("import_features", "Region features from files of other projects."),
    "embed": ("embed", "One vector per picture and per caption, by CLIP and its like."),
    "merge": ("merge", "Merge the parts that several jobs wrote into one cache."),
    "parse-text": ("parse_text", "Words and dependency trees of the captions."),
    "encode-text": ("encode_text", "A vector of every word and tag by a frozen language model."),
    "build-graphs": ("build_graphs", "Graphs of regions and of words."),
    "methods": ("methods", "The methods, their settings and what their papers report."),
    "train": ("train", "Train a matcher, or continue a killed run."),
    "import-checkpoint": ("import_checkpoint", "Published weights of other projects as a run."),
    "evaluate": ("evaluate", "R@1/5/10 both ways, of single runs and ensembles."),
    "compare": ("compare", "Several methods and seeds on one workspace: one table."),
    "ablate": ("ablate", "Each part of a method off, one by one: one table of differences."),
    "index": ("index", "Encode a workspace's images and captions for search."),
    "search": ("search", "Find pictures by words, by a picture or by a region."),
    "serve": ("serve", "A page on this machine for searching the indexed images."),
    "export": ("export", "A trained run as a folder that opens anywhere, with a card."),
    "explain": ("explain", "Which regions each word of a caption looks at, and what it counts for."),
    "plot": ("plot", "Figures of runs: over epochs, by rank, method, slice and label."),
    "report": ("report", "One page of runs that opens from disk: figures, queries, pictures, words."),
    "status": ("status", "What is done, missing or stale, and what to run next."),
    "inspect": ("inspect", "Describe any file of a workspace."),
}


# Headings of `itmkit --help`; a command that none names comes last.
HEADINGS = {
    "Data": ("quickstart", "photos", "prepare"),
    "Features of pictures": ("extract-regions", "extract-patches", "import-features", "embed", "merge"),
    "Text and graphs": ("parse-text", "encode-text", "build-graphs"),
    "Training": ("train", "import-checkpoint", "compare", "ablate"),
    "Results": ("evaluate", "explain", "plot", "report", "export"),
    "Search": ("index", "search", "serve"),
    "Look-up": ("methods", "status", "inspect"),
}


class LazyGroup(click.Group):
    """Imports the module of a command when it is called; `itmkit --help` imports none."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"itmkit.commands.{COMMANDS[name][0]}").command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not context.resilient_parsing:
            context.fail(f"No such command {args[0]!r}{nearest(args[0], COMMANDS) or '.'}")
        return super().resolve_command(context, args)

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        words = [CompletionItem(name, help=says) for name, (_, says) in COMMANDS.items() if name.startswith(incomplete)]
        return [*words, *click.Command.shell_complete(self, context, incomplete)]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        named = {name for names in HEADINGS.values() for name in names}
        others = tuple(name for name in COMMANDS if name not in named)
        for heading, names in {**HEADINGS, "Other commands": others}.items():
            if names:
                with formatter.section(heading):
                    # All headings put their second column at the same place.
                    wide = max(map(len, COMMANDS))
                    formatter.write_dl([(name.ljust(wide), COMMANDS[name][1]) for name in names])


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
    # Before anything loads torch: OpenMP reads its settings once, when it is loaded.
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys() and _others_compute():
        os.environ["OMP_WAIT_POLICY"] = "passive"
    from itmkit.commands.console import run

    sys.exit(run(cli))


def _others_compute() -> bool:
    """Whether other programs want the cores now; False where the system does not say.

    A thread of OpenMP that waits for the others keeps its core busy for a while. Alone on a machine that is best: with
    sleep after each of many small operations, a training step takes a quarter longer. Where other programs want the
    cores, training falls to a fraction of its speed that way, and sleep is best.
    """
    seen = []
    with suppress(OSError, ValueError, IndexError):
        for _ in range(5):  # what runs for a moment only does not count
            running = (
                Path("/proc/loadavg").read_text(encoding="ascii").split()[3]
            )  # "2/311": of all threads, this one too
            seen.append(int(running.partition("/")[0]) - 1)
            time.sleep(0.002)
    return bool(seen) and sorted(seen)[len(seen) // 2] > 0

"""What the commands of `itmkit prepare` have in common: options, and what they tell about a data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from itmkit.commands.console import out, print_json, table
from itmkit.commands.options import force_option, json_option, workspace_option
from itmkit.dataset import ALL, SPLITS
from itmkit.datasets.prepared import LEFT_OUT, PreparedDataset
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.datasets.pair_rows import Columns
    from itmkit.datasets.skip import Skip

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 10  # things left out
skip_missing_option = click.option(
    "--skip-missing", is_flag=True, help="Leave out images whose picture is missing or unreadable, and say how many."
)
skip_damaged_option = click.option(
    "--skip-damaged", is_flag=True, help="Leave out records and pictures that cannot be read, and list them."
)
skip_empty_option = click.option(
    "--skip-empty", is_flag=True, help="Leave out captions without words, and images without captions, and list them."
)
split_option = click.option(
    "--split", type=click.Choice(SPLITS), help="The split of images that have none in the file."
)


add_option = click.option("--add", is_flag=True, help="Add what the data set lacks, as its last images.")


def skip_of(options: dict[str, Any]) -> Skip:
    """Takes the options of what is left out out of the others."""
    from itmkit.datasets.skip import Skip

    return Skip(**{name: options.pop(f"skip_{name}") for name in ("missing", "damaged", "empty")})


def columns_of(options: dict[str, Any]) -> Columns:
    """Takes the options of the columns out of the others."""
    from itmkit.datasets.pair_rows import Columns

    return Columns(options.pop("delimiter", None), options.pop("image_column"), options.pop("caption_column"))


def delimiter_of(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "bar": "|", "space": " "}
    value = named.get(value, value) if value is not None else None
    if value is not None and (len(value) != 1 or value in '"\r\n'):
        raise click.BadParameter(f"{value!r}: one character, or tab, comma, semicolon, pipe", context, parameter)
    return value


image_column_option = click.option(
    "--image-column", metavar="NAME", show_default="image, file_name, filepath, ... whichever there is",
    help="What names the picture.",
)  # fmt: skip
caption_column_option = click.option(
    "--caption-column", metavar="NAME", multiple=True, show_default="caption, text, title, ... whichever there is",
    help="What holds a caption; repeatable.",
)  # fmt: skip


def skipping(function: F) -> F:
    return skip_missing_option(skip_damaged_option(skip_empty_option(function)))


def common(function: F) -> F:
    @wraps(function)
    def alone(workspace: Workspace, **options: Any) -> Any:
        with workspace.preparing():
            return function(workspace=workspace, **options)

    return workspace_option(force_option(json_option(cast("F", alone))))


def show(result: PreparedDataset, as_json: bool) -> None:
    if as_json:
        print_json(result.to_json())
        return
    rows = [(split, f"{c['images']:,}", f"{c['captions']:,}") for split, c in result.counts.items()]
    images, captions = (sum(c[what] for c in result.counts.values()) for what in ("images", "captions"))
    if list(result.counts) != [ALL]:
        rows.append(("all", f"{images:,}", f"{captions:,}"))
    table(None, ["split", "images", "captions"], rows, right=["images", "captions"])
    for note in result.notes:
        out.print(f"note: {note}")
    if result.left_out:
        listed = result.path.with_name(LEFT_OUT)
        out.print(f"{len(result.left_out):,} records, captions or images were left out (all are listed in {listed}):")
        for line in result.left_out[:SHOWN]:
            out.print(f"  {line}")
        if len(result.left_out) > SHOWN:
            out.print(f"  and {len(result.left_out) - SHOWN:,} more")
    already = "is already this data set; nothing to do" if result.unchanged else "written"
    out.print(f"{result.path} {already}")

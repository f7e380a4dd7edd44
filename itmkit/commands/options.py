"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from itmkit.commands import complete
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])


def as_workspace(context: click.Context, parameter: click.Parameter, value: str) -> Workspace:
    return Workspace(fixed(Path(value)))


def fixed(path: Path) -> Path:
    """The same place wherever the process goes later. Links are kept, unless `..` stands behind them."""
    return path.resolve() if ".." in path.parts else path.absolute()


def workspace_option(function: F) -> F:
    """`-w DIR`: passes a `Workspace` as the argument `workspace`."""
    return click.option(
        "-w",
        "--workspace",
        envvar="ITMKIT_WORKSPACE",
        default=".",
        show_default="current folder",
        type=click.Path(file_okay=False),
        callback=as_workspace,
        help="Folder with the data set and its caches.",
    )(function)


def force_option(function: F) -> F:
    return click.option("--force", is_flag=True, help="Make it anew; the old one stays until the new is whole.")(
        function
    )


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for machines.")(function)


def split_option(*, help: str = "As in evaluate.") -> Callable[[F], F]:
    """`--split NAME`, with completion."""

    def decorate(function: F) -> F:
        return click.option(
            "--split",
            default="test",
            show_default=True,
            metavar="NAME",
            shell_complete=complete.splits,
            help=help,
        )(function)

    return decorate


def device_option(function: F) -> F:
    return click.option(
        "--device", default=None, show_default="cuda if there is one, else cpu", help="Where the model runs."
    )(function)


def precision_option(function: F) -> F:
    """`--precision`: as it is given, None where it is not."""
    return click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        show_default="float32",
        help="Precision of the model's products: half precision is faster on a GPU and differs by rounding.",
    )(function)


class Amount(click.FloatRange):
    """A number above 0 and not above `most`. A range alone lets NaN through."""

    def __init__(self, most: int) -> None:
        super().__init__(0, most, min_open=True)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        found = super().convert(value, parameter, context)
        if math.isnan(found):
            raise click.BadParameter(f"{value!r} is no number", context, parameter)
        return found


def decoding_options(function: F) -> F:
    """`--workers`, `--timeout`: how pictures are decoded."""
    function = click.option(
        "--timeout",
        type=Amount(86_400),
        metavar="SECONDS",
        help="Longest time for decoding one picture (120); slower ones are skipped.",
    )(function)
    return click.option(
        "--workers",
        type=click.IntRange(1, 64),
        metavar="N",
        help="Processes that decode pictures (one per core, at most 8).",
    )(function)


def shard_option(function: F) -> F:
    """`--shard i/n`, `--shard-size`: which shards this job writes, and how large they are."""
    function = click.option(
        "--shard-size",
        type=click.IntRange(min=1),
        metavar="N",
        help="Pictures or captions per shard: the most that a kill loses, and the unit of --shard (default: as begun).",
    )(function)
    return click.option(
        "--shard",
        metavar="I/N",
        help="Do every N-th shard, from the I-th: 0/4 to 3/4. Then run `itmkit merge`.",
    )(function)


Path_ = click.Path(path_type=Path)


def models_option(function: F) -> F:
    """`--model-of CACHE=FOLDER`, any number of times."""
    return click.option(
        "--model-of",
        "models",
        multiple=True,
        metavar="CACHE=FOLDER",
        help="Where the model of a cache lies now, if it moved since training. May be repeated.",
    )(function)


def places_of(models: tuple[str, ...]) -> dict[str, str]:
    """What `--model-of` says. Raises ItmkitError where one is not written CACHE=FOLDER."""
    wrong = [given for given in models if "=" not in given]
    if wrong:
        raise ItmkitError(
            [f"--model-of {given}: is written CACHE=FOLDER, such as words-bert=models/bert" for given in wrong]
        )
    return dict(given.split("=", 1) for given in models)


class CountOrAll(click.ParamType):
    """A number above 0, or None for `all`."""

    name = "N|all"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int | None:
        if value is None or value == "all":
            return None
        if isinstance(value, int) or (str(value).isdecimal() and int(value) > 0):
            return int(value)
        raise click.BadParameter(f"{value!r} is neither a number above 0 nor `all`", context, parameter)


class Several(click.ParamType):
    """Numbers between commas, each within limits and none twice: a tuple, () where the option is not given."""

    name = "A,B,..."

    def __init__(self, kind: type[int] | type[float], least: float, most: float) -> None:
        self._kind, self._least, self._most = kind, least, most

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(self._kind(one) for one in str(value).split(","))
        except ValueError:
            raise click.BadParameter(f"{value!r} is no list such as 1,5,10", context, parameter) from None
        outside = [one for one in found if not self._least <= one <= self._most]
        if outside:
            raise click.BadParameter(f"{outside[0]} is not from {self._least:g} to {self._most:g}", context, parameter)
        if len(set(found)) < len(found):
            raise click.BadParameter(f"{value!r} names a number twice", context, parameter)
        return found

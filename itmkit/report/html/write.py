"""The page of a report: one file that holds all, or a folder with pictures beside it. It loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itmkit.errors import ItmkitError
from itmkit.files import check_replaces, remove_folder, size_in_words, write_text
from itmkit.report.html.charts import charts, trees
from itmkit.report.html.pictures import FOLDER
from itmkit.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_BYTES = 20_000_000  # of one file; browsers take long beyond it
INDEX = "index.html"
_OURS = re.compile(rf"{re.escape(INDEX)}|{FOLDER}/(\d{{5,}}\.jpg)?")  # what a folder of ours holds
_MARK = b'<meta name="generator" content="itmkit report">'
_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Written:
    """A report that was written. bytes: of all files. notes: what it lacks, and why."""

    path: Path
    bytes: int
    notes: list[str]


def write_page(
    path: Path, data: dict[str, Any], pictures: Mapping[str, Mapping[str, str | int]], *, beside: bool = False
) -> Written:
    """Writes the page; the file appears whole.

    Args:
        data: as `itmkit.report.html.make` gathers it; it is put into the page, too.
        pictures: {image: {"src", "width", "height"}}.
        beside: pictures are files beside the page.

    Raises:
        ItmkitError: one file would have more than `MOST_BYTES`; jinja2 is not installed.
    """
    text = rendered(data, pictures, beside=beside)
    size = len(text.encode("utf-8"))
    if size > MOST_BYTES and not beside:
        shown = max(len(data["queries"]["t2i"]), len(data["queries"]["i2t"]), 1)
        fewer = max(1, int(0.9 * shown * MOST_BYTES / size))
        raise ItmkitError(
            f"{path}: the page would have {size_in_words(size)}, and browsers fail beyond {size_in_words(MOST_BYTES)};"
            f" --queries {fewer} makes it small enough, or --pages writes a folder with the pictures beside the page"
        )
    write_text(path, text)
    return Written(path, size, data["notes"])


def rendered(data: dict[str, Any], pictures: Mapping[str, Mapping[str, str | int]], *, beside: bool = False) -> str:
    """The page as text. Whatever comes from captions, ids and names is escaped by the template, and never markup."""
    from markupsafe import Markup

    style, script = ((_PAGE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    sources = "data: 'self' file:" if beside else "data:"
    policy = (
        f"default-src 'none'; img-src {sources}; style-src 'sha256-{_sha256(style)}';"
        f" script-src 'sha256-{_sha256(script)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            data=data,
            pictures=pictures,
            policy=policy,
            beside=beside,
            style=Markup(style),
            script=Markup(script),
            json=Markup(in_script(data)),
            charts={name: Markup(drawn) for name, drawn in charts(data).items()},
            trees=[Markup(tree) for tree in trees(data)],
            **_functions(),
        )
    )


def in_script(data: Any) -> str:
    """JSON that nothing can break out of a <script> with: `<`, `>`, `&` and all but ASCII are written as escapes."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def check_target(path: Path, *, folder: bool) -> None:
    """Raises ItmkitError if something is there that is no report, or the package that writes pages is lacking."""
    drawing_package()
    if not folder:
        check_replaces(path, _is_report, "a report of `itmkit report`")
    elif path.exists():
        ours = path.is_dir() and (not any(path.iterdir()) or _is_report(path / INDEX))
        foreign = next((name for name in _names_in(path) if not _OURS.fullmatch(name)), None) if ours else None
        if not ours or foreign:
            also = f" (it holds {foreign})" if foreign else ""
            raise ItmkitError(
                f"{path}: is there already and is no folder of `itmkit report --pages`{also}; name another one"
            )


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a folder beside `path`, whose files take the place of an earlier report's in the end.

    On an exception `path` keeps what it had. It stays the same folder: a shell may stand in it, a link lead to it.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial")
    remove_folder(partial)
    try:
        partial.mkdir(parents=True)
        yield partial
        path.mkdir(exist_ok=True)
        if (path / FOLDER).exists():
            (path / FOLDER).rename(partial / "old")
        if (partial / FOLDER).exists():
            (partial / FOLDER).rename(path / FOLDER)
        (partial / INDEX).replace(path / INDEX)
    finally:
        remove_folder(partial)


def drawing_package() -> None:
    """Raises ItmkitError where jinja2 is not installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise ItmkitError("a report needs the package jinja2: pip install 'itmkit[report]'") from None


def _names_in(folder: Path) -> Iterator[str]:
    """The paths of all that is in a folder, those of folders with a slash at the end."""
    for path in folder.rglob("*"):
        yield path.relative_to(folder).as_posix() + "/" * path.is_dir()


def _is_report(path: Path) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        return _MARK in file.read(1000)
    return False


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Control characters, and what turns the direction of writing, are written out; our own markup is left alone."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _functions() -> dict[str, Any]:
    from markupsafe import Markup

    from itmkit.report.html import svg

    return {"key": lambda number: Markup(svg.key(number)), "bar": lambda *given: Markup(svg.bar(*given))}

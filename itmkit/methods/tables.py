"""The lists of methods in README.md and docs, written from the registry: what stands there between two markers.

    python -m itmkit.methods.tables            # says which pages are out of date
    python -m itmkit.methods.tables --write    # brings them up to date

in a checkout of the repository.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from itmkit.errors import ItmkitError
from itmkit.files import read_text, write_text
from itmkit.matchers import METHODS, method

BEGIN, END = "<!-- methods -->", "<!-- /methods -->"
MARKED = re.compile(f"{BEGIN}(.*?){END}", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One module of `itmkit.matchers`. names: its methods, the one that the module is called after first."""

    names: tuple[str, ...]
    summary: str
    ablations: tuple[str, ...]

    @property
    def page(self) -> str:
        return f"{self.names[0]}.md"


def entries() -> list[Entry]:
    """The modules in the order of the registry, each with all methods that are it with some settings."""
    names: dict[str, list[str]] = {}
    for name, place in METHODS.items():
        names.setdefault(place, []).append(name)
    modules = [(tuple(group), method(group[0])) for group in names.values()]
    return [Entry(group, module.SUMMARY, tuple(getattr(module, "ABLATIONS", ()))) for group, module in modules]


def _readme() -> str:
    rows = [f"| `{'`, `'.join(one.names)}` | {one.summary} ([docs/{one.page}](docs/{one.page})) |" for one in entries()]
    return "\n".join(["", "| `--method` | |", "| --- | --- |", *rows, ""])


def _index() -> str:
    rows = [f"| {_link(one)} | {one.summary} |" for one in entries()]
    return "\n".join(["", "| page | |", "| --- | --- |", *rows, ""])


def _train() -> str:
    return ", ".join(_link(one) for one in entries())


def _ablate() -> str:
    rows = [f"| {_link(one)} | {', '.join(one.ablations)} |" for one in entries() if one.ablations]
    return "\n".join(["", "| method | rows |", "| --- | --- |", *rows, ""])


def _link(one: Entry) -> str:
    return f"[{', '.join(one.names)}]({one.page})"


PAGES: dict[str, Callable[[], str]] = {
    "README.md": _readme,
    "docs/index.md": _index,
    "docs/train.md": _train,
    "docs/ablate.md": _ablate,
}


def written(root: Path) -> dict[Path, str]:
    """Each page that is out of date, with the text that it should have.

    Args:
        root: the folder of README.md and docs.

    Raises:
        ItmkitError: a page is missing, or does not have the two markers once.
    """
    found = {}
    for name, write in PAGES.items():
        path = root / name
        if not path.is_file():
            raise ItmkitError(f"{path}: no such page; run this in a checkout of the repository")
        text = read_text(path)
        parts = MARKED.split(text)
        if len(parts) != 3:
            raise ItmkitError(f"{path}: needs {BEGIN} and {END}, once each")
        fresh = parts[0] + BEGIN + write() + END + parts[2]
        if fresh != text:
            found[path] = fresh
    return found


def main(arguments: list[str]) -> int:
    """Exit code 0 where nothing is out of date (any more), 1 where something is, 2 for what cannot be done."""
    if arguments not in ([], ["--write"]):
        sys.stderr.write("usage: python -m itmkit.methods.tables [--write]\n")
        return 2
    try:
        stale = written(Path.cwd())
    except ItmkitError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for path, text in stale.items():
        if arguments:
            write_text(path, text)
        sys.stdout.write(f"{path}: {'written' if arguments else 'out of date'}\n")
    return 1 if stale and not arguments else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

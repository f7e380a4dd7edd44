"""Which colour and mark each run has: the same in all figures of a workspace, whichever runs come or go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from pydantic import TypeAdapter

from itmkit.files import write_json
from itmkit.report.figure import MOST
from itmkit.typed import Count, read_checked
from itmkit.workspace import Workspace

_NUMBERS: TypeAdapter[dict[str, int]] = TypeAdapter(dict[str, Count])


class Colours:
    """A number for each run (and each member that was drawn), kept in plots/colours.json of the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        """Reads the numbers, forgets those of runs that are gone, and gives new runs the lowest free ones by name.

        Raises:
            ItmkitError: the file holds something else.
        """
        self._path = workspace.root / "plots" / "colours.json"
        self._kept = _read(self._path)
        runs = {path.name for path in (workspace.root / "runs").glob("*") if path.is_dir()}
        self._numbers = {name: number for name, number in self._kept.items() if name.partition("/")[0] in runs}
        for run in sorted(runs):
            self._number(run)

    def of(self, names: Sequence[str]) -> list[int]:
        """The number of each run or member of one figure; no two look alike where there are at most `MOST`."""
        found: list[int] = []
        for name in names:
            wished = self._number(name)
            looks = {number % MOST for number in found}
            free = (number for number in range(wished, wished + MOST) if number % MOST not in looks)
            found.append(next(free, wished))
        return found

    def write(self) -> None:
        """Keeps the numbers. Where the workspace may only be read, figures are drawn all the same."""
        if self._numbers != self._kept:
            with suppress(OSError):
                write_json(self._path, self._numbers)

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            taken = set(self._numbers.values())
            self._numbers[name] = next(number for number in count() if number not in taken)
        return self._numbers[name]


def _read(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    return read_checked(path, _NUMBERS, "this is not what `itmkit plot` writes; delete it, and colours are given anew")

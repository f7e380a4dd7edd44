"""How a table is fitted into a terminal: words fold between words, figures never, and what has no room goes below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from itmkit.commands.visible import visible

_BESIDE = 3  # columns of the terminal that one of the table needs beside its text: a rule and a space on each side


@dataclass
class _Column:
    header: str
    cells: list[Text]
    figures: bool  # aligned to the right
    whole: bool  # never folded: figures and paths

    @property
    def widest(self) -> int:
        return max(self._header_width, *(cell_len(cell.plain) for cell in self.cells), 1)

    @property
    def longest_word(self) -> int:
        words = [word for cell in self.cells for word in cell.plain.split()]
        return max(self._header_width, *(cell_len(word) for word in words), 1)

    @property
    def least(self) -> int:
        return self.widest if self.whole else self.longest_word

    @property
    def _header_width(self) -> int:
        return max(cell_len(line) for line in self.header.split("\n"))

    def fold_header(self) -> None:
        """Between words, to the width of the cells."""
        width = max([cell_len(cell.plain) for cell in self.cells] + [cell_len(word) for word in self.header.split()])
        self.header = "\n".join(textwrap.wrap(self.header, max(width, 1), break_long_words=False)) or self.header


def tables(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), width: int | None = None
) -> list[Table]:
    """One table, or several below each other, each with the first columns again, where `width` has no room for one.

    Args:
        rows: cells are text, anything that `str` makes text of, or a `Text` of one style. A path is never folded.
        right: columns of figures.
        width: columns of the terminal; None: as wide as it gets, for files and pipes.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    paths = {at for row in rows for at, cell in enumerate(row) if isinstance(cell, Path)}
    every = [
        _Column(visible(name), [row[at] for row in cells], name in right, name in right or at in paths)
        for at, name in enumerate(columns)
    ]
    if width is None or _total([column.widest for column in every]) <= width:
        return [_drawn(every, [column.widest for column in every])]
    for column in every:
        if column.figures:
            column.fold_header()
    return [_drawn(block, _widths(block, keys, width)) for block, keys in _blocks(every, width)]


def _cell(value: object) -> Text:
    return Text(visible(value.plain), value.style) if isinstance(value, Text) else Text(visible(str(value)))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _BESIDE * len(widths) + 1


def _least(column: _Column, key: bool, width: int) -> int:
    """A name at the head of the rows is cut if it takes half of the width, since the rest needs room too."""
    return min(column.least, width // 2) if key and not column.whole else column.least


def _blocks(every: list[_Column], width: int) -> list[tuple[list[_Column], int]]:
    """Columns side by side as they have room, and how many of them head the rows."""
    keys = next((at for at, column in enumerate(every) if column.figures), len(every))
    if keys == len(every) or _total([_least(column, True, width) for column in every[:keys]]) > width // 2:
        keys = 1
    heads = [_least(column, True, width) for column in every[:keys]]
    blocks = [every[:keys]]
    used = list(heads)
    for column in every[keys:]:
        if len(blocks[-1]) > keys and _total([*used, column.least]) > width:
            blocks.append(every[:keys])
            used = list(heads)
        blocks[-1] = [*blocks[-1], column]
        used.append(column.least)
    return [(block, keys) for block in blocks]


def _widths(block: list[_Column], keys: int, width: int) -> list[int]:
    """The width of each column: as wide as its text, and the widest column of words narrower while there is no room."""
    widths = [column.widest for column in block]
    least = [_least(column, at < keys, width) for at, column in enumerate(block)]
    if len(block) == keys + 1 and block[-1].figures and _total(least) > width:  # nothing else can make room
        least[-1] = min(least[-1], max(block[-1].longest_word, width - _total([*least[:-1], 0])))
    while _total(widths) > width:
        loose = [at for at in range(len(block)) if widths[at] > least[at]]
        if not loose:
            break
        widths[max(loose, key=lambda at: widths[at])] -= 1
    return widths


def _drawn(columns: list[_Column], widths: list[int]) -> Table:
    drawn = Table(header_style="bold", width=_total(widths))
    for column, width in zip(columns, widths, strict=True):
        justify = "right" if column.figures else "left"
        drawn.add_column(Text(column.header), justify=justify, width=width, overflow="fold")  # type: ignore[arg-type]
    for row in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*row)
    return drawn

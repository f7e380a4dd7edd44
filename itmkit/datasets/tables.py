"""Tables of pictures and captions: which character separates the cells, which columns count, and their rows.

Cells between commas or semicolons may be quoted, and hold line breaks then. Between tabs or bars a quote is a
character like others, unless it encloses a whole cell, and every line is a row: nothing swallows the lines that follow.

A table is read a row at a time, so that a large one takes no more memory than a small one.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from itmkit.datasets.draft import is_file
from itmkit.datasets.pair_rows import KAGGLE, USUAL_COLUMNS, Columns, PairRow, caption_names, image_name, labels_of
from itmkit.datasets.skip import Problems, readable_lines
from itmkit.errors import ItmkitError
from itmkit.file_kinds import check_is_text

LONGEST_CELL = 1 << 20  # characters
_DELIMITERS = (",", "\t", ";", "|")
_QUOTED = (",", ";")
_TOKEN = re.compile(r"([^\t]+\.[A-Za-z]{3,4})#(\d+)\t(.*)")  # 1000092795.jpg#0, a tab and the caption: no header
_PICTURE = re.compile(r"\S+\.(jpe?g|png|webp|gif|bmp|tiff?|ppm)", re.IGNORECASE)

Line = tuple[int, str]
Row = tuple[int, list[str]]  # the number of the line where the row begins, and its cells
_NO_LINE: Line = (0, "")


@dataclass(frozen=True)
class _Header:
    """Where the columns are. `captions` may be several; `split` and `labels` None where there are none."""

    names: list[str]
    image: int
    captions: list[int]
    split: int | None
    labels: int | None


def table_rows(file: Path, columns: Columns, folder: Path, problems: Problems, notes: list[str]) -> Iterator[PairRow]:
    """The rows of a table whose first line names the columns, or of a token file of Flickr30k.

    Args:
        folder: where the pictures lie; only to recognise a row inside a quoted cell.
        notes: takes what the user should know about the columns.

    Raises:
        ItmkitError: the file is no text, or its first line names no columns that are known.
    """
    check_is_text(file)
    lines = readable_lines(file, problems)
    first = next(lines, _NO_LINE)
    if _TOKEN.fullmatch(first[1]) and columns.image is None and not columns.captions:
        yield from _token_rows(file, chain([first], lines), problems)
        return
    if told := re.fullmatch(r"sep=(.)", first[1].strip(), re.IGNORECASE):  # Excel's own line before the header
        columns = Columns(columns.delimiter or told[1], columns.image, columns.captions)
        first = next(lines, _NO_LINE)
    delimiter = columns.delimiter or _guessed(file, first[1], columns)
    quoted = delimiter in _QUOTED
    lines = chain([first] if first is not _NO_LINE else [], lines)
    rows = _quoted_rows(file, lines, delimiter, folder, problems) if quoted else _plain_rows(lines, delimiter)
    found = next(rows, None)
    names = [] if found is None else [cell.strip().lower() for cell in found[1]]
    try:
        header = _header(file, names, columns, delimiter)
    except ItmkitError:
        for _ in lines:  # what else is wrong with the file is reported too
            pass
        raise
    used = [names[header.image], *dict.fromkeys(names[place] for place in header.captions)]
    if used != ["image", "caption"] and columns == Columns(columns.delimiter):
        notes.append(f"{file.name}: pictures are those of column {used[0]}, captions of {' and '.join(used[1:])}")
    yield from _pair_rows(file, rows, header, quoted, problems)


def what_table(file: Path, first: str) -> str | None:
    """What the first line says a file is, in words; None where it names no columns of pictures and captions."""
    if _TOKEN.fullmatch(first):
        return "lines of NAME#NUMBER, a tab and a caption"
    delimiter = _guessed(file, first, USUAL_COLUMNS)
    names = [name.strip().strip('"').lower() for name in first.split(delimiter)]
    image, captions = image_name(names, USUAL_COLUMNS), caption_names(names, USUAL_COLUMNS)
    if image is None or not captions:
        return None
    return f"a table with the columns {image} and {', '.join(captions)}"


def _guessed(file: Path, first: str, columns: Columns) -> str:
    """The delimiter with which the first line names the columns, else the one that cuts it into most cells."""
    tabs_first = sorted(_DELIMITERS, key=lambda delimiter: delimiter != "\t")
    candidates = tabs_first if file.suffix.lower() == ".tsv" else list(_DELIMITERS)
    cut = {delimiter: [name.strip().strip('"').strip().lower() for name in first.split(delimiter)]
           for delimiter in candidates}  # fmt: skip
    for delimiter, names in cut.items():
        if image_name(names, columns) and caption_names(names, columns):
            return delimiter
    return max(candidates, key=lambda delimiter: len(cut[delimiter]))


def _header(file: Path, names: list[str], columns: Columns, delimiter: str) -> _Header:
    image, captions = image_name(names, columns), caption_names(names, columns)
    missing = [] if image else [columns.image or "image"]
    missing += [] if captions else [" or ".join(columns.captions) or "caption"]
    if missing or image is None:
        shown = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}.get(delimiter, repr(delimiter))
        raise ItmkitError(
            f"{file}: line 1: has no column {' and no column '.join(missing)}; found {names[:20]} between {shown}. The"
            " first line must name the columns; --image-column, --caption-column and --delimiter say which they are"
        )
    repeated = [name for name in (image, "split", "labels") if names.count(name) > 1]
    if repeated:
        raise ItmkitError(f"{file}: line 1: several columns are called {' and '.join(repeated)}; rename all but one")
    return _Header(
        names=names,
        image=names.index(image),
        captions=[place for place, name in enumerate(names) if name in captions],
        split=names.index("split") if "split" in names else None,
        labels=names.index("labels") if "labels" in names else None,
    )


def _token_rows(file: Path, lines: Iterator[Line], problems: Problems) -> Iterator[PairRow]:
    for number, text in lines:
        place = f"{file}: line {number}"
        if found := _TOKEN.fullmatch(text):
            yield PairRow(place, found[1].strip(), [found[3].strip()], None, ())
        elif text.strip():
            problems.damaged.append(f"{place}: expected NAME#NUMBER, a tab and the caption, found {text[:60]!r}")


def _plain_rows(lines: Iterator[Line], delimiter: str) -> Iterator[Row]:
    """A row a line."""
    for number, text in lines:
        yield number, [_unquoted(cell.strip()) for cell in text.split(delimiter)]


def _unquoted(cell: str) -> str:
    """The cell without the quotes around it, if they enclose it as programs write them: quotes inside are doubled."""
    inside = cell[1:-1]
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"' or '"' in inside.replace('""', ""):
        return cell
    return inside.replace('""', '"')


def _quoted_rows(file: Path, lines: Iterator[Line], delimiter: str, folder: Path, problems: Problems) -> Iterator[Row]:
    """Rows whose cells may be quoted. After a row that cannot be read, reading goes on in the line after its first."""
    again: deque[Line] = deque()  # lines that such a row had taken and that are read once more
    of_row: list[Line] = []

    def noted() -> Iterator[str]:
        while line := again.popleft() if again else next(lines, None):
            of_row.append(line)
            yield line[1] + "\n"

    table = csv.reader(noted(), delimiter=delimiter, strict=True)
    while True:
        try:
            cells = _next_row(table)
            if cells is None:
                return
            if len(of_row) > 1 and (row := _swallowed(cells, delimiter, folder)):
                raise csv.Error(f"the quoted cell holds what looks like another row, {row[:60]!r}")
            yield of_row[0][0], cells
            of_row.clear()
        except csv.Error as error:
            opened = next((number for number, text in of_row if text.count('"') % 2), of_row[0][0])
            what = f"not a readable table: {_in_words(error)}; a quote inside a quoted cell is written twice"
            problems.damaged.append(f"{file}: line {opened}: {what}")
            again.extendleft(reversed(of_row[1:]))
            of_row.clear()
            table = csv.reader(noted(), delimiter=delimiter, strict=True)


def _next_row(table: Iterator[list[str]]) -> list[str] | None:
    """The cells of the next row, None after the last. The limit of the csv module holds for the whole process, so it
    is ours only for as long as a row is read."""
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        return next(table, None)
    finally:
        csv.field_size_limit(before)


def _in_words(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return "a quoted cell begins here and does not end"
    if "field larger" in text:
        return f"a cell begins here that has more than {LONGEST_CELL:,} characters, or whose quote does not end"
    if "expected after" in text:
        return f"a quoted cell begins here, and text follows its end ({text})"
    return text


def _swallowed(cells: Sequence[str], delimiter: str, folder: Path) -> str | None:
    """A line inside a cell that looks like a row: one of its pieces names a picture."""
    for line in (line for cell in cells for line in cell.split("\n")[1:]):
        pieces = [piece.strip().strip('"') for piece in line.split(delimiter)]
        if len(pieces) > 1 and any(_PICTURE.fullmatch(p) or (p and is_file(folder / p)) for p in pieces):
            return line
    return None


def _pair_rows(file: Path, rows: Iterator[Row], header: _Header, quoted: bool, problems: Problems) -> Iterator[PairRow]:
    opened = 0
    for number, cells in rows:
        place = f"{file}: line {number}"
        if not any(cell.strip() for cell in cells):
            continue
        if header.names == KAGGLE and len(cells) == 2 and (run := re.fullmatch(r"(\d+)\s+(.*)", cells[1])):
            cells = [cells[0], *run.groups()]  # line 19,999 of the file that everybody has lacks a bar
        if len(cells) != len(header.names):
            hint = f"; does a cell that begins in line {opened} hold a line break? Only a .csv can have that"
            what = f"has {len(cells)} cells, the header {len(header.names)}{hint if opened else ''}"
            problems.damaged.append(f"{place}: {what}")
            continue
        if not quoted and any(cell.startswith('"') and cell.count('"') % 2 for cell in cells):
            opened = number
        stray = [cell for n, cell in enumerate(cells) if cell.strip() and not header.names[n] and not _counts(n, cell)]
        if stray:
            problems.damaged.append(f"{place}: {stray[0].strip()[:40]!r} stands in a column without a name")
            continue
        image = cells[header.image].strip()
        if not image:
            problems.damaged.append(f"{place}: the image cell is empty")
            continue
        captions = [cells[n].strip() for n in header.captions]
        yield PairRow(
            place,
            image,
            [text for text in captions if text] or captions[:1],
            None if header.split is None else cells[header.split].strip() or None,
            () if header.labels is None else labels_of(cells[header.labels]),
        )


def _counts(place: int, cell: str) -> bool:
    """Whether a cell is a number of a row, which pandas writes into a first column without a name."""
    return place == 0 and cell.strip().isdecimal()

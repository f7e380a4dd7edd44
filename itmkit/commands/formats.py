"""Tables in the forms that papers, pages and spreadsheets take."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Literal, get_args

Format = Literal["table", "markdown", "latex", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
_COUNT = re.compile(r"\d{1,3}(,\d{3})+")
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def formatted(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], form: Format, *, right: Sequence[str] = ()
) -> str:
    """A table as text, without a line end; columns named in `right` are aligned to the right.

    csv has no title: its first line names the columns. Its counts have no commas.
    """
    if form == "csv":
        out = io.StringIO()
        plain = [[cell.replace(",", "") if _COUNT.fullmatch(cell) else cell for cell in row] for row in rows]
        csv.writer(out, lineterminator="\n").writerows([columns, *plain])
        return out.getvalue().rstrip("\n")
    if form == "latex":
        return _latex(title, columns, rows, right)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [columns, *rows]]
    rule = ["--:" if column in right else "---" for column in columns]
    lines = ["| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]]]
    return "\n".join([title, "", *lines])


def _latex(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    """With the rules of the package booktabs."""
    aligned = "".join("r" if column in right else "l" for column in columns)
    lines = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in [columns, *rows]]
    return "\n".join(
        [
            f"% {title}",
            rf"\begin{{tabular}}{{{aligned}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)

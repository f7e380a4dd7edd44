"""Tables in the forms that papers, pages and spreadsheets take. Names in them mean nothing to what reads them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Literal, get_args

from itmkit.commands.visible import visible

Format = Literal["table", "markdown", "latex", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
_COUNT = re.compile(r"\d{1,3}(,\d{3})+")
_FIGURES = re.compile(r"-|[-+]?\d[\d.,]*( (to|\(?[-+±]?\d[\d.,]*\)?))*")  # -1.2, +0.3 to +1.4, 5.0 (4.1 to 6.2)
_FORMULA = tuple("=+-@＝＋－＠\n")  # a spreadsheet computes what begins with these
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {character: f"${character}$" for character in "<>|"}  # other signs in the old fonts
_LATEX |= {character: f"{{{character}}}" for character in "[]*"}  # after \\ an option of it
_LATEX |= {"`": r"\textasciigrave{}", "--": "-{}-"}
_LATEX_SPECIAL = re.compile("|".join(map(re.escape, _LATEX)))
_MARKDOWN_SPECIAL = re.compile(r"[\\|`*_\[\]~$]")
_TAG, _ENTITY = re.compile(r"<(?=[A-Za-z/!?])"), re.compile(r"&(?=#?\w+;)")
_BLOCK = re.compile(r"(?=[#>+=-])|\d+(?=[.)])")  # begins a heading, a quotation or a list


def formatted(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], form: Format, *, right: Sequence[str] = ()
) -> str:
    """A table as text, without a line end; columns named in `right` are aligned to the right.

    csv has no title: its first line names the columns. Its counts have no commas, and an apostrophe stands before text
    that a spreadsheet would take for a formula.
    """
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([_csv(cell) for cell in row] for row in [columns, *rows])
        return out.getvalue().rstrip("\n")
    if form == "latex":
        return _latex(title, columns, rows, right)
    cells = [[_markdown(cell) for cell in row] for row in [columns, *rows]]
    rule = ["--:" if column in right else "---" for column in columns]
    lines = ["| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]]]
    begins = _BLOCK.match(title)
    heading = f"{begins[0]}\\{_markdown(title[begins.end() :])}" if begins else _markdown(title)
    return "\n".join([heading, "", *lines])


def _csv(cell: str) -> str:
    if _COUNT.fullmatch(cell):
        return cell.replace(",", "")
    cell = visible(cell, keep="\n")
    return f"'{cell}" if cell.startswith(_FORMULA) and not _FIGURES.fullmatch(cell) else cell


def _markdown(text: str) -> str:
    text = _MARKDOWN_SPECIAL.sub(r"\\\g<0>", _ENTITY.sub("&amp;", visible(text)))
    return _TAG.sub("&lt;", text)


def _latex(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    """With the rules of the package booktabs."""
    aligned = "".join("r" if column in right else "l" for column in columns)
    lines = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in [columns, *rows]]
    return "\n".join(
        [
            f"% {visible(title)}",
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
    return _LATEX_SPECIAL.sub(lambda found: _LATEX[found[0]], visible(text))

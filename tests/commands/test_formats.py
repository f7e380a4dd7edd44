from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from itmkit.commands.formats import formatted
from itmkit.commands.visible import visible

COLUMNS, RIGHT = ["run", "R@1"], ["R@1"]


def test_markdown() -> None:
    lines = formatted("a title", COLUMNS, [["a|b", "1.0"], ["c", "12.5"]], "markdown", right=RIGHT).splitlines()
    assert lines == ["a title", "", "| run | R@1 |", "| --- | --: |", "| a\\|b | 1.0 |", "| c | 12.5 |"]


def test_latex() -> None:
    text = formatted("50 % of it", COLUMNS, [["a_b & c", "3.1 ±0.2"]], "latex", right=RIGHT)
    assert text.splitlines() == [
        "% 50 % of it",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"run & R@1 \\",
        r"\midrule",
        r"a\_b \& c & 3.1 $\pm$0.2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize("character", list("\\~^&%$#_{}"))
def test_every_special_character_of_latex_is_escaped(character: str) -> None:
    text = formatted("", ["x"], [[character]], "latex")
    assert f"\n{character} \\\\" not in text and len(text.splitlines()[5]) > len(f"{character} \\\\")


def test_counts_of_csv_are_numbers() -> None:
    text = formatted("", COLUMNS, [["12,345,678", "1,2"], ["a, b", "9,536"]], "csv")
    assert text.splitlines()[1:] == ['12345678,"1,2"', '"a, b",9536']


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
def test_csv_is_read_back(rows: list[tuple[str, str]]) -> None:
    assume(not any(re.fullmatch(r"[\d,]+", cell) for row in rows for cell in row))  # counts: above
    text = formatted("no title", COLUMNS, rows, "csv")
    read = [tuple(row) for row in csv.reader(io.StringIO(text + "\n", newline=""))]
    shown = [tuple(visible(cell, keep="\n") for cell in row) for row in rows]
    assert [tuple(cell.removeprefix("'") for cell in row) for row in read] == [
        tuple(cell.removeprefix("'") for cell in row) for row in [tuple(COLUMNS), *shown]
    ]


@pytest.mark.parametrize("start", [*"=+-@\t\r＝", "\n="])
def test_no_text_of_csv_is_a_formula(start: str) -> None:
    """A spreadsheet would compute a run named =HYPERLINK(...), in the cells and in the first line."""
    for cell in (f"{start}HYPERLINK(1)", f"{start}1+cmd|' /C calc'!A0"):
        text = formatted("", [cell, "R@1"], [[cell, "1"]], "csv")
        for row in csv.reader(io.StringIO(text, newline="")):
            assert row[0].startswith(("'", "\\")) and row[0].endswith(cell[2:]) and "\r" not in row[0]


@pytest.mark.parametrize("figure", ["-1.2", "+0.3", "-", "5", "+1.2 to +3.4", "-0.1 (-0.5 to +0.3)", "71.2 ±0.3"])
def test_figures_of_csv_stay_figures(figure: str) -> None:
    assert formatted("", ["x"], [[figure]], "csv") == f"x\n{figure}"


def test_markdown_shows_names_as_they_are() -> None:
    name = "<script>x</script> | `a` *b* [c](d) &lt; < 1 \n\x1b \\"
    said = r"&lt;script>x&lt;/script> \| \`a\` \*b\* \[c\](d) &amp;lt; < 1 \\n\\x1b \\"
    assert formatted(name, [name], [[name]], "markdown").splitlines() == [
        said,
        "",
        f"| {said} |",
        "| --- |",
        f"| {said} |",
    ]
    for title, shown in (
        ("# a", r"\# a"),
        ("12. a", r"12\. a"),
        ("- a", r"\- a"),
        ("> a", r"\> a"),
        ("1 image", "1 image"),
    ):
        assert formatted(title, [], [], "markdown").splitlines()[0] == shown


def test_latex_takes_no_name_for_an_option() -> None:
    """After the end of a row, [1cm] is the space below it and * a rule about pages."""
    lines = formatted("a\nb", ["[x]"], [["[1cm] -- `<|>"], ["*"], ["two\nlines"]], "latex").splitlines()
    assert lines[0] == r"% a\nb" and lines[3] == r"{[}x{]} \\"
    assert lines[5:8] == [
        r"{[}1cm{]} -{}- \textasciigrave{}$<$$|$$>$ \\",
        r"{*} \\",
        r"two\textbackslash{}nlines \\",
    ]

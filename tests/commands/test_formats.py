from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from itmkit.commands.formats import formatted

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
    rows = [tuple(cell.replace("\r", "") for cell in row) for row in rows]  # type: ignore[misc]
    assume(not any(re.fullmatch(r"[\d,]+", cell) for row in rows for cell in row))  # counts: above
    text = formatted("no title", COLUMNS, rows, "csv")
    assert [tuple(row) for row in csv.reader(io.StringIO(text + "\n", newline=""))] == [tuple(COLUMNS), *rows]

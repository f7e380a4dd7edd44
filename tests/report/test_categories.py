from __future__ import annotations

from typing import Any

import pytest

from itmkit.report.categories import categories
from itmkit.report.figure import COLOURS

pytest.importorskip("matplotlib")


def one(side: str, name: str, queries: int, *values: float) -> dict[str, Any]:
    figures = {f"R@{k}": {"value": value} for k, value in zip((1, 5, 10), values, strict=True)} if values else {}
    return {"side": side, "name": name, "queries": queries, "figures": figures}


def test_bars_are_the_recalls_of_the_file() -> None:
    first = [one("i2t", "animal", 3, 10, 20, 30), one("i2t", "food", 2, 11, 21, 31), one("t2i", "animal", 15, 5, 6, 7)]
    second = [one("i2t", "animal", 4, 40, 50, 60), one("i2t", "sky", 0), one("t2i", "food", 10, 1, 2, 3)]
    figure = categories({"mpsm": first, "scan": second}, "title", numbers=[4, 1])
    i2t, t2i = figure.axes
    from matplotlib.colors import to_hex

    # Of the first series, then of the second: R@10, R@5 and R@1, each over the categories.
    assert [bar.get_width() for bar in i2t.patches] == [30, 31, 20, 21, 10, 11, 60, 50, 40]
    assert [bar.get_width() for bar in t2i.patches] == [7, 6, 5, 3, 2, 1]
    assert [to_hex(t2i.patches[place].get_facecolor()) for place in (2, 5)] == [COLOURS[4].lower(), COLOURS[1].lower()]
    assert [label.get_text() for label in i2t.get_yticklabels()] == ["animal (4)", "food (2)"]
    animal, food = (bar.get_y() + bar.get_height() / 2 for bar in i2t.patches[:2])
    assert -0.5 < animal < 0 and 0.5 < food < 1  # above the middle of its row, for the first of two
    told = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert told == ["mpsm", "scan", "R@1", "R@5", "R@10"]

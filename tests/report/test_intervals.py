from __future__ import annotations

from typing import Any

import pytest

from itmkit.report.intervals import slices

pytest.importorskip("matplotlib")


def one(side: str, name: str, queries: int, *figures: float | None) -> dict[str, Any]:
    value = dict(zip(("value", "low", "high"), figures, strict=True)) if figures else None
    return {"side": side, "name": name, "queries": queries, "figures": {"R@1": value} if value else {}}


MINE = [
    one("i2t", "regions 10-19", 40, 30.0, 25.0, 36.0),
    one("t2i", "words below 8", 0),
    one("t2i", "words 8-9", 1200, 12.0, 9.0, 15.0),
    one("t2i", "alone", 1, 100.0, None, None),
]
OTHER = [one("t2i", "words 8-9", 1190, 20.0, 19.0, 21.0), one("t2i", "words 10-11", 7, 1.0, 0.0, 2.0)]


def names(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.get_yticklabels()]


def test_values_and_intervals_by_side() -> None:
    figure = slices({"a": MINE}, "title")
    i2t, t2i = figure.axes
    assert names(i2t) == ["regions 10-19 (40)"] and names(t2i) == ["words 8-9 (1,200)", "alone (1)"]
    assert "i2t" in i2t.get_title() and "t2i" in t2i.get_title()
    (points,) = t2i.lines
    assert list(zip(points.get_ydata(), points.get_xdata(), strict=True)) == [(0, 12.0), (1, 100.0)]
    (strokes,) = t2i.collections  # that of the slice with one query is not known
    assert [path.vertices.tolist() for path in strokes.get_paths()] == [[[9.0, 0.0], [15.0, 0.0]]]


def test_several_runs_lie_side_by_side_in_each_row() -> None:
    figure = slices({"a": MINE, "b": OTHER}, "title")
    t2i = figure.axes[1]
    assert names(t2i) == ["words 8-9 (1,190 to 1,200)", "alone (1)", "words 10-11 (7)"]
    first, second = t2i.lines
    assert list(first.get_xdata()) == [12.0, 100.0] and list(second.get_xdata()) == [20.0, 1.0]
    assert [round(place) for place in first.get_ydata()] == [0, 1]
    assert [round(place) for place in second.get_ydata()] == [0, 2]
    assert first.get_ydata()[0] < second.get_ydata()[0]
    assert first.get_color() != second.get_color() and first.get_marker() != second.get_marker()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_one_side_alone_is_one_panel() -> None:
    figure = slices({"b": OTHER}, "title")
    assert len(figure.axes) == 1 and "t2i" in figure.axes[0].get_title()

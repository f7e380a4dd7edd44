from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from itmkit.report.html import svg
from itmkit.report.html.charts import _epochs


def read(text: str) -> Any:
    return ElementTree.fromstring(text)


def marks(drawing: Any, series: int) -> list[tuple[float, float, str]]:
    """(x, y, title) of the marks of the first series, which are circles."""
    assert series == 0
    return [(float(c.get("cx")), float(c.get("cy")), c.findtext("title") or "") for c in drawing.iter("circle")]


def ticks(drawing: Any, anchor: str) -> dict[float, float]:
    """{number of a tick: where it stands}."""
    key = "x" if anchor == "middle" else "y"
    found = {}
    for text in drawing.iter("text"):
        if anchor in text.get("class").split():
            try:
                found[float(text.text)] = float(text.get(key)) - (4 if key == "y" else 0)
            except ValueError:
                continue
    return found


def test_marks_stand_where_their_axis_says() -> None:
    rows = [
        ("R@1", [{"value": 25.0, "low": 20.0, "high": 35.0}]),
        ("R@5", [{"value": 50.0, "low": None, "high": None}]),
    ]
    drawing = read(svg.dots(rows, ["<run>"], "says"))
    axis = ticks(drawing, "middle")
    scale = (axis[40] - axis[0]) / 40
    (x1, _, title), (x2, _, bare) = marks(drawing, 0)
    assert x1 == pytest.approx(axis[0] + 25 * scale, abs=0.2) and x2 == pytest.approx(axis[0] + 50 * scale, abs=0.2)
    assert title == "<run>: R@1 25.0 (20.0 to 35.0)" and bare == "<run>: R@5 50.0"
    (stroke,) = [path.get("d") for path in drawing.iter("path") if "line" in path.get("class")]
    assert float(stroke[1:].split()[0]) == pytest.approx(axis[0] + 20 * scale, abs=0.2)


def test_lines_leave_out_epochs_without_a_value() -> None:
    drawing = read(svg.lines([("a", 0, [0, 1, 2, 3], [None, 100.0, 300.0, 250.0])], "says"))
    axis, found = ticks(drawing, "end"), marks(drawing, 0)
    assert len(found) == 3 and found[0][2] == "a: epoch 1, 100"
    low, high = min(axis), max(axis)
    for (_, y, _), value in zip(found, (100, 300, 250), strict=True):
        assert y == pytest.approx(axis[low] + (axis[high] - axis[low]) * (value - low) / (high - low), abs=0.2)
    assert sorted(ticks(drawing, "middle")) == [1, 2, 3]
    assert svg.lines([("a", 0, [1], [None])], "says") == "" and read(svg.lines([("a", 0, [4], [2.0])], "says"))


def test_stages_of_training_are_not_joined() -> None:
    line = {"epoch": [0, 1, 2, 3], "stage": ["text", "text", "", ""], "loss": [3.0, 2.0, 9.0, 8.0], "rsum": [1.0] * 4}
    drawing = read(_epochs({"courses": {"scl": {"scl": line}}}, ["scl"])["epochs loss"])
    paths = [path.get("d") for path in drawing.iter("path") if "line" in path.get("class")]
    assert len(paths) == 2 and all(path.count("L") == 1 for path in paths)
    titles = [title for _, _, title in marks(drawing, 0)]
    assert titles == ["scl, text: epoch 0, 3", "scl, text: epoch 1, 2", "scl: epoch 2, 9", "scl: epoch 3, 8"]


def test_many_runs_look_different() -> None:
    assert len({svg.key(number) for number in range(49)}) == 49


def test_a_tree_says_its_relations_and_nothing_breaks_it() -> None:
    words = [{"word": "<a>", "head": 1, "relation": "det"}, {"word": "d\x1bog", "head": 1, "relation": "root"}]
    drawing = read(svg.tree(words))
    assert drawing.get("aria-label") == "<a>: det of d\\x1bog; d\\x1bog: root"
    assert [text.text for text in drawing.iter("text")] == ["<a>", "d\\x1bog", "det"]
    assert svg.tree([{"word": "a"}, {"word": "b"}]) == "" == svg.tree([])


def test_histograms_of_any_scores() -> None:
    for edges in ([0.0, 0.5, 1.0], [-3.2e-9, 1e-9, 2e-9], [1e5, 2e5, 3e5], [-2e-5, 0.0, 2e-5]):
        drawing = read(svg.histogram(edges, [1, 3], [0, 0], "says"))
        assert [path.get("class") for path in drawing.iter("path")] == ["positives", "negatives", "axis"]
    for text in drawing.iter("text"):
        assert 3 * len(text.text) <= float(text.get("x")) <= svg.WIDTH - 3 * len(text.text)
    x, y = zip(*[map(float, point.split()) for point in drawing.find("path").get("d")[1:].split("L")], strict=True)
    assert min(y) == 8 and y[1] == pytest.approx(148 - 140 / 3, abs=0.1) and list(x) == sorted(x)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.004, 0.003), (100, 520), (3, 3), (-7, -7), (0, 0), (1e-9, 2e-9)])
def test_ticks_are_round_and_span_the_values(low: float, high: float) -> None:
    found = svg._ticks(low, high)
    assert found[0] <= low + 1e-12 and found[-1] >= high - 1e-12 and 2 <= len(found) <= 8
    assert found == sorted(set(found))


def test_a_tree_is_read_in_the_direction_of_its_words() -> None:
    for words, order in ((("two", "dogs", "run"), 1), (("שני", "כלבים", "רצים"), -1)):
        told = [{"word": word, "head": head, "relation": "x"} for word, head in zip(words, (1, 2, 2), strict=True)]
        drawing = read(svg.tree(told))
        at = {text.text: float(text.get("x")) for text in drawing.iter("text")}
        places = [at[word] for word in words]
        assert places == sorted(places, reverse=order < 0)
        arc = next(path.get("d") for path in drawing.iter("path") if path.get("class") == "arc")
        start, end = float(arc[1:].split()[0]), float(arc.rpartition("V")[0].rpartition("Q")[2].split()[0])
        assert (start - end) * order > 0 and min(places[:2]) < min(start, end) < max(start, end) < max(places[:2])

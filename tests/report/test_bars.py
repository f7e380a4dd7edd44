from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from itmkit.report.bars import labels, methods
from itmkit.report.figure import COLOURS

pytest.importorskip("matplotlib")


def row(name: str, kind: str, *values: float) -> dict[str, Any]:
    return {"name": name, "kind": kind, "values": {"rsum": list(values), "t2i R@1": [value / 12 for value in values]}}


ROWS = [row("a", "single", 300, 310, 320), row("mefn:mfe=false", "ensemble of 2", 400, 402, 407), row("c", "single", 1)]


def bars(axis: Any) -> list[tuple[str, float]]:
    """(name of the row, length) of the bars, from top to bottom."""
    names = [text.get_text() for text in axis.get_yticklabels()]
    found = sorted((patch.get_y() + patch.get_height() / 2, patch.get_width()) for patch in axis.patches)
    return [(names[round(place)], length) for place, length in found]


@pytest.mark.parametrize("figure", ["rsum", "t2i R@1"])
def test_bars_are_means_with_spread_and_seeds(figure: str) -> None:
    drawn = methods(ROWS, "title", figure=figure, chance=3.25)
    (axis,) = drawn.axes
    values = {one["name"]: np.array(one["values"][figure]) for one in ROWS}
    assert bars(axis) == [(name, pytest.approx(values[name].mean())) for name in ("mefn:mfe=false", "a", "c")]
    dots = [list(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"]
    assert dots == [list(values["mefn:mfe=false"]), list(values["a"])]  # one seed is the bar itself
    ends = [sorted(path.vertices[:, 0]) for one in axis.collections for path in one.get_paths()]
    for found, name in zip(ends, ("mefn:mfe=false", "a"), strict=True):
        mine = values[name]
        spread = np.sqrt(((mine - mine.mean()) ** 2).sum() / (len(mine) - 1))
        assert found == pytest.approx([mine.mean() - spread, mine.mean() + spread])
    said = [text.get_text() for text in axis.texts]
    assert said[2] == f"{values['c'][0]:.1f}"
    assert said[1] == f"{values['a'].mean():.1f} ±{np.std(values['a'], ddof=1):.1f}"
    assert axis.get_xlim()[0] == 0 and "chance 3.2" in axis.get_xlabel()
    assert figure in axis.get_xlabel()


def test_bars_have_the_colours_of_their_runs_and_the_pattern_of_their_kind() -> None:
    from matplotlib.colors import to_hex

    drawn = methods(ROWS, "title", numbers=[5, 1, 3])
    patches = sorted(drawn.axes[0].patches, key=lambda patch: patch.get_y())
    assert [to_hex(patch.get_facecolor()).upper() for patch in patches] == [COLOURS[1], COLOURS[5], COLOURS[3]]
    assert [patch.get_hatch() for patch in patches] == ["///", "", ""]
    legend = drawn.legends[0]
    assert [text.get_text() for text in legend.get_texts()][:2] == ["single", "ensemble of 2"]
    assert [patch.get_hatch() for patch in legend.get_patches()] == ["", "///"]


def test_one_seed_has_no_spread_and_no_dots() -> None:
    drawn = methods([row("a", "single", 300), row("b", "single", 200)], "title")
    assert not drawn.axes[0].lines and not drawn.axes[0].collections
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["single"]


def of_labels(*rows: tuple[str, int, float]) -> list[dict[str, Any]]:
    return [{"label": label, "queries": queries, "R@1": recall} for label, queries, recall in rows]


def test_labels_are_sorted_by_recall_and_chosen_by_queries() -> None:
    i2t = of_labels(("dog", 31, 45.5), ("rare", 2, 99.0), ("ball", 30, 70.0), ("cat", 30, 10.0), ("ant", 30, 70.0))
    t2i = of_labels(("dog", 155, 5.0), ("ball", 150, 7.0))
    figure = labels({"a": {"i2t": i2t, "t2i": t2i}}, "title", most=3)
    assert bars(figure.axes[0]) == [("ant (30)", 70.0), ("ball (30)", 70.0), ("dog (31)", 45.5)]
    assert bars(figure.axes[1]) == [("ball (150)", 7.0), ("dog (155)", 5.0)]


def test_labels_of_other_runs_are_marks_in_the_same_rows() -> None:
    first = of_labels(("dog", 31, 45.0), ("ball", 30, 70.0))
    other = of_labels(("ball", 30, 60.0), ("dog", 31, 80.0), ("cat", 5, 3.0))
    figure = labels({"a": {"i2t": first, "t2i": first}, "b": {"i2t": other, "t2i": other}}, "title")
    for axis in figure.axes:
        assert bars(axis) == [("ball (30)", 70.0), ("dog (31)", 45.0)]
        (marks,) = axis.lines
        assert sorted(zip(marks.get_ydata(), marks.get_xdata(), strict=True)) == [(0, 60.0), (1, 80.0)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from itmkit.report.curves import PANELS, best_epoch, cmc, epochs, precision

pytest.importorskip("matplotlib")
NAN = math.nan


def line(rsums: list[float], *, loss: list[float] | None = None, stages: list[str] | None = None) -> dict[str, Any]:
    count = len(rsums)
    return {
        "epoch": list(range(1, count + 1)),
        "stage": stages or [""] * count,
        "rsum": rsums,
        "loss": loss or [NAN] * count,
        "i2t R@1": [value / 10 for value in rsums],
        "t2i R@1": [value / 12 for value in rsums],
    }


def drawn(axis: Any) -> list[tuple[list[float], list[float]]]:
    """The lines of a panel without its stars, as (xs, ys)."""
    return [(list(one.get_xdata()), list(one.get_ydata())) for one in axis.lines if one.get_linestyle() != "None"]


def stars(axis: Any) -> list[tuple[float, float]]:
    return [(float(one.get_xdata()[0]), float(one.get_ydata()[0])) for one in axis.lines if one.get_marker() == "*"]


def told(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_one_run_has_a_line_for_every_member_and_the_ensemble() -> None:
    run = {
        "t2i": line([10, 30, 20], loss=[3, 2, 1]),
        "i2t": line([11, 12, 13], loss=[4, 3, 2]),
        "ensemble": line([14, 15, 15]),
    }
    figure = epochs({"scan": run}, "title")
    panels = dict(zip(PANELS, figure.axes, strict=True))
    assert drawn(panels["rsum"]) == [([1, 2, 3], [10, 30, 20]), ([1, 2, 3], [11, 12, 13]), ([1, 2, 3], [14, 15, 15])]
    assert drawn(panels["loss"]) == [([1, 2, 3], [3, 2, 1]), ([1, 2, 3], [4, 3, 2])]
    assert drawn(panels["i2t R@1"])[2] == ([1, 2, 3], [1.4, 1.5, 1.5])
    assert stars(panels["rsum"]) == [(2, 30), (3, 13), (2, 15)]  # of equals the first, as training keeps it
    assert stars(panels["loss"]) == [(2, 2), (3, 2)]  # at the epoch with the best rsum
    assert stars(panels["t2i R@1"])[0] == (2, 2.5)
    assert told(figure) == ["t2i", "i2t", "ensemble", "epoch with the best rsum"]
    assert len({one.get_color() for one in panels["rsum"].lines}) == 3


def test_several_runs_have_a_colour_each_and_thin_members() -> None:
    one = {"t2i": line([1, 2]), "i2t": line([3, 4]), "ensemble": line([5, 6])}
    figure = epochs({"_one": one, "two": {"global": line([7, 8])}}, "title")
    lines = [each for each in figure.axes[0].lines if each.get_marker() != "*"]
    assert [list(each.get_ydata()) for each in lines] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    colours = [each.get_color() for each in lines]
    assert colours[0] == colours[1] == colours[2] != colours[3]
    widths = [each.get_linewidth() for each in lines]
    assert max(widths[:2]) < min(widths[2:])
    assert told(figure) == ["_one", "two", "members of an ensemble", "epoch with the best rsum"]


def test_stages_are_not_joined_and_epochs_without_scores_are_left_out() -> None:
    scl = line([NAN, NAN, NAN, 50, 60], loss=[3, 2, 0.6, 5, 4], stages=["text", "text", "image", "", ""])
    figure = epochs({"scl": {"global": scl}}, "title")
    assert drawn(figure.axes[0]) == [([4, 5], [50, 60])]
    assert drawn(figure.axes[1]) == [([1, 2], [3, 2]), ([3], [0.6]), ([4, 5], [5, 4])]
    assert stars(figure.axes[1]) == [(5, 4)]


@pytest.mark.parametrize("count", [1, 2, 40])
def test_epochs_are_whole_numbers(count: int) -> None:
    figure = epochs({"a": {"global": line([float(n) for n in range(count)])}}, "title")
    low, high = figure.axes[0].get_xlim()
    shown = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert 1 <= len(shown) <= 8 and all(tick == round(tick) for tick in shown)


def test_best_epoch() -> None:
    assert best_epoch(line([NAN, 3, 5, 5])) == 2
    assert best_epoch(line([NAN, NAN])) is None


def test_cmc_has_every_k_of_both_sides() -> None:
    curves = {
        name: {"i2t": [top * k / (k + 3) for k in range(1, 101)], "t2i": [top / 2 + k / 10 for k in range(1, 101)]}
        for name, top in (("a", 80.0), ("b", 60.0))
    }
    figure = cmc(curves, "val, 10 images")
    for axis, side in zip(figure.axes, ("i2t", "t2i"), strict=True):
        assert drawn(axis) == [(list(range(1, 101)), curves["a"][side]), (list(range(1, 101)), curves["b"][side])]
        assert axis.get_xscale() == "log" and [t.get_text() for t in axis.get_xticklabels()][-2:] == ["50", "100"]
        assert axis.get_ylim()[0] == 0
    assert figure.get_suptitle() == "val, 10 images" and told(figure) == ["a", "b"]
    assert cmc({"a": {"i2t": [1.0, 2.0], "t2i": [1.0, 3.0]}}, "").axes[0].get_xscale() == "linear"


def test_precision_at_eleven_recalls() -> None:
    eleven = {"i2t": [90.0 - 8 * n for n in range(11)], "t2i": [50.0 - 4 * n for n in range(11)]}
    figure = precision({"a": eleven}, "title")
    for axis, side in zip(figure.axes, ("i2t", "t2i"), strict=True):
        assert drawn(axis) == [(list(np.arange(0, 101, 10)), eleven[side])]
        assert axis.get_xlabel() == "recall (%)"


def test_flat_curves_say_why() -> None:
    falling, flat = [90.0 - 8 * n for n in range(11)], [40.0] * 11
    i2t, t2i = precision({"a": {"i2t": falling, "t2i": flat}, "b": {"i2t": flat, "t2i": [30.0] * 11}}, "").axes
    assert "flat" not in i2t.get_xlabel() and "flat: one right answer a query" in t2i.get_xlabel()
    i2t, t2i = cmc({"a": {"i2t": [100.0] * 9, "t2i": [20.0] * 9}}, "").axes
    assert "flat: every right answer is first" in i2t.get_xlabel() and "flat: no query" in t2i.get_xlabel()


def test_series_have_marks_beside_colours() -> None:
    curves = {str(n): {"i2t": [float(n), n + 1.0], "t2i": [float(n), n + 2.0]} for n in range(9)}
    looks = {(one.get_color(), one.get_marker()) for one in cmc(curves, "").axes[0].lines}
    assert len(looks) == 9 and len({shape for _, shape in looks}) == 7
    (line,) = cmc({"a": curves["0"]}, "", numbers=[8]).axes[0].lines
    assert (line.get_color(), line.get_marker()) in looks and line.get_linestyle() == "--"


def test_drawing_and_saving_need_no_pyplot_and_no_home() -> None:
    code = (
        "import os, sys, pathlib, tempfile\nos.environ |= {'HOME': '/dev/null', 'MPLCONFIGDIR': ''}\n"
        "os.environ.pop('XDG_CONFIG_HOME', None)\nos.environ.pop('XDG_CACHE_HOME', None)\n"
        "from itmkit.report.curves import cmc\nfrom itmkit.report.figure import save\n"
        "assert 'matplotlib' not in sys.modules\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    for kind in ('svg', 'png'):\n"
        "        save(cmc({'a': {'i2t': [1, 2], 't2i': [3, 4]}}, ''), pathlib.Path(folder) / f'a.{kind}')\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

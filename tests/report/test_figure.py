from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itmkit.errors import ItmkitError
from itmkit.report.bars import labels, methods
from itmkit.report.curves import cmc
from itmkit.report.figure import MOST, WIDTH, lay_out, look, mark, save, style, wrapped
from itmkit.report.intervals import slices

CURVES = {"_one $x_1$": {"i2t": [10.0, 20.0], "t2i": [5.0, 6.0]}, "two": {"i2t": [11.0, 12.0], "t2i": [1.0, 2.0]}}


@given(st.text(alphabet="ab :-=", max_size=80), st.integers(2, 30))
def test_wrapped_keeps_every_letter_and_the_width(text: str, width: int) -> None:
    lines = wrapped(text, width).split("\n")
    assert max(len(line) for line in lines) <= width
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_long_names_break_between_settings() -> None:
    assert wrapped("mefn:mfe=false:local-attention=false", 26) == "mefn:mfe=false:\nlocal-attention=false"


def test_series_look_different() -> None:
    assert len({str(look(number)) for number in range(MOST)}) == MOST
    marks = [mark(number) for number in range(MOST)]
    assert len({(one["color"], one["marker"]) for one in marks}) == MOST


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_same_data_are_the_same_bytes(kind: str, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    files = [tmp_path / f"{number}.{kind}" for number in range(2)]
    for number, path in enumerate(files):
        with matplotlib.rc_context({"font.size": 5 + number, "svg.hashsalt": str(number), "lines.linewidth": 9}):
            save(cmc(CURVES, "title"), path)
    first, second = (path.read_bytes() for path in files)
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in files]
    assert b"itmkit" not in first and b"Matplotlib" not in first and b"<dc:date>" not in first


def test_text_stays_text_and_names_stay_as_they_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    save(cmc(CURVES, "10 images & more"), tmp_path / "a.svg")
    written = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for text in ("_one $x_1$", "two", "10 images &amp; more", "R@k (%)", "k best captions"):
        assert f">{text}<" in written, text


def test_a_png_is_one_column_wide(tmp_path: Path) -> None:
    from PIL import Image

    pytest.importorskip("matplotlib")
    save(cmc(CURVES, "title"), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == round(WIDTH * 300) and not picture.info.get("Software")


def test_a_transparent_figure_is_read_on_white_and_on_dark(tmp_path: Path) -> None:
    from PIL import Image

    pytest.importorskip("matplotlib")
    save(cmc(CURVES, "title"), tmp_path / "a.png", transparent=True)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.getpixel((0, 0))[3] == 0
        inks = {pixel for count, pixel in picture.getcolors(10**6) if pixel[3] == 255 and count > 50}
    assert inks and all(sum(ink[:3]) > 200 for ink in inks)  # nothing is black
    save(cmc(CURVES, "title"), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255, 255)


def test_settings_outside_are_left_alone() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError), style():
        assert matplotlib.rcParams["svg.fonttype"] == "none"
        raise RuntimeError
    cmc(CURVES, "title")
    assert dict(matplotlib.rcParams) == before


def test_other_endings_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ItmkitError, match=r"a\.jpg: figures are written as \.svg or \.png or \.pdf"):
        save(cmc(CURVES, "title"), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ItmkitError, match=r"pip install 'itmkit\[report\]'"):
        cmc(CURVES, "title")


def check_layout(figure: Any) -> None:
    """Everything lies within the figure, the legend below the panels, and no panel is squeezed."""
    with style():
        lay_out(figure)
        below, page = figure.legends[0].get_window_extent(), figure.bbox
        boxes = [below, *(text.get_window_extent() for text in figure.texts)]
        for axis in figure.axes:
            boxes += [text.get_window_extent() for text in (axis.title, *axis.texts, *axis.get_yticklabels())]
            assert axis.get_tightbbox().y0 >= below.y1
            assert axis.get_window_extent().width > figure.dpi
        for box in (*boxes, *(axis.get_tightbbox() for axis in figure.axes)):
            assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1


@pytest.mark.parametrize("count", [1, MOST])
def test_long_names_have_room(count: int) -> None:
    pytest.importorskip("matplotlib")
    name = "f8k-scl+text-epochs=2+image-epochs=2+local-attention=false-seed"
    names = [f"{name}{n} (ensemble of 2)" for n in range(count)]
    check_layout(cmc(dict.fromkeys(names, CURVES["two"]), "val, 1,000 images, " * 5))
    figures = {"R@1": {"value": 100.0, "low": 0.0, "high": 100.0}}
    rows = [{"side": "t2i", "name": one, "queries": 7, "figures": figures} for one in ("a", "b")]
    check_layout(slices(dict.fromkeys(names, rows), "val"))
    bars = [{"label": "a", "queries": 7, "R@1": 100.0}]
    check_layout(labels({one: {"i2t": bars, "t2i": bars} for one in names}, "val"))
    check_layout(methods([{"name": one, "kind": "single", "values": {"rsum": [1.0, 2.0]}} for one in names], "val"))

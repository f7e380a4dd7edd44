from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from itmkit.dataset import Caption, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.report.choice import Choice
from itmkit.report.colours import Colours
from itmkit.report.figure import COLOURS, save
from itmkit.report.lines import lines_of
from itmkit.report.of_scores import Stored, _queries
from itmkit.report.retrieved import Found, Query, finds, retrieved
from itmkit.workspace import Workspace

pytest.importorskip("matplotlib")

GREEN, RED = COLOURS[2], COLOURS[1]
HOSTILE = r"$\frac{1}$ <script>alert(1)</script> & a" + "\x1b[31m\ufffe\u202e" + "w" * 400 + " \u4e2d\u6587 \U0001f600"


def images(count: int = 4, text: str = "caption") -> list[ImageRecord]:
    return [
        ImageRecord(str(i), "test", (Caption(f"{i}#0", f"{text} {i}.0"), Caption(f"{i}#1", f"{text} {i}.1")))
        for i in range(count)
    ]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_the_best_items_and_wrong_ones_first_among_equal_scores() -> None:
    scores, right = np.array([0.1, 0.5, 0.9, 0.5]), np.array([False, True, False, False])
    assert finds(scores, right, 3) == Found([2, 3, 1], [1, 2, 3], [0.9, 0.5, 0.5], [False, False, True])
    # The first right one stands behind the best, with its place, as R@K counts it.
    assert finds(scores, right, 1) == Found([2, 1], [1, 3], [0.9, 0.5], [False, True])
    assert finds(scores, np.zeros(4, bool), 2) == Found([2, 1], [1, 2], [0.9, 0.5], [False, False])
    assert finds(scores, right, 10).items == [2, 3, 1, 0]


def test_captions_and_images_that_are_found_with_their_signs() -> None:
    found = {
        "mpsm": Found([2, 0, 7], [1, 2, 3], [0.9, 0.8, 0.7], [False, True, False]),
        "scan": Found([0, 3], [1, 2], [0.6, 0.5], [True, False]),
    }
    of_caption = {
        "mpsm": Found([1, 0], [1, 2], [0.75, 0.5], [False, True]),
        "scan": Found([0, 3], [1, 2], [0.625, 0.5], [True, False]),
    }
    queries = [Query("i2t", 0, images(), found), Query("t2i", 1, images(), of_caption)]
    figure = retrieved(queries, "title", lambda record: Image.new("RGB", (40, 30), (9, 99, 9)), numbers=[3, 0])
    columns = [axis for axis in figure.axes if any("caption " in text.get_text() for text in axis.texts[-1:])]
    says = [[text.get_text() for text in axis.texts] for axis in columns]
    assert says[0] == ["mpsm", "1", "✗", "caption 1.0", "2", "✓", "caption 0.0", "3", "✗", "caption 3.1"]
    assert says[1] == ["scan", "1", "✓", "caption 0.0", "2", "✗", "caption 1.1"]
    assert says[2:] == [["caption queries (t2i)"], ["caption 0.1"]]  # and the query itself
    signs = {text.get_text(): text.get_color() for text in columns[0].texts}
    assert (signs["✓"], signs["✗"]) == (GREEN, RED)
    marks = [axis.lines[0].get_color() for axis in columns[:2]]
    assert marks == [COLOURS[3], COLOURS[0]]  # as in the other figures of these runs
    panels = [axis for axis in figure.axes if axis.patches and axis.images]
    assert [axis.get_xlabel() for axis in panels] == ["1  (0.750)", "2  (0.500)", "1  (0.625)", "2  (0.500)"]
    looks = [(axis.patches[0].get_edgecolor(), axis.patches[0].get_linestyle()) for axis in panels]
    assert [look[1] == "solid" for look in looks] == [False, True, True, False]
    assert looks[1][0] == looks[2][0] != looks[0][0] == looks[3][0]


def test_without_a_picture_the_id_is_shown_and_one_run_is_not_named() -> None:
    query = Query("t2i", 1, images(), {"mpsm": Found([1, 0], [1, 2], [0.75, 0.5], [False, True])})
    told = texts(retrieved([query], "title", lambda record: None))
    assert "1" in told and "0" in told and "mpsm" not in told


def test_hostile_captions_are_only_text(tmp_path: Path) -> None:
    records = images(2, HOSTILE)
    found = Found([0, 3], [1, 2], [0.9, 0.1], [True, False])
    queries = [Query("i2t", 0, records, {HOSTILE: found, "b": found}), Query("t2i", 1, records, {"a": found})]
    queries[1].found["a"].items[:] = [0, 1]
    figure = retrieved(queries, HOSTILE, lambda record: None)
    save(figure, tmp_path / "a.svg")
    root = ET.parse(tmp_path / "a.svg").getroot()  # well-formed
    assert not [one for one in root.iter() if one.tag.endswith("script")]
    assert "alert(1)" in "".join(root.itertext()) and r"$\frac{1}$" in "".join(root.itertext())
    save(figure, tmp_path / "a.png")
    wide, _ = Image.open(tmp_path / "a.png").size
    assert wide == 2100


def test_text_fits_its_room_however_wide_its_letters() -> None:
    from itmkit.report.figure import style
    from itmkit.report.lines import _width

    with style() as matplotlib:
        for text in ("W" * 50, "i" * 300, "two dogs run over a bridge at night", "\u4e2d" * 60, "a b " * 40):
            found = lines_of(matplotlib, text, 1.0, points=6.5, most=3)
            assert 1 <= len(found) <= 3
            assert all(sum(_width(matplotlib, letter, 6.5) for letter in line) <= 1.0 for line in found)
        assert found[-1].endswith("\u2026")
        whole = lines_of(matplotlib, "two dogs run over a bridge at night", 1.0, points=6.5, most=3)
        assert " ".join(whole) == "two dogs run over a bridge at night"
        assert lines_of(matplotlib, "", 1.0, points=6.5, most=3) == []


def test_queries_are_drawn_by_a_seed_or_named_by_id_and_text(tmp_path: Path) -> None:
    def chosen(**given: Any) -> tuple[list[int], list[int]]:
        return _queries(Choice(Colours(Workspace(tmp_path)), **given), Stored(images(20), {}, []))

    rows, columns = chosen(queries=4)
    assert len(set(rows)) == len(set(columns)) == 4 and (rows, columns) == chosen(queries=4) != chosen(
        queries=4, seed=1
    )
    assert chosen(images=["3", "0"], captions=["1#1", "caption 2.0", "1#1"]) == ([3, 0], [3, 4])
    with pytest.raises(ItmkitError) as error:
        chosen(images=["20"], captions=["caption"])
    assert [problem.split(":")[0] for problem in error.value.problems] == ["--image 20", "--caption caption"]

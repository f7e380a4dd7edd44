from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from itmkit.commands.explain import _show
from itmkit.errors import ItmkitError
from itmkit.report.explained import MOST, check_target, content_words, explained, write_explained
from itmkit.report.figure import style
from itmkit.report.spotlight import DARK, lit, strongest
from itmkit.trained import Explanation
from tests.report.explanations import explanation

PICTURE = Image.new("RGB", (160, 120), (200, 40, 40))  # twice the size in which the regions were found


def texts(figure: Any) -> list[str]:
    pytest.importorskip("matplotlib")
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def check_layout(figure: Any) -> None:
    """Nothing is drawn beyond the page, and no two panels cover each other."""
    backend = pytest.importorskip("matplotlib.backends.backend_agg")
    with style():
        renderer = backend.FigureCanvasAgg(figure).get_renderer()
        page = figure.bbox
        for axis in figure.axes:
            box = axis.get_tightbbox(renderer)
            assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1 and page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1
        panels = [axis.get_window_extent(renderer) for axis in figure.axes]
        for number, one in enumerate(panels):
            for other in panels[:number]:
                across = min(one.x1, other.x1) - max(one.x0, other.x0)
                down = min(one.y1, other.y1) - max(one.y0, other.y0)
                assert across < 1 or down < 1


def test_content_words_are_those_that_matter_in_the_order_of_the_caption() -> None:
    found = explanation()
    assert [found.words.words[k] for k in content_words(found)] == ["dog", "runs", "red", "cars"]
    assert content_words(found, 2) == [4, 5]
    alone = explanation("a - b . c", tree=False)
    assert [alone.words.words[k] for k in content_words(alone)] == ["a", "b", "c"]
    harmful = explanation(importance=np.array([0, -0.9, 0.1, 0, 0.2, 0]))
    assert content_words(harmful, 2) == [1, 4]  # a word that does the score harm matters too


def test_only_what_a_word_looks_at_is_bright() -> None:
    pixels = np.full((60, 80, 3), 200, np.uint8)
    found = explanation()
    weights = np.array([0.6, 0.3, 0.0, 0.0, 0.0])
    seen = lit(pixels, found.boxes / (80, 60, 80, 60), weights)
    assert (seen[:10, :10] == 200).all()
    np.testing.assert_allclose(seen[6:14, 11:19], 200 * (DARK + (1 - DARK) * 0.5), atol=1)
    assert (seen[40:] == int(200 * DARK)).all()
    assert strongest(weights).tolist()[:2] == [0, 1] and len(strongest(np.ones(196))) == 16
    beyond = np.array([[0.9, 0.9, 1.4, 1.2], [1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, 0.1, 0.1]])
    assert lit(pixels, beyond, np.ones(3)).shape == pixels.shape  # boxes that end at the border, or beyond it


def test_every_content_word_has_a_panel_with_its_region_and_importance() -> None:
    shown = texts(explained(explanation(), PICTURE, run="mpsm"))
    assert "a.jpg: score 0.500 by mpsm" in shown
    for title, region in (("dog  -0.060", "1 thing 1"), ("cars  +0.500", "0 thing 0")):
        assert title in shown and region in shown
    assert f"{1 / 1.4:.2f}" in shown and "nsubj" in shown and "importance" in shown


def test_importance_stands_behind_a_word_from_right_to_left() -> None:
    shown = texts(explained(explanation("שני כלבים רצים"), PICTURE, run="mpsm"))
    assert "\u200eכלבים\u200e  +0.150" in shown  # marks of left to right, in which title and number are


long = " ".join(f"word{k}" for k in range(100))


def quantities(**more: np.ndarray) -> dict[str, Any]:
    return {"quantities": {"one": {"words_to_regions": np.full((6, 5), 0.2), **more}}}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (explanation(long, regions=36), "word99"),
        (
            explanation("pneumonoultramicroscopicsilicovolcanoconiosis " * 3 + "x", tree=False),
            "pneumonoultramicr\u2026",
        ),
        (explanation(size=(600, 40)), "dog"),
        (explanation(size=(40, 600)), "dog"),
        (explanation(**quantities(entropy=np.full((6, 5), 0.5))), "entropy"),
        (explanation(**quantities(regions_to_words=np.full((6, 5), 1 / 6))), "word hears region"),
        (explanation(**quantities(nodes=np.full(7, 1 / 7))), "weight in one"),
        (explanation(quantities={}), "no word looks at a region"),
        (explanation(boxes=np.zeros((5, 4)), size=(0, 0)), "imported without boxes"),
        (explanation(regions=1), "dog"),
    ],
    ids=["long", "wide", "flat", "tall", "entropy", "edges", "nodes", "none", "no boxes", "one region"],
)
def test_nothing_leaves_the_page_or_covers_another_panel(found: Explanation, says: str) -> None:
    figure = explained(found, PICTURE)
    shown = texts(figure)
    assert any(says in text for text in shown)
    assert len([text for text in shown if "  +" in text or "  -" in text]) <= MOST
    check_layout(figure)


def test_captions_are_text_and_not_marks(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = "$x^2$ <b>&amp; \x1b[31m \u540d\u524d \\frac{ _\udcff"
    names = ["&", "<script>", "$\\alpha$", "\x00", "\u202e"]
    found = explanation(words, image="a\n<b>.jpg")
    found.regions[:] = names
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_explained(found, tmp_path / "a.svg", PICTURE, run="$run$")
    written = (tmp_path / "a.svg").read_text(encoding="utf-8")
    shown = {element.text for element in ElementTree.fromstring(written).iter() if element.text}
    assert {"$x^2$", "<b>&amp;", "\\x1b[31m", "\u540d\u524d", "\\frac{", "_\\udcff"} <= shown
    assert "<script>" not in written and any(text.startswith("1 <script>") for text in shown)


def test_the_same_explanation_is_the_same_bytes_and_replaces_only_its_kind(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        write_explained(explanation(), tmp_path / name, PICTURE)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    write_explained(explanation(), tmp_path / "a.json")
    write_explained(explanation(), tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["words"][1]["word"] == "dog"
    for name in ("other.json", "other.svg"):
        (tmp_path / name).write_text('{"mine": 1}')
        with pytest.raises(ItmkitError, match="is there already"):
            check_target(tmp_path / name)
        with pytest.raises(ItmkitError, match="is there already"):
            write_explained(explanation(), tmp_path / name, PICTURE)
        assert (tmp_path / name).read_text() == '{"mine": 1}'
    with pytest.raises(ItmkitError, match=r"\.svg, \.png, \.pdf or \.json"):
        check_target(tmp_path / "a.tif")


def test_patches_are_called_patches(capsys: pytest.CaptureFixture[str]) -> None:
    found = explanation(part="patch")
    _show(found, "chan")
    assert "looks at patch" in capsys.readouterr().out

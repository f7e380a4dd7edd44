from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from itmkit.report import pairs
from itmkit.report.figure import save
from tests.report.explanations import explanation

pytest.importorskip("matplotlib")

PICTURE = Image.new("RGB", (160, 120), (200, 100, 50))


def test_attention_has_a_panel_a_content_word_with_what_it_looks_at() -> None:
    found = explanation()
    figure = pairs.attention(found, "title", PICTURE)
    panels = {axis.get_title().split("  ")[0]: axis for axis in figure.axes if axis.get_title()}
    assert list(panels) == ["dog", "runs", "red", "cars"]  # no preposition
    assert found.attention is not None
    for place, word in ((1, "dog"), (2, "runs"), (5, "cars")):
        best = int(found.attention[place].argmax())
        assert panels[word].get_xlabel() == f"{best} thing {best}"
        assert f"{found.attention[place, best]:.2f}" in [text.get_text() for text in panels[word].texts]
    assert "the dog runs past red cars" in [text.get_text() for axis in figure.axes for text in axis.texts]


def test_entropies_are_those_of_the_method() -> None:
    values = np.linspace(0, 1, 30).reshape(6, 5)
    values[:, 4] = np.nan  # no such region
    figure = pairs.entropy(explanation(quantities={"one": {"entropy": values}}), "title", PICTURE)
    (axis,) = [axis for axis in figure.axes if len(axis.collections) == 1 and len(axis.get_yticklabels()) == 5]
    drawn = axis.collections[0].get_array().reshape(5, 6)
    np.testing.assert_allclose(np.ma.filled(drawn, np.nan), values.T)
    assert [label.get_text() for label in axis.get_yticklabels()] == [f"{k} thing {k}" for k in range(5)]
    words = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert [word for word in words if word in found_words()] == found_words()


def found_words() -> list[str]:
    return ["the", "dog", "runs", "past", "red", "cars"]


def test_edges_are_as_strong_as_their_weights() -> None:
    hears = np.zeros((6, 5))
    hears[0, 0], hears[1, 2], hears[2, 3] = 1.0, 0.5, 0.2  # the last is too weak to be drawn
    heard = np.zeros((6, 5))
    heard[5, 4] = 0.25
    quantities = {"one": {"words_to_regions": hears, "regions_to_words": heard}}
    figure = pairs.edges(explanation(quantities=quantities), "title", PICTURE)
    lines = [line for axis in figure.axes for line in axis.lines]
    assert [line.get_alpha() for line in lines] == [1.0, 0.25, 1.0]
    assert [line.get_linewidth() for line in lines] == [1.2, 0.7, 1.2]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()


def test_blocks_are_the_six_strongest_of_each_region() -> None:
    weights = np.zeros((5, 16), np.float32)
    weights[0, :8] = np.array([0.05, 0.3, 0.1, 0.2, 0.15, 0.12, 0.06, 0.02])
    weights[1, 15] = 1.0
    kept = pairs.strongest_blocks(weights[0])
    assert np.flatnonzero(kept).tolist() == [1, 2, 3, 4, 5, 6] and kept[1] == weights[0, 1]
    np.testing.assert_array_equal(pairs.places_of_blocks(16)[[0, 3, 4]] * 4, [[0, 0, 1, 1], [3, 0, 4, 1], [0, 1, 1, 2]])
    figure = pairs.blocks(explanation(), {"t2i": weights, "i2t": weights[:, ::-1]}, "title", PICTURE)
    panels = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in panels] == ["0 thing 0", "1 thing 1"] * 2  # regions that attend to some
    assert [axis.get_xlabel() for axis in panels[:2]] == ["strongest block 0.300", "strongest block 1.000"]
    assert [len(axis.patches) for axis in panels[:2]] == [7, 2]  # the blocks, and the region itself
    bright = np.asarray(panels[1].images[0].get_array())[..., 0]
    assert bright[-1, -1] == 200 and bright[0, 0] == 60  # the last block in the light, the first in the dark


def test_without_boxes_or_a_picture(tmp_path: Path) -> None:
    weights = np.full((5, 16), 1 / 16, np.float32)
    nowhere: dict[str, Any] = {"boxes": np.zeros((5, 4), np.float32), "size": (0, 0)}
    figure = pairs.blocks(explanation(**nowhere), {"t2i": weights}, "title", None)
    assert len([axis for axis in figure.axes if axis.images]) == 5


def test_hostile_words_and_names_are_only_text(tmp_path: Path) -> None:
    words = r"$\frac$ <b>bold</b> a&b " + "\x1b[31m \ufffe " + "w" * 300
    count = len(words.split(" "))
    values = np.tile(np.linspace(0, 1, 5), (count, 1))
    both = {"entropy": values, "words_to_regions": values, "regions_to_words": values}
    found = explanation(words, tree=False, quantities={"<i>": both})
    found.regions[0] = "$x$ <script/>\x00"
    for name in ("attention", "entropy", "edges"):
        save(getattr(pairs, name)(found, words, PICTURE), tmp_path / f"{name}.svg")
        root = ET.parse(tmp_path / f"{name}.svg").getroot()
        assert not [one for one in root.iter() if one.tag.endswith(("script", "}b", "}i"))]

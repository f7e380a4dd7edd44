from __future__ import annotations

import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.report.figure import COLOURS
from itmkit.report.histograms import histogram, histograms
from itmkit.scoring.stored import InMemory

pytest.importorskip("matplotlib")

SCORES = np.array([[1.0, 0.0, 0.25, 0.0], [0.0, 0.1, 0.6, 0.9]], np.float32)
IMAGE_OF = np.array([0, 0, 1, 1])


def test_matching_pairs_and_others_are_counted_apart() -> None:
    found = histogram(InMemory(SCORES), IMAGE_OF, bins=4)
    np.testing.assert_array_equal(found.edges, [0, 0.25, 0.5, 0.75, 1])
    assert found.positive.tolist() == [1, 0, 1, 2]
    assert found.negative.tolist() == [3, 1, 0, 0]
    even = histogram(InMemory(np.zeros((2, 4), np.float32)), IMAGE_OF, bins=3)
    assert even.positive.tolist() == [0, 4, 0] and even.edges[0] == -0.5
    with pytest.raises(ItmkitError):
        histogram(InMemory(np.full((2, 4), np.nan, np.float32)), IMAGE_OF)


def test_the_figure_shows_the_share_of_pairs_in_the_colour_of_the_run() -> None:
    one = histogram(InMemory(SCORES), IMAGE_OF, bins=4)
    spread = histogram(InMemory(np.arange(8, dtype=np.float32).reshape(2, 4)), IMAGE_OF, bins=8)
    figure = histograms({"mpsm": one, "scan": spread}, "title", numbers=[2, 0])
    (positive, negative), (others, _) = (axis.patches for axis in figure.axes)
    assert positive.get_data().values.tolist() == [25, 0, 25, 50]
    assert negative.get_data().values.tolist() == [75, 25, 0, 0]
    assert positive.get_data().edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert others.get_data().values.tolist() == [25, 25, 0, 0, 0, 0, 25, 25]
    from matplotlib.colors import to_rgb

    assert [axis.patches[0].get_facecolor()[:3] for axis in figure.axes] == [to_rgb(COLOURS[2]), to_rgb(COLOURS[0])]
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]  # of one with a peak
    assert figure.axes[0].get_title() == "mpsm: 4 and 4 pairs"

"""Pictures that a person gives to a trained matcher."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from itmkit.errors import ItmkitError
from itmkit.pictures.decode import Picture, reduced
from itmkit.pictures.load import check_proportions
from itmkit.regions.detector import Detector
from itmkit.trained.pictures import _prepared


class Model:
    def prepare(self, image: Image.Image) -> Image.Image:
        check_proportions(image)
        return image


def test_a_picture_that_is_too_thin_is_named_among_others() -> None:
    pictures = [reduced(Image.new("RGB", size)) for size in ((60, 40), (400, 3), (30, 50))]
    with pytest.raises(ItmkitError) as error:
        _prepared(Model(), pictures)
    assert error.value.problems == [
        "picture 2 (400 x 3 pixels): one side is more than 100 times the other, too thin for this model"
    ]
    assert len(_prepared(Model(), pictures[::2])) == 2


def test_a_new_picture_that_is_a_strip_is_told_with_its_size() -> None:
    strip = Picture(Image.new("RGB", (2000, 2)), (4000, 4))
    refusing = SimpleNamespace(prepare=lambda image: Detector.prepare(SimpleNamespace(), image))  # type: ignore[arg-type]
    with pytest.raises(ItmkitError, match=r"picture 1 \(4000 x 4 pixels\): one side is more than 100 times the other"):
        _prepared(refusing, [strip])

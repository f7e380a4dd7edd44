"""Pictures that a person gives to a trained matcher."""

from __future__ import annotations

import pytest
from PIL import Image

from itmkit.errors import ItmkitError
from itmkit.pictures.decode import reduced
from itmkit.pictures.load import check_proportions
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

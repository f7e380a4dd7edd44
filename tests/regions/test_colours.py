"""The colour word of a region."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from itmkit.regions.colours import COLOUR_NAMES, colour_of, region_colours
from itmkit.scenes.render import render
from itmkit.scenes.world import sample_scene


def named(image: Image.Image | np.ndarray, *boxes: tuple[float, float, float, float]) -> list[str]:
    return [COLOUR_NAMES[number] for number in region_colours(image, np.array(boxes, dtype=np.float32))]


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"), ((255, 255, 255), "white"), ((128, 128, 128), "grey"), ((220, 20, 30), "red"),
        ((255, 140, 0), "orange"), ((250, 220, 30), "yellow"), ((30, 150, 50), "green"), ((30, 80, 210), "blue"),
        ((120, 40, 160), "purple"), ((255, 150, 180), "pink"), ((120, 72, 30), "brown"),
    ],
)  # fmt: skip
def test_a_patch_of_each_colour_has_its_name(rgb: tuple[int, int, int], name: str) -> None:
    assert COLOUR_NAMES[int(colour_of(np.array(rgb, np.uint8))[0])] == name
    assert named(Image.new("RGB", (40, 30), rgb), (5, 5, 30, 25)) == [name]


def test_the_object_wins_over_the_background_of_its_box() -> None:
    image = Image.new("RGB", (100, 100), (120, 160, 230))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 60, 60), outline=(210, 30, 30), width=9)  # a ring: two thirds of its box is background
    draw.rectangle((70, 70, 90, 90), fill=(40, 140, 50))
    assert named(image, (20, 20, 61, 61), (70, 70, 91, 91)) == ["red", "green"]


def test_a_region_of_the_colour_of_its_surroundings_keeps_that_colour() -> None:
    image = Image.new("RGB", (100, 100), (50, 150, 60))
    ImageDraw.Draw(image).rectangle((45, 45, 50, 50), fill=(120, 72, 30))
    assert named(image, (20, 20, 80, 80)) == ["green"]


def test_boxes_beyond_the_picture_and_empty_boxes_have_a_colour() -> None:
    image = Image.new("RGB", (50, 40), (220, 20, 30))
    assert named(image, (-20, -20, 90, 90), (10, 10, 10, 10), (60, 60, 80, 80), (-9, -9, -3, -3)) == ["red"] * 4


def test_no_boxes_and_types() -> None:
    image = Image.new("RGB", (8, 8))
    assert region_colours(image, np.zeros((0, 4), np.float32)).shape == (0,)
    assert region_colours(image, np.array([[0, 0, 8, 8]])).dtype == np.int16
    with pytest.raises(ValueError, match="RGB"):
        region_colours(image.convert("L"), np.array([[0, 0, 8, 8]]))


def test_a_box_does_not_depend_on_the_others() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    boxes = np.random.default_rng(1).uniform(0, 60, (9, 4)).astype(np.float32)
    alone = np.concatenate([region_colours(image, box[None]) for box in boxes])
    np.testing.assert_array_equal(region_colours(image, boxes), alone)


def test_colours_of_scenes_are_mostly_right() -> None:
    right = []
    for number in range(40):
        rng = np.random.default_rng([7, 99, number])
        scene = sample_scene(rng)
        picture = render(scene, rng)
        found = region_colours(picture.image, picture.boxes)
        right += [COLOUR_NAMES[k] == thing.colour for k, thing in zip(found, scene.objects, strict=True)]
    assert np.mean(right) > 0.92  # 0.97 on 1,240 objects

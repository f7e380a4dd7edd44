"""Scenes and their siblings: what stays, what changes, what is drawn where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from itmkit.scenes.render import render
from itmkit.scenes.siblings import refresh, swap_colours, swap_relation
from itmkit.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    PATTERNS,
    SIZES,
    Background,
    Scene,
    direction,
    sample_scene,
    swappable_pairs,
)


def scenes(n: int) -> list[Scene]:
    return [sample_scene(np.random.default_rng([5, i])) for i in range(n)]


def bag(scene: Scene, *keys: str) -> Counter[tuple[str, ...]]:
    return Counter(tuple(getattr(o, key) for key in keys) for o in scene.objects)


def test_scenes_vary_in_everything_they_promise() -> None:
    made = scenes(110)
    assert {len(s.objects) for s in made} == {3, 4, 5, 6, 7}
    things = [o for s in made for o in s.objects]
    assert {o.kind for o in things} == set(KINDS) and len(KINDS) >= 10
    assert {o.colour for o in things} == set(COLOURS) and len(COLOURS) == 8
    assert {o.size for o in things} == set(SIZES)
    assert {o.pattern for o in things} == set(PATTERNS)
    assert {s.background.style for s in made} == set(BACKGROUNDS)
    assert all(144 <= side <= 192 for s in made for side in (s.width, s.height))
    # Pictures with several objects of a kind are there, for the number words.
    assert sum(max(bag(s, "kind").values()) > 1 for s in made) > 15


@pytest.mark.parametrize("swap", [swap_colours, swap_relation])
def test_siblings_have_the_same_bag_of_kinds_and_of_colours(swap: Callable[..., Scene]) -> None:
    for k, scene in enumerate(scenes(40)):
        sibling = swap(scene, np.random.default_rng([6, k]))
        assert bag(sibling, "kind") == bag(scene, "kind")
        assert bag(sibling, "colour") == bag(scene, "colour")
        assert bag(sibling, "kind", "size", "pattern") == bag(scene, "kind", "size", "pattern")
        assert (bag(sibling, "kind", "colour") == bag(scene, "kind", "colour")) == (swap is swap_relation)


def test_swapped_relation_is_the_opposite_and_swapped_colours_keep_it() -> None:
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    for k, scene in enumerate(scenes(40)):
        rng = np.random.default_rng([7, k])
        pairs = swappable_pairs(scene)
        i, j = pairs[int(rng.integers(len(pairs)))]
        before = direction(scene.objects[i], scene.objects[j])
        moved = swap_relation(scene, rng, (i, j)).objects
        assert direction(moved[i], moved[j]) == opposite[str(before)]
        coloured = swap_colours(scene, rng, (i, j)).objects
        assert direction(coloured[i], coloured[j]) == before
        assert (coloured[i].colour, coloured[j].colour) == (scene.objects[j].colour, scene.objects[i].colour)


def test_siblings_are_drawn_afresh() -> None:
    for k, scene in enumerate(scenes(10)):
        again = refresh(scene, np.random.default_rng([8, k]))
        assert all((a.x, a.y) != (b.x, b.y) for a, b in zip(scene.objects, again.objects, strict=True))
        assert again.background != scene.background and again.noise != scene.noise


def test_picture_depends_on_scene_and_generator_alone() -> None:
    scene = scenes(1)[0]
    one, same, other = (render(scene, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.image.tobytes() == same.image.tobytes() != other.image.tobytes()
    assert one.image.mode == "RGB" and one.image.size == (scene.width, scene.height)
    assert one.boxes.shape == (len(scene.objects), 4) and one.boxes.dtype == np.float32


def test_boxes_are_tight_around_what_is_drawn() -> None:
    cyan = (0, 255, 255)  # like no object
    plain = Background("plain", cyan, cyan, 20.0, 0.0)
    for scene in scenes(12):
        boxes = render(replace(scene, noise=0.0), np.random.default_rng(0)).boxes
        for k, thing in enumerate(scene.objects):
            alone = replace(scene, objects=(thing,), background=plain, noise=0.0, light=1.0)
            pixels = np.asarray(render(alone, np.random.default_rng(0)).image).astype(int)
            rows, columns = np.nonzero(np.abs(pixels - cyan).max(axis=2) > 60)
            drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(boxes[k] - drawn).max() <= 1.5, (thing.kind, boxes[k], drawn)
            assert np.abs(boxes[k] - thing.box).max() <= 3.5  # the tips of a moon are too thin to be seen


def test_at_least_half_of_every_object_can_be_seen() -> None:
    visible = [render(s, np.random.default_rng(0)).visible for s in scenes(40)]
    assert min(v.min() for v in visible) >= 0.5
    assert 0.05 < np.mean(np.concatenate(visible) < 0.97) < 0.5  # some are partly hidden


def test_colours_stay_apart_under_noise_and_shade() -> None:
    """The mean colour of what is seen of a plain object is nearer to its own colour word than to any other."""
    names, table = list(COLOURS), np.array(list(COLOURS.values()), dtype=float)
    right = total = 0
    for scene in scenes(45):
        drawn = render(scene, np.random.default_rng(3))
        pixels = np.asarray(drawn.image).astype(float)
        for thing, box, visible in zip(scene.objects, drawn.boxes, drawn.visible, strict=True):
            if (
                thing.pattern != "plain"
                or visible < 0.99
                or thing.kind in ("ring", "moon", "cup", "house", "car", "boat")
            ):
                continue
            x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
            mean = pixels[y - 2 : y + 3, x - 2 : x + 3].mean(axis=(0, 1))
            right += names[int(((table - mean) ** 2).sum(axis=1).argmin())] == thing.colour
            total += 1
    assert total > 30 and right / total > 0.97

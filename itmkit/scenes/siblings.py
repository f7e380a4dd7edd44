"""Siblings: scenes of the same kinds and colours, told apart only by what belongs to what and where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from itmkit.scenes.world import (
    MARGIN,
    RADIUS,
    TRIES,
    NoRoom,
    Scene,
    direction,
    fits,
    fresh_background,
    fresh_canvas,
    fresh_shade,
    swappable_pairs,
    with_colours_swapped,
)


def refresh(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same scene anew: other canvas, background, noise and light; every object a little moved and turned.

    Raises NoRoom where no fresh layout keeps the objects inside and visible.
    """
    for _ in range(TRIES):
        width, height = fresh_canvas(rng, len(scene.objects))
        things = []
        for o in scene.objects:
            dx, dy = rng.normal(0, 3.0, size=2)
            radius = float(rng.uniform(*RADIUS[o.size]))
            reach = radius + MARGIN + 1
            x = float(np.clip(o.x * width / scene.width + dx, reach, width - reach))
            y = float(np.clip(o.y * height / scene.height + dy, reach, height - reach))
            things.append(
                replace(
                    o,
                    x=x,
                    y=y,
                    radius=radius,
                    angle=float(rng.uniform(-10, 10)),
                    flip=bool(rng.random() < 0.5),
                    shade=fresh_shade(rng),
                )
            )
        fresh = Scene(
            width,
            height,
            tuple(things),
            fresh_background(rng),
            float(rng.uniform(2.5, 8.0)),
            float(rng.uniform(0.93, 1.06)),
        )
        if fits(fresh):
            return fresh
    raise NoRoom


def _pick(scene: Scene, rng: np.random.Generator, pair: tuple[int, int] | None) -> tuple[int, int]:
    if pair is not None:
        return pair
    pairs = swappable_pairs(scene)
    if not pairs:
        raise NoRoom
    return pairs[int(rng.integers(len(pairs)))]


def swap_colours(scene: Scene, rng: np.random.Generator, pair: tuple[int, int] | None = None) -> Scene:
    """A sibling in which two objects of other kind have exchanged colours; all else stays.

    `pair`: which two, else one of `swappable_pairs`. Raises NoRoom where no layout keeps the pair's relation.
    """
    i, j = _pick(scene, rng, pair)
    swapped = replace(scene, objects=with_colours_swapped(scene.objects, i, j))
    want = direction(scene.objects[i], scene.objects[j])
    for _ in range(TRIES):
        fresh = refresh(swapped, rng)
        if want is None or direction(fresh.objects[i], fresh.objects[j]) == want:
            return fresh
    raise NoRoom


def swap_relation(scene: Scene, rng: np.random.Generator, pair: tuple[int, int] | None = None) -> Scene:
    """A sibling in which two objects of other kind have exchanged places: left is right, above is below.

    `pair`: which two, else one of `swappable_pairs`. Raises NoRoom where no layout has room for the exchange.
    """
    i, j = _pick(scene, rng, pair)
    a, b = scene.objects[i], scene.objects[j]
    things = list(scene.objects)
    things[i], things[j] = replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)
    swapped = replace(scene, objects=tuple(things))
    want = direction(b, a)
    for _ in range(TRIES):
        fresh = refresh(swapped, rng)
        if direction(fresh.objects[i], fresh.objects[j]) == want:
            return fresh
    raise NoRoom

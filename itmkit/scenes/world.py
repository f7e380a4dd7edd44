"""What a scene is: objects of a kind, colour, size and pattern on a background; and how siblings differ.

Nothing is drawn here (see `render.py`). Coordinates are pixels of the finished picture, x right and y down.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from itmkit.scenes.shapes import GRID, SHAPES, bounds, placed, rotation, unit_mask, unit_points

KINDS: tuple[str, ...] = tuple(SHAPES)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 38, 42),
    "green": (46, 158, 62),
    "blue": (42, 84, 208),
    "yellow": (242, 216, 44),
    "purple": (140, 52, 170),
    "orange": (244, 134, 28),
    "white": (246, 246, 246),
    "black": (26, 26, 28),
}
SIZES: tuple[str, ...] = ("small", "large")
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "checked")
BACKGROUNDS: tuple[str, ...] = ("plain", "gradient", "bands", "tiles", "speckles", "horizon", "clouds")

RADIUS = {"small": (11.0, 14.0), "large": (20.0, 25.0)}  # half the longer side, pixels
MIN_VISIBLE = 0.6  # of each object's area, estimated on a coarse grid
MARGIN = 2.0  # pixels between an object and the border
CLEAR = 14.0  # pixels between two centres along an axis for a relation to be beyond doubt
TRIES = 60

# Muted tints: far from white and black, of little saturation, so that every object colour stands out.
_TINTS = (
    (176, 176, 178),
    (150, 154, 160),
    (196, 188, 172),
    (178, 192, 204),
    (184, 198, 178),
    (204, 186, 184),
    (168, 156, 142),
    (190, 184, 202),
    (134, 144, 146),
    (200, 202, 190),
)


class NoRoom(Exception):
    """A scene or a sibling could not be laid out; the caller draws again."""


@dataclass(frozen=True)
class SceneObject:
    """One object. `depth`: a nearer one has the larger number and hides what it overlaps.

    `shade`: factor of the colour's value and shift of its hue in degrees.
    """

    kind: str
    colour: str
    size: str
    pattern: str
    x: float
    y: float
    radius: float
    angle: float
    flip: bool
    depth: int
    shade: tuple[float, float] = (1.0, 0.0)

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """x1 y1 x2 y2 in pixels, tight around the outline."""
        return bounds(self.kind, self.x, self.y, self.radius, self.angle, self.flip)


@dataclass(frozen=True)
class Background:
    """`style` is one of BACKGROUNDS, `period` in pixels, `angle` in degrees."""

    style: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]
    period: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """A picture's content. Object i of a sibling is object i of the scene that it was made from."""

    width: int
    height: int
    objects: tuple[SceneObject, ...]
    background: Background
    noise: float  # standard deviation of the pixel noise, in grey levels of 255
    light: float  # factor on all pixels


def covered(front: SceneObject, back: SceneObject) -> float:
    """The fraction of `back`'s area that `front` would hide, were it in front (0 to 1, on a coarse grid)."""
    a, b = front.box, back.box
    if a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]:
        return 0.0
    return float(_inside(front, _points(back)).mean())


def _points(thing: SceneObject) -> np.ndarray:
    return placed(unit_points(thing.kind), thing.x, thing.y, thing.radius, thing.angle, thing.flip)


def _inside(thing: SceneObject, points: np.ndarray) -> np.ndarray:
    """Which of the points (n, 2) lie on the object: (n,) bool."""
    unit = (points - np.array([thing.x, thing.y])) / thing.radius @ rotation(thing.angle, thing.flip)
    cells = np.floor((unit + 1) / 2 * GRID).astype(int)
    within = ((cells >= 0) & (cells < GRID)).all(axis=1)
    cells = cells.clip(0, GRID - 1)
    return np.asarray(unit_mask(thing.kind)[cells[:, 1], cells[:, 0]] & within)


@lru_cache(maxsize=4096)
def visible_fractions(objects: tuple[SceneObject, ...]) -> tuple[float, ...]:
    """The fraction of each object's area that no nearer object hides."""
    result = []
    for back in objects:
        fronts = [f for f in objects if f.depth > back.depth and covered(f, back) > 0]
        if not fronts:
            result.append(1.0)
            continue
        points = _points(back)
        hidden = np.zeros(len(points), dtype=bool)
        for front in fronts:
            hidden |= _inside(front, points)
        result.append(1.0 - float(hidden.mean()))
    return tuple(result)


def fits(scene: Scene) -> bool:
    for thing in scene.objects:
        x1, y1, x2, y2 = thing.box
        if x1 < MARGIN or y1 < MARGIN or x2 > scene.width - MARGIN or y2 > scene.height - MARGIN:
            return False
    return min(visible_fractions(scene.objects)) >= MIN_VISIBLE


def direction(a: SceneObject, b: SceneObject) -> str | None:
    """Where a lies as seen from b: "left", "right", "above", "below", or None where that is open to doubt."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) >= CLEAR and abs(dx) >= 1.25 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) >= CLEAR and abs(dy) >= 1.25 * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def swappable_pairs(scene: Scene) -> list[tuple[int, int]]:
    """Pairs i < j of other kind and colour, clearly beside or above one another, whose swap changes the scene."""
    pairs = []
    for i, a in enumerate(scene.objects):
        for j in range(i + 1, len(scene.objects)):
            b = scene.objects[j]
            if a.kind != b.kind and a.colour != b.colour and direction(a, b) and changed_by_swap(scene, i, j):
                pairs.append((i, j))
    return pairs


def changed_by_swap(scene: Scene, i: int, j: int) -> bool:
    """False where a swap gives what was there already (of red ball, blue box, blue ball, red box, say)."""
    before = Counter((o.kind, o.colour) for o in scene.objects)
    after = Counter((o.kind, o.colour) for o in with_colours_swapped(scene.objects, i, j))
    return before != after


def with_colours_swapped(objects: tuple[SceneObject, ...], i: int, j: int) -> tuple[SceneObject, ...]:
    things = list(objects)
    things[i] = replace(objects[i], colour=objects[j].colour)
    things[j] = replace(objects[j], colour=objects[i].colour)
    return tuple(things)


def sample_scene(rng: np.random.Generator) -> Scene:
    """A new scene of 3 to 7 objects, with at least one of `swappable_pairs`."""
    while True:
        try:
            scene = _lay_out(rng)
        except NoRoom:
            continue
        if swappable_pairs(scene):
            return scene


def _lay_out(rng: np.random.Generator) -> Scene:
    n = int(rng.integers(3, 8))
    width, height = fresh_canvas(rng, n)
    wanted = _cast(rng, n)
    depths = rng.permutation(n)
    objects: list[SceneObject] = []
    for k, (kind, colour, size, pattern) in enumerate(wanted):
        close = bool(objects) and rng.random() < 0.22
        for _ in range(TRIES):
            thing = _placed_somewhere(
                rng, kind, colour, size, pattern, int(depths[k]), width, height, objects if close else []
            )
            if _accept(thing, objects, width, height, touching=close):
                objects.append(thing)
                break
        else:
            raise NoRoom
    if min(visible_fractions(tuple(objects))) < MIN_VISIBLE:
        raise NoRoom
    return Scene(
        width,
        height,
        tuple(objects),
        fresh_background(rng),
        float(rng.uniform(2.5, 8.0)),
        float(rng.uniform(0.93, 1.06)),
    )


def fresh_canvas(rng: np.random.Generator, n: int) -> tuple[int, int]:
    low = 144 if n <= 5 else 160
    width, height = rng.integers(low, 193, size=2)
    return int(width), int(height)


def _cast(rng: np.random.Generator, n: int) -> list[tuple[str, str, str, str]]:
    """Kind, colour, size and pattern of n objects; often a kind comes two or three times."""
    kinds = [str(k) for k in rng.choice(KINDS, size=n, replace=False)]
    colours = [str(c) for c in rng.choice(list(COLOURS), size=n, replace=bool(rng.random() < 0.5) and n < 8)]
    if n >= 4 and rng.random() < 0.45:
        copies = int(rng.integers(1, 3 if n >= 5 else 2))
        for k in range(copies):
            kinds[-1 - k] = kinds[0]
            if rng.random() < 0.5:
                colours[-1 - k] = colours[0]
    large = rng.random(n) < (0.5 if n <= 5 else 0.35)
    patterns = rng.choice(PATTERNS, size=n, p=(0.55, 0.15, 0.15, 0.15))
    return [(kinds[k], colours[k], "large" if large[k] else "small", str(patterns[k])) for k in range(n)]


def _placed_somewhere(
    rng: np.random.Generator,
    kind: str,
    colour: str,
    size: str,
    pattern: str,
    depth: int,
    width: int,
    height: int,
    near: list[SceneObject],
) -> SceneObject:
    radius = float(rng.uniform(*RADIUS[size]))
    if near:  # beside an earlier object, so that the two overlap a little
        other = near[int(rng.integers(len(near)))]
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.65, 0.95) * (radius + other.radius)
        x, y = other.x + reach * np.cos(angle), other.y + reach * np.sin(angle)
    else:
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    return SceneObject(
        kind,
        colour,
        size,
        pattern,
        float(x),
        float(y),
        radius,
        float(rng.uniform(-10, 10)),
        bool(rng.random() < 0.5),
        depth,
        fresh_shade(rng),
    )


def _accept(thing: SceneObject, others: list[SceneObject], width: int, height: int, touching: bool) -> bool:
    x1, y1, x2, y2 = thing.box
    if x1 < MARGIN or y1 < MARGIN or x2 > width - MARGIN or y2 > height - MARGIN:
        return False
    shares = [(covered(thing, o) if thing.depth > o.depth else covered(o, thing)) for o in others]
    overlapping = sum(s > 0 for s in shares)
    if touching:
        return overlapping >= 1 and max(shares) <= 1 - MIN_VISIBLE
    return overlapping == 0


def fresh_shade(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(0.9, 1.04)), float(rng.uniform(-4, 4))


def fresh_background(rng: np.random.Generator) -> Background:
    """Two tints of a background style, drawn anew."""
    tints = rng.choice(len(_TINTS), size=2, replace=False)
    jitter = rng.integers(-8, 9, size=(2, 3))
    colours = [
        (r + int(j[0]), g + int(j[1]), b + int(j[2]))
        for (r, g, b), j in zip((_TINTS[t] for t in tints), jitter, strict=True)
    ]
    return Background(
        str(rng.choice(BACKGROUNDS)), colours[0], colours[1], float(rng.uniform(10, 36)), float(rng.uniform(0, 180))
    )

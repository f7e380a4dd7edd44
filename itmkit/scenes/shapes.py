"""Outlines of the object kinds, in unit coordinates (x right, y down, the longer side spans -1 to 1).

An outline is a list of solid polygons, a list of holes cut from them, and details painted on top
(a tone below 0 is darker than the object, above 0 lighter).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]  # (n, 2)

GRID = 48  # cells a side of the unit masks used to measure occlusion


@dataclass(frozen=True)
class Shape:
    """A kind's outline, scaled so that its bounding box is centred and its longer side is 2."""

    solids: tuple[Points, ...]
    holes: tuple[Points, ...] = ()
    details: tuple[tuple[Points, float], ...] = ()


def _arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0, n: int = 36) -> Points:
    """Points on an ellipse; degrees, 0 to the right, growing clockwise on the screen."""
    t = np.radians(np.linspace(start, stop, n))
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def _poly(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def _rect(x1: float, y1: float, x2: float, y2: float) -> Points:
    return _poly((x1, y1), (x2, y1), (x2, y2), (x1, y2))


def _star() -> Points:
    t = np.radians(-90 + 36 * np.arange(10))
    r = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
    return np.stack([r * np.cos(t), r * np.sin(t)], axis=1)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 16, y / 16], axis=1)


def _moon() -> Points:
    outer = _arc(0, 0, 1, 1, 50, 310, 40)
    inner = _arc(0.42, 0, 0.80, 0.80, 290, 70, 40)
    return np.concatenate([outer, inner])


_CAR_BODY = _poly(
    (-1, 0.05),
    (-0.95, -0.12),
    (-0.55, -0.2),
    (-0.3, -0.62),
    (0.35, -0.62),
    (0.62, -0.18),
    (0.95, -0.08),
    (1, 0.3),
    (-1, 0.3),
)
_WHEELS = (_arc(-0.52, 0.32, 0.26, 0.26), _arc(0.52, 0.32, 0.26, 0.26))

# The outlines as drawn, before they are centred and scaled.
_DRAWN: dict[str, Shape] = {
    "ball": Shape((_arc(0, 0, 1, 1, n=48),), (), ((_arc(-0.35, -0.4, 0.2, 0.15, n=16), 0.6),)),
    "box": Shape(
        (_poly((-1, -0.55), (-0.5, -1), (1, -1), (1, 0.5), (0.5, 1), (-1, 1)),),
        (),
        (
            (_poly((-1, -0.55), (-0.5, -1), (1, -1), (0.5, -0.55)), -0.12),
            (_poly((0.5, -0.55), (1, -1), (1, 0.5), (0.5, 1)), -0.35),
        ),
    ),
    "cone": Shape((np.concatenate([_poly((0, -1.1)), _arc(0, 0.75, 0.85, 0.27, 0, 180, 20)]),)),
    "star": Shape((_star(),)),
    "ring": Shape((_arc(0, 0, 1, 1, n=48),), (_arc(0, 0, 0.56, 0.56, n=40),)),
    "cross": Shape((_rect(-0.34, -1, 0.34, 1), _rect(-1, -0.34, 1, 0.34))),
    "heart": Shape((_heart(),)),
    "cup": Shape(
        (_poly((-0.85, -0.8), (0.55, -0.8), (0.38, 0.85), (-0.68, 0.85)), _arc(0.5, -0.1, 0.5, 0.48)),
        (_arc(0.56, -0.1, 0.24, 0.24),),
        ((_arc(-0.15, -0.76, 0.6, 0.1, n=20), -0.45),),
    ),
    "house": Shape(
        (_poly((-1.05, -0.1), (0, -1.05), (1.05, -0.1)), _rect(-0.8, -0.12, 0.8, 0.95)),
        (),
        (
            (_poly((-1.05, -0.1), (0, -1.05), (1.05, -0.1)), -0.35),
            (_rect(-0.18, 0.35, 0.2, 0.95), -0.6),
            (_rect(-0.62, 0.1, -0.3, 0.42), 0.6),
            (_rect(0.36, 0.1, 0.66, 0.42), 0.6),
        ),
    ),
    "tree": Shape(
        (
            _poly((0, -1.1), (0.55, -0.4), (-0.55, -0.4)),
            _poly((0, -0.75), (0.72, 0.1), (-0.72, 0.1)),
            _poly((0, -0.3), (0.88, 0.62), (-0.88, 0.62)),
            _rect(-0.16, 0.6, 0.16, 1.1),
        ),
        (),
        ((_rect(-0.16, 0.62, 0.16, 1.1), -0.55),),
    ),
    "fish": Shape(
        (
            _arc(-0.22, 0, 0.78, 0.52, n=40),
            _poly((0.35, 0), (1, -0.55), (0.82, 0), (1, 0.55)),
            _poly((-0.4, -0.4), (0.1, -0.8), (0.25, -0.35)),
        ),
        (),
        ((_arc(-0.62, -0.12, 0.1, 0.1, n=16), -0.8),),
    ),
    "car": Shape(
        (_CAR_BODY, *_WHEELS),
        (),
        (
            (_WHEELS[0], -0.7),
            (_WHEELS[1], -0.7),
            (_poly((-0.42, -0.2), (-0.22, -0.5), (0, -0.5), (0, -0.2)), 0.65),
            (_poly((0.08, -0.2), (0.08, -0.5), (0.28, -0.5), (0.46, -0.2)), 0.65),
        ),
    ),
    "moon": Shape((_moon(),)),
    "boat": Shape(
        (
            _poly((-1, 0.35), (1, 0.35), (0.62, 0.9), (-0.62, 0.9)),
            _poly((0.02, -1), (0.02, 0.22), (0.85, 0.22)),
            _poly((-0.1, -0.75), (-0.1, 0.22), (-0.7, 0.22)),
            _rect(-0.1, -1, 0.02, 0.4),
        ),
        (),
        ((_poly((-1, 0.35), (1, 0.35), (0.62, 0.9), (-0.62, 0.9)), -0.35),),
    ),
}


def _normalised(shape: Shape) -> Shape:
    points = np.concatenate(shape.solids)
    low, high = points.min(axis=0), points.max(axis=0)
    centre, half = (low + high) / 2, float((high - low).max()) / 2

    def move(p: Points) -> Points:
        return (p - centre) / half

    return Shape(
        tuple(map(move, shape.solids)),
        tuple(map(move, shape.holes)),
        tuple((move(p), tone) for p, tone in shape.details),
    )


SHAPES: dict[str, Shape] = {kind: _normalised(shape) for kind, shape in _DRAWN.items()}


def rotation(angle: float, flip: bool) -> NDArray[np.float64]:
    """The (2, 2) matrix m with `points @ m.T`: mirrored where `flip`, then turned by `angle` degrees."""
    t = math.radians(angle)
    c, d, x = math.cos(t), math.sin(t), -1.0 if flip else 1.0
    return np.array([[x * c, -d], [x * d, c]])


def placed(points: Points, x: float, y: float, radius: float, angle: float, flip: bool) -> Points:
    """Unit points (n, 2) moved to where an object stands, in pixels."""
    return points @ rotation(angle, flip).T * radius + np.array([x, y])


def bounds(kind: str, x: float, y: float, radius: float, angle: float, flip: bool) -> tuple[float, float, float, float]:
    """The tight box x1 y1 x2 y2 in pixels around an object."""
    points = placed(_all_points(kind), x, y, radius, angle, flip)
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)


@cache
def _all_points(kind: str) -> Points:
    return np.concatenate(SHAPES[kind].solids)


@cache
def unit_mask(kind: str) -> NDArray[np.bool_]:
    """(GRID, GRID) bool: which cells of the square from -1 to 1 the kind fills."""
    image = Image.new("L", (GRID, GRID))
    draw = ImageDraw.Draw(image)
    for value, polygons in ((255, SHAPES[kind].solids), (0, SHAPES[kind].holes)):
        for polygon in polygons:
            draw.polygon([tuple(p) for p in ((polygon + 1) / 2 * GRID - 0.5).tolist()], fill=value)
    return np.asarray(image) > 127


@cache
def unit_points(kind: str) -> Points:
    """Points (m, 2) spread evenly inside the kind, in unit coordinates."""
    rows, columns = np.nonzero(unit_mask(kind)[::3, ::3])
    return (np.stack([columns, rows], axis=1) * 3 + 0.5) / GRID * 2 - 1

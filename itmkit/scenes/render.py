"""Draws scenes with Pillow: objects at twice the size, reduced for smooth edges, pasted in depth order."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from itmkit.scenes.shapes import SHAPES, placed
from itmkit.scenes.world import COLOURS, Background, Scene, SceneObject

ZOOM = 2  # objects are drawn this much larger, then reduced
Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Rendering:
    """A picture with its truth; rows are in the order of `scene.objects`."""

    image: Image.Image  # RGB
    boxes: NDArray[np.float32]  # (n, 4) x1 y1 x2 y2 in pixels, around the whole object, hidden parts included
    visible: NDArray[np.float32]  # (n,) fraction of the object's pixels that nothing hides


def render(scene: Scene, rng: np.random.Generator) -> Rendering:
    """Draw a scene. `rng` decides pattern phases, background texture and pixel noise."""
    canvas = _background(scene.background, scene.width, scene.height, rng)
    boxes = np.zeros((len(scene.objects), 4), dtype=np.float32)
    area = np.zeros(len(scene.objects), dtype=np.int64)
    owner = np.full((scene.height, scene.width), -1, dtype=np.int16)
    for i in sorted(range(len(scene.objects)), key=lambda k: scene.objects[k].depth):
        patch, mask, (left, top) = _drawn(scene.objects[i], rng)
        canvas.paste(patch, (left, top), mask)
        solid = np.asarray(mask) > 100
        rows, columns = np.nonzero(solid.any(axis=1))[0], np.nonzero(solid.any(axis=0))[0]
        boxes[i] = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        area[i] = solid.sum()
        owner[top : top + solid.shape[0], left : left + solid.shape[1]][solid] = i
    seen = np.bincount(owner[owner >= 0], minlength=len(area))
    pixels = np.asarray(canvas, dtype=np.float32) * np.float32(scene.light)
    if scene.noise > 0:
        pixels += np.float32(scene.noise) * rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels += np.float32(0.5)
    image = Image.fromarray(pixels.clip(0, 255, out=pixels).astype(np.uint8))
    return Rendering(image, boxes, (seen / np.maximum(area, 1)).astype(np.float32))


def shade_of(colour: str, shade: tuple[float, float]) -> Rgb:
    """The RGB of a named colour under a factor of value and a shift of hue in degrees."""
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in COLOURS[colour]))
    r, g, b = colorsys.hsv_to_rgb((h + shade[1] / 360) % 1.0, s, min(1.0, v * shade[0]))
    return round(r * 255), round(g * 255), round(b * 255)


def _mixed(colour: Rgb, tone: float) -> Rgb:
    """Towards white for a tone above 0, towards black below."""
    goal = 255 if tone > 0 else 0
    r, g, b = (round(c + (goal - c) * abs(tone)) for c in colour)
    return r, g, b


def _drawn(thing: SceneObject, rng: np.random.Generator) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    """The object's RGB patch, its mask (L) and the patch's upper left corner in the picture."""
    x1, y1, x2, y2 = thing.box
    left, top = int(np.floor(x1)) - 1, int(np.floor(y1)) - 1
    size = (int(np.ceil(x2)) + 1 - left, int(np.ceil(y2)) + 1 - top)
    big = (size[0] * ZOOM, size[1] * ZOOM)
    shape = SHAPES[thing.kind]

    def points(polygon: np.ndarray) -> list[tuple[float, float]]:
        at = placed(polygon, thing.x - left, thing.y - top, thing.radius, thing.angle, thing.flip) * ZOOM - 0.5
        return [(x, y) for x, y in at.tolist()]

    mask = Image.new("L", big)
    draw = ImageDraw.Draw(mask)
    for polygon in shape.solids:
        draw.polygon(points(polygon), fill=255)
    for polygon in shape.holes:
        draw.polygon(points(polygon), fill=0)

    fill = shade_of(thing.colour, thing.shade)
    patch = Image.new("RGB", big, fill)
    marks = _marks(thing, big, rng)
    if marks is not None:
        tone = {"white": -0.32, "black": 0.36}.get(thing.colour, 0.6)
        patch.paste(_mixed(fill, tone), (0, 0), marks)
    paint = ImageDraw.Draw(patch)
    for polygon, tone in shape.details:
        if thing.colour == "black":
            tone = abs(tone) * 0.5  # darker than black shows nothing
        elif thing.colour == "white":
            tone *= 0.8  # a grey roof would pass for another colour
        paint.polygon(points(polygon), fill=_mixed(fill, tone))
    rim = _mixed(fill, {"black": 0.3, "white": -0.55}.get(thing.colour, -0.4))
    patch.paste(rim, (0, 0), _edge(mask))
    return patch.reduce(ZOOM), mask.reduce(ZOOM), (left, top)


def _edge(mask: Image.Image) -> Image.Image:
    """The outermost pixels of a mask (whose border is empty, so that shifting it around does no harm)."""
    inside = mask
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        inside = ImageChops.darker(inside, ImageChops.offset(mask, dx, dy))
    return ImageChops.subtract(mask, inside)


def _marks(thing: SceneObject, size: tuple[int, int], rng: np.random.Generator) -> Image.Image | None:
    """Where the object's pattern is painted, as a mask of `size`; None for a plain object."""
    if thing.pattern == "plain":
        return None
    period = max(7.0, 0.36 * thing.radius) * ZOOM
    phase = rng.uniform(0, period, size=2)
    turn = np.radians(thing.angle + 35 if thing.pattern == "striped" else thing.angle)
    x, y = np.arange(size[0], dtype=np.float32)[None, :], np.arange(size[1], dtype=np.float32)[:, None]
    u = (x * np.cos(turn) + y * np.sin(turn) + phase[0]) / period
    v = (y * np.cos(turn) - x * np.sin(turn) + phase[1]) / period
    if thing.pattern == "striped":
        on = u % 1 < 0.45
    elif thing.pattern == "checked":
        on = (np.floor(u) + np.floor(v)) % 2 == 0
    else:
        on = (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.27**2
    return Image.fromarray(on.astype(np.uint8) * 255)


def _background(style: Background, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Two tints mixed by the style's pattern."""
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    turn = np.radians(style.angle)
    u = (x * np.cos(turn) + y * np.sin(turn)) / style.period
    v = (y * np.cos(turn) - x * np.sin(turn)) / style.period
    if style.style == "gradient":
        share = u - u.min()
        share = share / share.max()
    elif style.style == "bands":
        share = (u % 1 < 0.5).astype(np.float32)
    elif style.style == "tiles":
        share = ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
    elif style.style == "speckles":
        share = (rng.random((height, width), dtype=np.float32) < 0.12).astype(np.float32)
    elif style.style == "horizon":
        share = (y > height * (0.35 + 0.3 * style.angle / 180)).astype(np.float32)
    elif style.style == "clouds":
        coarse = Image.fromarray((rng.random((6, 6)) * 255).astype(np.uint8))
        share = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    else:
        share = np.zeros((1, 1), dtype=np.float32)
    mask = Image.fromarray((np.broadcast_to(share, (height, width)) * 255).astype(np.uint8))
    return Image.composite(
        Image.new("RGB", (width, height), style.second), Image.new("RGB", (width, height), style.first), mask
    )

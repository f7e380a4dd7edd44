"""What a caption says, in a form that can be checked against a scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from itmkit.scenes.world import CLEAR, Scene, SceneObject, covered, direction

RELATIONS = (
    "left",
    "right",
    "above",
    "below",
    "near",
    "front",
    "behind",
    "between",
    "on-left",
    "on-right",
    "on-top",
    "at-bottom",
)
NEAR = 12.0  # pixels between two boxes that are next to each other beyond doubt
NOT_NEAR = 30.0  # and beyond which they are surely not
HIDES = 0.06  # fraction of an object that the one in front hides, for "in front of" to be beyond doubt


@dataclass(frozen=True)
class Mention:
    """One or more objects that a caption speaks of; None = the caption does not say. `count` above 1 is exact."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    pattern: str | None = None
    count: int = 1

    def fits(self, thing: SceneObject) -> bool:
        return (
            self.kind in (None, thing.kind)
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
            and self.pattern in (None, thing.pattern)
        )


@dataclass(frozen=True)
class Relation:
    """`name` (one of RELATIONS) of a mention to none, one or two others, as indexes into `Claims.mentions`."""

    name: str
    subject: int
    objects: tuple[int, ...] = ()


@dataclass(frozen=True)
class Claims:
    """The objects a caption mentions, each another one, and how they stand to each other."""

    mentions: tuple[Mention, ...]
    relations: tuple[Relation, ...] = ()

    def to_json(self) -> dict[str, Any]:
        mentions = [{k: v for k, v in vars(m).items() if v is not None} for m in self.mentions]
        return {"mentions": mentions, "relations": [[r.name, r.subject, *r.objects] for r in self.relations]}


def holds(claims: Claims, scene: Scene, *, loose: bool = False) -> bool:
    """Whether some choice of distinct objects fulfils every claim.

    Strict (the default): relations count only where they are beyond doubt; a number of objects is exact.
    `loose`: relations count where they could be argued for, a number where there are at least so many. A caption
    is given to a scene that it holds for strictly, and called false of a scene that it does not even hold for loosely.
    """
    return _assign(claims, scene, (), loose)


def _assign(claims: Claims, scene: Scene, chosen: tuple[tuple[int, ...], ...], loose: bool) -> bool:
    k = len(chosen)
    if k and not all(
        _related(r, scene, chosen, loose) for r in claims.relations if max((r.subject, *r.objects)) == k - 1
    ):
        return False
    if k == len(claims.mentions):
        return True
    taken = {i for group in chosen for i in group}
    return any(
        _assign(claims, scene, (*chosen, group), loose)
        for group in _candidates(claims.mentions[k], scene, loose)
        if taken.isdisjoint(group)
    )


def _candidates(mention: Mention, scene: Scene, loose: bool) -> Iterator[tuple[int, ...]]:
    fitting = [i for i, thing in enumerate(scene.objects) if mention.fits(thing)]
    if mention.count == 1 or loose:
        yield from combinations(fitting, mention.count)
    elif len(fitting) == mention.count:
        yield tuple(fitting)


def _related(relation: Relation, scene: Scene, chosen: tuple[tuple[int, ...], ...], loose: bool) -> bool:
    things = scene.objects
    if relation.name == "between":
        first, second = (chosen[o] for o in relation.objects)
        return all(
            between(things[i], things[j], things[k], loose)
            for i in chosen[relation.subject]
            for j in first
            for k in second
        )
    if not relation.objects:
        return all(_at(relation.name, things[i], scene, loose) for i in chosen[relation.subject])
    pairs = ((things[i], things[j]) for i in chosen[relation.subject] for j in chosen[relation.objects[0]])
    return all(related(relation.name, a, b, loose) for a, b in pairs)


def related(name: str, a: SceneObject, b: SceneObject, loose: bool = False) -> bool:
    """Whether a stands in the relation `name` to b: "a is left of b"."""
    if name in ("left", "right", "above", "below"):
        if not loose:
            return direction(a, b) == name
        return {"left": a.x < b.x, "right": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}[name]
    if name == "near":
        return gap(a, b) <= (NOT_NEAR if loose else NEAR)
    if name == "front":
        return a.depth > b.depth and covered(a, b) > (0.0 if loose else HIDES)
    if name == "behind":
        return related("front", b, a, loose)
    raise ValueError(f"unknown relation {name!r}")


def gap(a: SceneObject, b: SceneObject) -> float:
    """Pixels between the boxes of two objects, 0 where they touch."""
    dx = max(a.box[0] - b.box[2], b.box[0] - a.box[2], 0.0)
    dy = max(a.box[1] - b.box[3], b.box[1] - a.box[3], 0.0)
    return float((dx * dx + dy * dy) ** 0.5)


def between(a: SceneObject, b: SceneObject, c: SceneObject, loose: bool = False) -> bool:
    """Whether a lies between b and c: strictly, near the line through their centres and well inside its ends."""
    ux, uy = c.x - b.x, c.y - b.y
    length = (ux * ux + uy * uy) ** 0.5
    if length == 0:
        return False
    along = ((a.x - b.x) * ux + (a.y - b.y) * uy) / length
    aside = abs((a.x - b.x) * uy - (a.y - b.y) * ux) / length
    if loose:
        return 0 < along < length and aside < 3 * CLEAR
    return CLEAR < along < length - CLEAR and aside < CLEAR


def _at(name: str, thing: SceneObject, scene: Scene, loose: bool) -> bool:
    share = {
        "on-left": thing.x / scene.width,
        "on-right": 1 - thing.x / scene.width,
        "on-top": thing.y / scene.height,
        "at-bottom": 1 - thing.y / scene.height,
    }[name]
    return share < (0.6 if loose else 0.42)

"""Captions of a scene: claims that are true of it and false of its siblings, put into words with their trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from itmkit.scenes.claims import Claims, Mention, Relation, holds, related
from itmkit.scenes.phrases import Speaker, leftmost
from itmkit.scenes.templates import PATTERNS
from itmkit.scenes.trees import Node, Row, Word, linear, rows_of, text_of
from itmkit.scenes.world import NoRoom, Scene, direction, sample_scene

CAPTIONS = 5
FALSE_CAPTIONS = 4  # of the five, at least so many are false of every sibling
TRIES = 80
TREES_STREAM = 9  # second number of a generator's seed; make.py uses 1 to 3 there

# How often each shape of claims is tried.
_SHAPES = {
    "pair": 5.0, "beside": 0.7, "colour": 0.7, "between": 0.9, "two": 1.5, "chain": 1.2, "again": 0.9, "sides": 1.0,
    "hides": 0.6,
}  # fmt: skip
_SIDEWAYS = {"left": ("on-left", "on-right"), "right": ("on-right", "on-left"), "above": ("on-top", "at-bottom"),
             "below": ("at-bottom", "on-top")}  # fmt: skip


@dataclass(frozen=True)
class SceneCaption:
    """A caption as written, its words with their tree, and what it claims."""

    text: str
    words: tuple[Word, ...]
    claims: Claims


def captions(
    scene: Scene, siblings: Sequence[Scene], rng: np.random.Generator, focus: tuple[int, int] | None = None
) -> list[SceneCaption]:
    """Five captions, all true of the scene, at least four of them false of every sibling; shuffled.

    `focus`: two objects (indexes) that the captions mostly speak of: those in which the siblings differ.
    Raises NoRoom where the scene cannot be told from a sibling in so many ways.
    """
    written: list[SceneCaption] = []
    texts: set[str] = set()
    for k in range(CAPTIONS):
        must_differ = k < FALSE_CAPTIONS
        for _ in range(TRIES):
            shape, claims = _propose(scene, rng, focus, general=not must_differ and rng.random() < 0.4)
            if claims is None or not holds(claims, scene):
                continue
            if must_differ and any(holds(claims, other, loose=True) for other in siblings):
                continue
            caption = say(shape, claims, scene, rng)
            if caption.text.lower() not in texts:
                break
        else:
            raise NoRoom
        texts.add(caption.text.lower())
        written.append(caption)
    return [written[i] for i in rng.permutation(CAPTIONS)]


def say(shape: str, claims: Claims, scene: Scene, rng: np.random.Generator) -> SceneCaption:
    """Puts claims into words: a sentence pattern, words, case and full stop are drawn at random."""
    patterns, weights = zip(*PATTERNS[shape], strict=True)
    pattern = patterns[_weighted(weights, rng)]
    speaker = Speaker(scene, rng, terse=bool(rng.random() < 0.06))
    root, sentence = pattern(speaker, claims)
    if rng.random() < (0.75 if sentence else 0.55):
        first: Node = leftmost(root)
        first.lemma = first.lemma or first.form
        first.form = first.form[0].upper() + first.form[1:]
    spaced = False
    if rng.random() < (0.75 if sentence else 0.4):
        root.after("punct", Node(".", "PUNCT"))
        spaced = bool(rng.random() < 0.12)
    words = linear(root, spaced_stop=spaced)
    return SceneCaption(text_of(words), tuple(words), claims)


def scene_trees(n: int, seed: int) -> Iterator[list[Row]]:
    """`n` caption sentences of random scenes as CoNLL-U rows of ten strings (id, form, lemma, upos, ..., misc).

    Nothing is drawn. The scenes are none of those that `make_scenes` makes, whatever its seed.
    """
    scene_number = 0
    while n > 0:
        rng = np.random.default_rng([seed, TREES_STREAM, scene_number])
        scene_number += 1
        try:
            made = captions(sample_scene(rng), (), rng)
        except NoRoom:
            continue
        for caption in made[:n]:
            yield rows_of(caption.words)
        n -= min(n, len(made))


def _weighted(weights: Sequence[float], rng: np.random.Generator) -> int:
    mark = rng.random() * sum(weights)
    for i, weight in enumerate(weights):
        mark -= weight
        if mark < 0:
            return i
    return len(weights) - 1


def _propose(
    scene: Scene, rng: np.random.Generator, focus: tuple[int, int] | None, general: bool
) -> tuple[str, Claims | None]:
    """A shape and claims of that shape, or None where the objects drawn do not stand in such a relation."""
    shape = "list" if general else list(_SHAPES)[_weighted(list(_SHAPES.values()), rng)]
    n = len(scene.objects)
    order = [int(i) for i in rng.permutation(n)]
    if focus is not None and not general and rng.random() < 0.85:
        first = list(focus) if rng.random() < 0.5 else [focus[1], focus[0]]
        if rng.random() < 0.25:  # one of the two, with others
            first = first[:1]
        order = first + [i for i in order if i not in first]
    return shape, _SHAPED[shape](scene, order, rng)


def _mention(scene: Scene, i: int, rng: np.random.Generator, colour: float = 0.85) -> Mention:
    """How object i is spoken of: which of its properties are named, alone or together with others of its kind."""
    thing = scene.objects[i]
    same = [o for o in scene.objects if o.kind == thing.kind]
    if len(same) > 1 and rng.random() < 0.4:
        alike = [o for o in same if o.colour == thing.colour]
        if len(alike) == len(same) or (len(alike) > 1 and rng.random() < 0.7):
            return Mention(thing.kind, thing.colour if rng.random() < 0.9 else None, count=len(alike))
        return Mention(thing.kind, count=len(same))
    kind = None if rng.random() < 0.05 else thing.kind
    named = thing.colour if kind is None or rng.random() < colour else None
    size = thing.size if rng.random() < 0.3 else None
    pattern = thing.pattern if rng.random() < (0.35 if thing.pattern != "plain" else 0.04) else None
    return Mention(kind, named, size, pattern)


def _relation_of(scene: Scene, i: int, j: int, rng: np.random.Generator, near: float = 0.12) -> str | None:
    """A relation in which object i beyond doubt stands to object j."""
    a, b = scene.objects[i], scene.objects[j]
    where = direction(a, b)
    hiding = [name for name in ("front", "behind") if related(name, a, b)]
    if hiding and rng.random() < 0.4:
        return hiding[0]
    if (where is None or rng.random() < near) and related("near", a, b):
        return "near"
    return where


def _pair(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims | None:
    name = _relation_of(scene, order[0], order[1], rng)
    if name is None:
        return None
    mentions = (_mention(scene, order[0], rng), _mention(scene, order[1], rng))
    return Claims(mentions, (Relation(name, 0, (1,)),))


def _beside(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims | None:
    claims = _pair(scene, order, rng)
    if claims is None or claims.relations[0].name not in _SIDEWAYS or any(m.count > 1 for m in claims.mentions):
        return None
    return claims


def _colour(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims | None:
    name = _relation_of(scene, order[0], order[1], rng)
    thing = scene.objects[order[0]]
    if name is None or sum(o.kind == thing.kind for o in scene.objects) > 1:
        return None
    first = Mention(thing.kind, thing.colour, thing.size if rng.random() < 0.2 else None)
    return Claims((first, _mention(scene, order[1], rng)), (Relation(name, 0, (1,)),))


def _between(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims:
    mentions = tuple(_mention(scene, i, rng, colour=0.75) for i in order[:3])
    return Claims(mentions, (Relation("between", 0, (1, 2)),))


def _two(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims | None:
    names = [_relation_of(scene, order[0], j, rng) for j in order[1:3]]
    if names[0] is None or names[1] is None or names[0] == names[1]:
        return None
    mentions = tuple(_mention(scene, i, rng, colour=0.6) for i in order[:3])
    return Claims(mentions, (Relation(names[0], 0, (1,)), Relation(names[1], 0, (2,))))


def _chain(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims | None:
    first, second = _relation_of(scene, order[0], order[1], rng), _relation_of(scene, order[1], order[2], rng)
    if first is None or second is None:
        return None
    mentions = tuple(_mention(scene, i, rng, colour=0.6) for i in order[:3])
    return Claims(mentions, (Relation(first, 0, (1,)), Relation(second, 1, (2,))))


def _again(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims | None:
    first, second = _relation_of(scene, order[0], order[1], rng), _relation_of(scene, order[2], order[1], rng)
    if first is None or second is None:
        return None
    mentions = tuple(_mention(scene, i, rng, colour=0.65) for i in order[:3])
    kinds = [m.kind for m in mentions]
    # "the ball" must mean the one that was named.
    if kinds[1] is None or kinds.count(kinds[1]) > 1 or mentions[1].count > 1:
        return None
    return Claims(mentions, (Relation(first, 0, (1,)), Relation(second, 2, (1,))))


def _sides(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims | None:
    where = direction(scene.objects[order[0]], scene.objects[order[1]])
    if where is None:
        return None
    mentions = (_mention(scene, order[0], rng), _mention(scene, order[1], rng))
    return Claims(mentions, (Relation(_SIDEWAYS[where][0], 0), Relation(_SIDEWAYS[where][1], 1)))


def _hides(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims | None:
    a, b = scene.objects[order[0]], scene.objects[order[1]]
    name = next((name for name in ("front", "behind") if related(name, a, b)), None)
    if name is None:
        return None
    return Claims((_mention(scene, order[0], rng), _mention(scene, order[1], rng)), (Relation(name, 0, (1,)),))


def _list(scene: Scene, order: list[int], rng: np.random.Generator) -> Claims:
    count = int(rng.integers(2, min(4, len(order)) + 1))
    mentions: list[Mention] = []
    for i in order[:count]:
        mention = _mention(scene, i, rng, colour=0.9)
        if all(mention.kind != m.kind or (mention.count == m.count == 1) for m in mentions):
            mentions.append(mention)
    return Claims(tuple(mentions))


_SHAPED = {
    "pair": _pair, "beside": _beside, "colour": _colour, "between": _between, "two": _two, "chain": _chain,
    "again": _again, "sides": _sides, "hides": _hides, "list": _list,
}  # fmt: skip

"""Captions: true of their picture, false of its siblings, many wordings, well-formed trees."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from itmkit.scenes import scene_trees
from itmkit.scenes.claims import Claims, Mention, Relation, holds
from itmkit.scenes.make import ScenePicture, split_pictures
from itmkit.scenes.phrases import NOUNS
from itmkit.scenes.trees import Node, linear, text_of
from itmkit.scenes.world import COLOURS, KINDS, Background, Scene, SceneObject

UPOS = {"NOUN", "VERB", "AUX", "DET", "ADJ", "ADP", "ADV", "NUM", "PRON", "CCONJ", "SCONJ", "PUNCT"}


@pytest.fixture(scope="module")
def pictures() -> list[ScenePicture]:
    return list(split_pictures("test", 75, 11))


def thing(kind: str, colour: str, x: float, y: float, depth: int = 0, **rest: Any) -> SceneObject:
    given: dict[str, Any] = {"size": "small", "pattern": "plain", "radius": 12.0, "angle": 0.0, "flip": False, **rest}
    return SceneObject(kind, colour, x=x, y=y, depth=depth, **given)


@pytest.fixture
def scene() -> Scene:
    """A red ball left of a blue box; below them two green stars; a yellow cup partly before the box."""
    grey = (170, 170, 170)
    things = (
        thing("ball", "red", 30, 40),
        thing("box", "blue", 100, 40, depth=1),
        thing("star", "green", 40, 120, depth=2),
        thing("star", "green", 110, 120, depth=3),
        thing("cup", "yellow", 113, 44, depth=4),
    )
    return Scene(160, 160, things, Background("plain", grey, grey, 20.0, 0.0), 0.0, 1.0)


BALL, BOX, CUP = Mention("ball"), Mention("box"), Mention("cup")


@pytest.mark.parametrize(
    ("mentions", "relations", "true"),
    [
        ((Mention("ball", "red"), Mention("box", "blue")), [Relation("left", 0, (1,))], True),
        ((Mention("ball", "blue"), Mention("box", "red")), [Relation("left", 0, (1,))], False),
        ((BOX, BALL), [Relation("left", 0, (1,))], False),
        ((BOX, BALL), [Relation("right", 0, (1,))], True),
        ((Mention("star", count=2), BALL), [Relation("below", 0, (1,))], False),  # one of them is too far to the side
        ((Mention("star", "green", count=2),), [], True),
        ((Mention("star", count=3),), [], False),
        ((Mention("star"), Mention("star")), [Relation("left", 0, (1,))], True),
        ((BALL, BALL), [], False),  # two mentions are two objects
        ((CUP, BOX), [Relation("front", 0, (1,))], True),
        ((BOX, CUP), [Relation("front", 0, (1,))], False),
        ((BOX, CUP), [Relation("behind", 0, (1,))], True),
        ((CUP, BOX), [Relation("near", 0, (1,))], True),
        ((BALL, BOX), [Relation("near", 0, (1,))], False),
        ((BOX, BALL, CUP), [Relation("between", 0, (1, 2))], False),  # too close to its end
        ((Mention(None, "red", "small"), BOX), [Relation("on-left", 0), Relation("on-right", 1)], True),
        ((BOX,), [Relation("on-left", 0)], False),
        ((Mention("ball", None, "large"),), [], False),
        ((Mention("ball", None, None, "plain"),), [], True),
    ],
)
def test_claims_are_checked_against_the_scene(
    scene: Scene, mentions: tuple[Mention, ...], relations: list[Relation], true: bool
) -> None:
    assert holds(Claims(mentions, tuple(relations)), scene) is true


def test_loose_reading_accepts_more(scene: Scene) -> None:
    left = Claims((CUP, BOX), (Relation("below", 0, (1,)),))  # 4 pixels lower
    assert not holds(left, scene) and holds(left, scene, loose=True)
    assert not holds(Claims((Mention("star", count=1),)), replace_objects(scene, ()), loose=True)


def replace_objects(scene: Scene, objects: tuple[SceneObject, ...]) -> Scene:
    return Scene(scene.width, scene.height, objects, scene.background, scene.noise, scene.light)


def naive(claims: Claims, scene: Scene) -> bool:
    """Another reading of single-object claims of direction, by trying all choices of objects."""
    signs = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
    for chosen in permutations(scene.objects, len(claims.mentions)):
        fits = all(
            getattr(m, key) in (None, getattr(o, key))
            for m, o in zip(claims.mentions, chosen, strict=True)
            for key in ("kind", "colour", "size", "pattern")
        )
        stands = all(
            (chosen[r.subject].x - chosen[r.objects[0]].x) * signs[r.name][0]
            + (chosen[r.subject].y - chosen[r.objects[0]].y) * signs[r.name][1]
            > 0
            for r in claims.relations
        )
        if fits and stands:
            return True
    return False


def test_captions_are_true_of_their_picture_and_false_of_siblings(pictures: list[ScenePicture]) -> None:
    compared = 0
    for picture in pictures:
        siblings = [p for p in pictures if p.group == picture.group and p is not picture]
        assert len(siblings) >= 2
        assert len({c.text.lower() for c in picture.captions}) == len(picture.captions) == 5
        for caption in picture.captions:
            assert holds(caption.claims, picture.scene)
        for sibling in siblings:
            wrong = sum(not holds(c.claims, sibling.scene, loose=True) for c in picture.captions)
            assert wrong >= 4, [c.text for c in picture.captions]
        for caption in picture.captions:
            plain = all(r.name in ("left", "right", "above", "below") for r in caption.claims.relations)
            if plain and all(m.count == 1 for m in caption.claims.mentions):
                assert naive(caption.claims, picture.scene)
                for sibling in siblings:
                    assert naive(caption.claims, sibling.scene) == holds(caption.claims, sibling.scene, loose=True)
                    compared += 1
    assert compared > 200


def test_captions_name_what_they_claim(pictures: list[ScenePicture]) -> None:
    words_of = {kind: {form for pair in NOUNS[kind] for form in " ".join(pair).split()} for kind in KINDS}
    owner = {word: kind for kind, words in words_of.items() for word in words}
    for picture in pictures:
        for caption in picture.captions:
            forms = [w.form.lower() for w in caption.words]
            assert {owner[f] for f in forms if f in owner} == {m.kind for m in caption.claims.mentions if m.kind}
            assert {f for f in forms if f in COLOURS} == {m.colour for m in caption.claims.mentions if m.colour}


def test_sentences_are_trees_that_reproduce_their_text(pictures: list[ScenePicture]) -> None:
    for caption in (c for p in pictures for c in p.captions):
        words = caption.words
        heads = [w.head for w in words]
        assert text_of(words) == caption.text
        assert all(0 <= head <= len(words) for head in heads) and heads.count(0) == 1
        assert words[heads.index(0)].relation == "root"
        for start in range(1, len(words) + 1):  # every word reaches the root
            seen: set[int] = set()
            at = start
            while at:
                assert at not in seen
                seen.add(at)
                at = heads[at - 1]
        arcs = [(min(i, h), max(i, h)) for i, h in enumerate(heads, 1) if h]
        assert not any(a < c < b < d for a, b in arcs for c, d in arcs)  # projective
        assert {w.upos for w in words} <= UPOS
        assert all(w.form and w.lemma and w.lemma == w.lemma.lower() for w in words)


def test_agreement_of_article_and_verb(pictures: list[ScenePicture]) -> None:
    for caption in (c for p in pictures for c in p.captions):
        for word, following in zip(caption.words, caption.words[1:], strict=False):
            if word.form.lower() in ("a", "an"):
                assert (word.form.lower() == "an") == (following.form[0] in "aeiou"), caption.text
        for i, word in enumerate(caption.words, 1):
            if word.form in ("is", "are") and word.relation == "cop":
                subject = next(w for w in caption.words if w.head == word.head and w.relation == "nsubj")
                if subject.upos == "NOUN" and subject.lemma not in ("fish", "pair", "couple"):
                    assert (word.form == "are") == (subject.form.lower() != subject.lemma), (i, caption.text)


def test_wordings_vary(pictures: list[ScenePicture]) -> None:
    said = [c for p in pictures for c in p.captions]
    lengths = [sum(w.upos != "PUNCT" for w in c.words) for c in said]
    assert 9 <= np.mean(lengths) <= 14
    assert len({c.text for c in said}) > 0.98 * len(said)
    shapes = {tuple((w.upos, w.relation) for w in c.words) for c in said}
    assert len(shapes) > 0.5 * len(said)
    assert 0.3 < np.mean([c.text[0].isupper() for c in said]) < 0.9
    assert 0.3 < np.mean([c.text.endswith(".") for c in said]) < 0.9


def test_scene_trees_are_many_and_the_same_for_a_seed() -> None:
    first, again, other = list(scene_trees(23, 1)), list(scene_trees(23, 1)), list(scene_trees(23, 2))
    assert len(first) == 23 and first == again and first != other
    assert all(len(row) == 10 and all(isinstance(cell, str) for cell in row) for rows in first for row in rows)
    assert list(scene_trees(7, 1)) == first[:7]


def test_a_tree_is_spoken_in_order() -> None:
    ball = Node("ball", "NOUN").before("amod", Node("red", "ADJ")).before("det", Node("a", "DET"))
    ball.after("punct", Node(".", "PUNCT"))
    words = linear(ball)
    assert [(w.form, w.head) for w in words] == [("a", 3), ("red", 3), ("ball", 0), (".", 3)]
    assert text_of(words) == "a red ball." and text_of(linear(ball, spaced_stop=True)) == "a red ball ."

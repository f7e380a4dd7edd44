"""Parts that sentence patterns share: verbs, "a picture", and the place of what is spoken of."""

from __future__ import annotations

from itmkit.scenes.claims import Claims, Relation
from itmkit.scenes.phrases import Phrase, Speaker, Use
from itmkit.scenes.trees import Node

_PICTURES = ("picture", "picture", "image", "photo", "drawing")


def be(plural: bool, upos: str = "AUX") -> Node:
    return Node("are" if plural else "is", upos, "be")


def verb_node(lemma: str, plural: bool) -> Node:
    form = lemma if plural else {"lie": "lies", "cross": "crosses"}.get(lemma, lemma + "s")
    return Node(form, "VERB", lemma)


def picture_node(say: Speaker, article: str = "a") -> Node:
    noun = say.pick(_PICTURES)
    if article == "a" and noun[0] == "i":
        article = "an"
    return Node(noun, "NOUN").before("det", Node(article, "DET", "a" if article == "an" else article))


def place_of(say: Speaker, claims: Claims, relation: Relation, use: Use, *, last: bool = True) -> tuple[str, Node]:
    """The phrase for what a relation's subject stands in relation to."""
    objects = relation.objects
    first = say.mention(claims.mentions[objects[0]], last=last and len(objects) == 1)
    second = say.mention(claims.mentions[objects[1]], last=last) if len(objects) > 1 else None
    return say.place(relation.name, use, first, second)


def with_place(say: Speaker, claims: Claims, definite: bool | None = None) -> Phrase:
    """Mention 0 followed by its place: "a red ball above a box"."""
    subject = say.mention(claims.mentions[0], definite=definite)
    subject.node.after(*place_of(say, claims, claims.relations[0], "noun"))
    return subject

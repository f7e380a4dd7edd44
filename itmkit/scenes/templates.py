"""Sentence patterns: each turns claims of one shape into a tree.

A pattern takes a Speaker and Claims and returns the root, and whether it is a whole sentence or a noun phrase.
In every pattern mention 0 is the subject of the first relation.
"""

from __future__ import annotations

from collections.abc import Callable

from itmkit.scenes.claims import Claims, Mention
from itmkit.scenes.phrases import Speaker, Use
from itmkit.scenes.sentence_parts import be, picture_node, place_of, verb_node, with_place
from itmkit.scenes.trees import Node

Pattern = Callable[[Speaker, Claims], tuple[Node, bool]]

_POSTURES = ("sit", "sit", "stand", "lie", "appear", "float", "rest")
_PLACED = (("placed", "place"), ("located", "locate"), ("shown", "show"), ("drawn", "draw"), ("positioned", "position"))
_PLACED_ALSO = (*_PLACED, ("sitting", "sit"), ("standing", "stand"), ("lying", "lie"), ("floating", "float"))


# One relation: "a red ball", left of, "a blue box" (or between two objects)


def noun_phrase(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    return with_place(say, claims).node, False


def participle(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = say.mention(claims.mentions[0])
    form, lemma = say.pick(_PLACED_ALSO)
    verb = Node(form, "VERB", lemma).after(*place_of(say, claims, claims.relations[0], "verb"))
    return subject.node.after("acl", verb), False


def relative_clause(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = say.mention(claims.mentions[0])
    that = Node(say.pick(("that", "that", "which")), "PRON")
    if say.chance(0.7):
        _, root = place_of(say, claims, claims.relations[0], "predicate")
        root.before("cop", be(subject.plural))
    else:
        root = verb_node(say.pick(_POSTURES), subject.plural).after(*place_of(say, claims, claims.relations[0], "verb"))
    return subject.node.after("acl:relcl", root.before("nsubj", that)), False


def copula(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = say.mention(claims.mentions[0], last=True)
    _, root = place_of(say, claims, claims.relations[0], "predicate")
    return root.before("cop", be(subject.plural)).before("nsubj", subject.node), True


def posture(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = say.mention(claims.mentions[0], last=True)
    verb = verb_node(say.pick(_POSTURES), subject.plural)
    if say.chance(0.25):
        participles = {"sit": "sitting", "lie": "lying", "stand": "standing", "float": "floating"}
        lemma, form = say.pick(tuple(participles.items()))
        verb = Node(form, "VERB", lemma).before("aux", be(subject.plural))
    verb.before("nsubj", subject.node).after(*place_of(say, claims, claims.relations[0], "verb"))
    return verb, True


def passive(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = say.mention(claims.mentions[0], last=True)
    if say.chance(0.25):
        verb = Node("seen", "VERB", "see").before("aux:pass", Node("be", "AUX")).before("aux", Node("can", "AUX"))
    else:
        form, lemma = say.pick(_PLACED)
        verb = Node(form, "VERB", lemma).before("aux:pass", be(subject.plural))
    verb.before("nsubj:pass", subject.node).after(*place_of(say, claims, claims.relations[0], "verb"))
    return verb, True


def existential(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = with_place(say, claims, definite=False)
    return be(subject.plural, "VERB").before("expl", Node("there", "PRON")).after("nsubj", subject.node), True


def existential_fronted(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    relation, place = place_of(say, claims, claims.relations[0], "verb", last=False)
    subject = say.mention(claims.mentions[0], definite=False, last=True)
    verb = be(subject.plural, "VERB").before("expl", Node("there", "PRON")).after("nsubj", subject.node)
    if say.chance(0.3):
        verb.before("punct", Node(",", "PUNCT"))
    return verb.before(relation, place), True


def inverted(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    use: Use = "predicate" if say.chance(0.6) else "verb"
    relation, place = place_of(say, claims, claims.relations[0], use, last=False)
    subject = say.mention(claims.mentions[0], last=True)
    if use == "predicate":
        return place.after("cop", be(subject.plural)).after("nsubj", subject.node), True
    verb = verb_node(say.pick(("sit", "sit", "stand", "lie")), subject.plural)
    return verb.before(relation, place).after("nsubj", subject.node), True


def picture_of(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = with_place(say, claims)
    picture = picture_node(say)
    if say.chance(0.6):
        return picture.after("nmod", subject.node.before("case", Node(say.pick(("of", "of", "with")), "ADP"))), False
    return picture.after("acl", Node("showing", "VERB", "show").after("obj", subject.node)), False


def picture_shows(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = with_place(say, claims)
    lemma = say.pick(("show", "show", "contain"))
    picture = picture_node(say, say.pick(("the", "this")))
    return verb_node(lemma, False).before("nsubj", picture).after("obj", subject.node), True


def someone_sees(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    subject = with_place(say, claims)
    verb = Node("see", "VERB")
    if say.chance(0.7):
        verb.before("aux", Node("can", "AUX"))
    return verb.before("nsubj", Node(say.pick(("you", "we")), "PRON")).after("obj", subject.node), True


def in_the_picture(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    root, _ = copula(say, claims)
    if say.chance(0.5):
        root.before("punct", Node(",", "PUNCT"))
    picture = picture_node(say, say.pick(("the", "this")))
    return root.before("obl", picture.before("case", Node("in", "ADP"))), True


def colour_predicate(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    """ "The ball left of the blue box is red": the colour comes last. Only for a kind that the scene has once."""
    mention = claims.mentions[0]
    bare = Claims((Mention(mention.kind, None, mention.size), *claims.mentions[1:]), claims.relations)
    subject = with_place(say, bare, definite=True)
    root = Node(str(mention.colour), "ADJ").before("cop", be(False)).before("nsubj", subject.node)
    return root, True


def has_beside_it(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    """ "A blue box has a red ball to its left": mention 0 is what the box has."""
    owner = say.mention(claims.mentions[claims.relations[0].objects[0]])
    thing = say.mention(claims.mentions[0])
    _, place = say.beside_it(claims.relations[0].name)
    if say.chance(0.5):
        verb = Node("has", "VERB", "have").before("nsubj", owner.node).after("obj", thing.node)
        return verb.after("obl", place), True
    thing.node.before("case", Node("with", "ADP")).after("nmod", place)
    return owner.node.after("nmod", thing.node), False


# Two relations of mention 0, or a chain of two


def two_places(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    """ "A red ball is left of a box and above a star": both relations are of mention 0."""
    sentence = say.chance(0.5)
    use: Use = "predicate" if sentence else "noun"
    subject = say.mention(claims.mentions[0], last=sentence)
    relation, first = place_of(say, claims, claims.relations[0], use, last=False)
    _, second = place_of(say, claims, claims.relations[1], use)
    first.after("conj", second.before("cc", Node(say.pick(("and", "and", "but")) if sentence else "and", "CCONJ")))
    if sentence:
        return first.before("cop", be(subject.plural)).before("nsubj", subject.node), True
    return subject.node.after(relation, first), False


def chain(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    """ "A red ball is above a box that is left of a star": relation 1 is of mention 1."""
    sentence = say.chance(0.6)
    subject = say.mention(claims.mentions[0], last=sentence)
    middle = say.mention(claims.mentions[1])
    relation, place = say.place(claims.relations[0].name, "predicate" if sentence else "noun", middle)
    if say.chance(0.5):
        _, clause = place_of(say, claims, claims.relations[1], "predicate")
        clause.before("cop", be(middle.plural)).before("nsubj", Node(say.pick(("that", "which")), "PRON"))
        if clause.left[0][1].form == "which" and say.chance(0.6):
            clause.before("punct", Node(",", "PUNCT"))
        middle.node.after("acl:relcl", clause)
    else:
        middle.node.after(*place_of(say, claims, claims.relations[1], "noun"))
    if sentence:
        return place.before("cop", be(subject.plural)).before("nsubj", subject.node), True
    return subject.node.after(relation, place), False


def again(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    """ "A red ball is above a box and a star is left of the box": relation 1 is of mention 2 to mention 1."""
    root, _ = copula(say, claims)
    third = say.mention(claims.mentions[2])
    _, place = say.place(claims.relations[1].name, "predicate", say.mention(claims.mentions[1], bare=True))
    place.before("cop", be(third.plural)).before("nsubj", third.node)
    place.before("cc", Node(say.pick(("and", "and", "while")), "CCONJ"))
    if place.left[0][1].form == "while":
        place.left[0] = ("mark", Node("while", "SCONJ"))
        return root.after("advcl", place), True
    if say.chance(0.4):
        place.before("punct", Node(",", "PUNCT"))
    return root.after("conj", place), True


# Places in the picture, hiding, lists


def two_sides(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    """ "A red ball on the left and a box on the right": relations without objects, of mentions 0 and 1."""
    style = say.pick(("noun", "noun", "there", "copula", "inverted"))
    things = [say.mention(m, definite=False if style == "there" else None) for m in claims.mentions[:2]]
    sides = [say.side(r.name) for r in claims.relations[:2]]
    plural = [t.plural for t in things]
    join = Node("and", "CCONJ")
    if style == "copula":
        for side, thing in zip(sides, things, strict=True):
            side.before("cop", be(thing.plural)).before("nsubj", thing.node)
        return sides[0].after("conj", sides[1].before("cc", join)), True
    if style == "inverted":
        for side, thing in zip(sides, things, strict=True):
            side.after("cop", be(thing.plural)).after("nsubj", thing.node)
        sides[1].before("cc", join)
        if say.chance(0.5):
            sides[1].before("punct", Node(",", "PUNCT"))
        return sides[0].after("conj", sides[1]), True
    for side, thing in zip(sides, things, strict=True):
        thing.node.after("nmod", side)
    things[1].node.before("cc", join)
    things[0].node.after("conj", things[1].node)
    if style == "there":
        return be(plural[0], "VERB").before("expl", Node("there", "PRON")).after("nsubj", things[0].node), True
    return things[0].node, False


def hides(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    """ "A red ball partly hides a box" and its passive; relation 0 is "front" or "behind"."""
    front, back = claims.mentions[0], claims.mentions[claims.relations[0].objects[0]]
    if claims.relations[0].name == "behind":
        front, back = back, front
    partly = Node(say.pick(("partly", "partially")), "ADV")
    lemma, third, participle_form = say.pick(
        (("hide", "hides", "hidden"), ("cover", "covers", "covered"), ("block", "blocks", "blocked"))
    )
    if say.chance(0.5):
        subject, target = say.mention(front, last=True), say.mention(back, last=True)
        verb = Node(lemma if subject.plural else third, "VERB", lemma).before("advmod", partly)
        return verb.before("nsubj", subject.node).after("obj", target.node), True
    subject, agent = say.mention(back, last=True), say.mention(front, last=True)
    verb = Node(participle_form, "VERB", lemma).before("advmod", partly).before("aux:pass", be(subject.plural))
    return verb.before("nsubj:pass", subject.node).after(
        "obl:agent", agent.node.before("case", Node("by", "ADP"))
    ), True


def listing(say: Speaker, claims: Claims) -> tuple[Node, bool]:
    """ "A red ball, two stars and a box": no relation."""
    style = say.pick(("noun", "there", "picture", "see"))
    things = [say.mention(m, definite=False if style == "there" else None) for m in claims.mentions]
    plural = things[0].plural
    for k, thing in enumerate(things[1:], 1):
        if k == len(things) - 1:
            thing.node.before("cc", Node("and", "CCONJ"))
            if len(things) > 2 and say.chance(0.3):
                thing.node.before("punct", Node(",", "PUNCT"))
        else:
            thing.node.before("punct", Node(",", "PUNCT"))
        things[0].node.after("conj", thing.node)
    first = things[0].node
    if style == "there":
        return be(plural, "VERB").before("expl", Node("there", "PRON")).after("nsubj", first), True
    if style == "picture":
        return picture_node(say).after("nmod", first.before("case", Node("of", "ADP"))), False
    if style == "see":
        verb = (
            Node("see", "VERB").before("aux", Node("can", "AUX")).before("nsubj", Node(say.pick(("you", "we")), "PRON"))
        )
        return verb.after("obj", first), True
    return first, False


# Patterns by the shape of the claims, with weights.
PATTERNS: dict[str, tuple[tuple[Pattern, float], ...]] = {
    "pair": (
        (noun_phrase, 3.0), (participle, 1.5), (relative_clause, 1.0), (copula, 3.0), (posture, 1.5), (passive, 1.5),
        (existential, 2.0), (existential_fronted, 0.8), (inverted, 1.2), (picture_of, 1.2), (picture_shows, 0.8),
        (someone_sees, 0.6), (in_the_picture, 0.4),
    ),
    "beside": ((has_beside_it, 1.0),),
    "colour": ((colour_predicate, 1.0),),
    "between": (
        (noun_phrase, 1.0), (copula, 1.0), (participle, 0.4), (posture, 0.5), (passive, 0.4), (existential, 0.7),
        (picture_of, 0.3), (existential_fronted, 0.3),
    ),
    "two": ((two_places, 1.0),),
    "chain": ((chain, 1.0),),
    "again": ((again, 1.0),),
    "sides": ((two_sides, 1.0),),
    "hides": ((hides, 1.0),),
    "list": ((listing, 1.0),),
}  # fmt: skip

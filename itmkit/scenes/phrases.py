"""The words for things and places: noun phrases for mentions, phrases for relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from itmkit.scenes.claims import Mention
from itmkit.scenes.trees import Node
from itmkit.scenes.world import Scene

T = TypeVar("T")

# Singular and plural; a first word before a space is a compound ("pine tree").
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "ball": (("ball", "balls"), ("ball", "balls"), ("sphere", "spheres")),
    "box": (("box", "boxes"), ("cube", "cubes"), ("block", "blocks")),
    "cone": (("cone", "cones"),),
    "star": (("star", "stars"),),
    "ring": (("ring", "rings"), ("ring", "rings"), ("hoop", "hoops")),
    "cross": (("cross", "crosses"),),
    "heart": (("heart", "hearts"),),
    "cup": (("cup", "cups"), ("mug", "mugs")),
    "house": (("house", "houses"), ("house", "houses"), ("cottage", "cottages")),
    "tree": (("tree", "trees"), ("tree", "trees"), ("pine tree", "pine trees")),
    "fish": (("fish", "fish"),),
    "car": (("car", "cars"), ("car", "cars"), ("automobile", "automobiles")),
    "moon": (("moon", "moons"), ("crescent", "crescents")),
    "boat": (("boat", "boats"), ("boat", "boats"), ("sailboat", "sailboats")),
}
ANY_NOUN = (("object", "objects"), ("thing", "things"), ("shape", "shapes"), ("item", "items"))
SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "big", "big")}
PATTERN_WORDS = {
    "plain": ("plain",),
    "striped": ("striped", "striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "checkered"),
}
PATTERN_NOUNS = {"striped": ("stripes", "stripe"), "dotted": ("dots", "dot"), "checked": ("checks", "check")}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}

Use = Literal["noun", "verb", "predicate"]


@dataclass
class Phrase:
    """A noun phrase; `plural` decides the form of its verb."""

    node: Node
    plural: bool = False


class Speaker:
    """Chooses words for one caption of one scene. `terse`: articles are dropped, as captions sometimes do."""

    def __init__(self, scene: Scene, rng: np.random.Generator, terse: bool = False) -> None:
        self.scene, self.rng, self.terse = scene, rng, terse
        self.nouns: dict[str | None, tuple[str, str]] = {}  # a kind keeps its noun throughout a caption

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.random() * len(options))]

    def mention(self, m: Mention, *, bare: bool = False, definite: bool | None = None, last: bool = False) -> Phrase:
        """The noun phrase of a mention.

        bare: only the kind ("the ball"). definite: with "the"; False: without; None: either.
        last: nothing follows, so that a clause of its own ("a ball that is red") cannot be misread.
        """
        if m.kind not in self.nouns:
            self.nouns[m.kind] = self.pick(NOUNS[m.kind] if m.kind else ANY_NOUN)
        singular, plural = self.nouns[m.kind]
        form = plural if m.count > 1 else singular
        *compound, form = form.split(" ")
        node = Node(form, "NOUN", singular.split(" ")[-1])
        for word in compound:
            node.before("compound", Node(word, "NOUN"))
        if not bare:
            self._describe(node, m, last)
        unique = sum(m.fits(thing) for thing in self.scene.objects) == m.count
        if definite or bare or (definite is None and unique and self.chance(0.25)):
            if m.count > 1 and not bare and self.chance(0.6):
                node.before("nummod", Node(NUMBERS[m.count], "NUM"))
            if not self.terse:
                node.before("det", Node("the", "DET"))
        elif m.count == 2 and self.chance(0.15):
            word = self.pick(("pair", "couple"))
            pair = Node(word, "NOUN").before("det", Node("a", "DET"))
            return Phrase(pair.after("nmod", node.before("case", Node("of", "ADP"))), True)
        elif m.count > 1:
            node.before("nummod", Node(NUMBERS[m.count], "NUM"))
        elif not self.terse:
            first = leftmost(node).form
            one = self.chance(0.04)
            article = "one" if one else "an" if first[0] in "aeiou" else "a"
            node.before("nummod" if one else "det", Node(article, "NUM" if one else "DET", "one" if one else "a"))
        return Phrase(node, m.count > 1)

    def _describe(self, node: Node, m: Mention, last: bool) -> None:
        """Adjectives before the noun (size first, colour mostly last), sometimes a clause or phrase after it."""
        words: list[str] = []
        if m.size:
            words.append(self.pick(SIZE_WORDS[m.size]))
        colour_after = m.colour is not None and last and self.chance(0.07)
        inner = [m.colour] if m.colour and not colour_after else []
        if m.pattern in PATTERN_NOUNS and self.chance(0.25) and not colour_after:
            plural, singular = PATTERN_NOUNS[m.pattern]
            if self.chance(0.7):
                noun = Node(plural, "NOUN", singular)
            else:
                noun = Node("pattern", "NOUN").before("amod", Node(self.pick(PATTERN_WORDS[m.pattern]), "ADJ"))
                noun.before("det", Node("a", "DET"))
            node.after("nmod", noun.before("case", Node("with", "ADP")))
        elif m.pattern:
            inner.insert(0 if self.chance(0.6) else len(inner), self.pick(PATTERN_WORDS[m.pattern]))
        for word in reversed(words + inner):
            node.before("amod", Node(word, "ADJ"))
        if colour_after and m.colour:
            colour = Node(m.colour, "ADJ")
            if self.chance(0.5):
                node.after("acl", Node("painted", "VERB", "paint").after("xcomp", colour))
            else:
                be = Node("are", "AUX", "be") if m.count > 1 else Node("is", "AUX", "be")
                colour.before("cop", be).before("nsubj", Node("that", "PRON"))
                node.after("acl:relcl", colour)

    def place(self, name: str, use: Use, thing: Phrase, other: Phrase | None = None) -> tuple[str, Node]:
        """The phrase "left of <thing>", and the relation by which it hangs on a noun or a verb.

        For `use` = "predicate" the node is the root of "X is left of <thing>". `other`: the second of "between".
        """
        target = thing.node
        if name == "between" and other is not None:
            other.node.before("cc", Node("and", "CCONJ"))
            target.after("conj", other.node)
            return self._case(("between",), target, use)
        ways = _WAYS[name]
        way = self.pick(ways)
        if way[0] in (
            "left",
            "right",
            "next",
            "close",
        ):  # "left of X", "next to X": an adjective with its own dependent
            head = Node(way[0], "ADV" if use == "verb" else "ADJ")
            head.after("obl", target.before("case", Node(way[1], "ADP")))
            return {"noun": "amod", "verb": "advmod", "predicate": "root"}[use], head
        if way[-1] == "of":  # "to the left of X", "in front of X": a noun with its own dependent
            *leading, noun, _ = way
            head = Node(noun, "NOUN")
            for word in reversed(leading[1:]):
                head.before("det" if word == "the" else "amod", Node(word, "DET" if word == "the" else "ADJ"))
            head.before("case", Node(leading[0], "ADP"))
            head.after("nmod", target.before("case", Node("of", "ADP")))
            return {"noun": "nmod", "verb": "obl", "predicate": "root"}[use], head
        return self._case(way, target, use)

    @staticmethod
    def _case(way: Sequence[str], target: Node, use: Use) -> tuple[str, Node]:
        target.before("case", Node(way[0], "ADP"))
        return {"noun": "nmod", "verb": "obl", "predicate": "root"}[use], target

    def beside_it(self, name: str) -> tuple[str, Node]:
        """ "to its left", "above it": where something stands, seen from what was named last."""
        if name in ("left", "right"):
            node = Node(name, "NOUN").before("nmod:poss", Node("its", "PRON"))
            return "nmod", node.before("case", Node(self.pick(("to", "to", "on")), "ADP"))
        word = self.pick({"above": ("above", "over"), "below": ("below", "under", "beneath")}[name])
        return "nmod", Node("it", "PRON").before("case", Node(word, "ADP"))

    def side(self, name: str) -> Node:
        """ "on the left", "at the bottom": a place in the picture."""
        preposition, noun = {
            "on-left": ("on", "left"),
            "on-right": ("on", "right"),
            "on-top": ("at", "top"),
            "at-bottom": ("at", "bottom"),
        }[name]
        return Node(noun, "NOUN").before("det", Node("the", "DET")).before("case", Node(preposition, "ADP"))


_WAYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "left": (
        ("to", "the", "left", "of"),
        ("to", "the", "left", "of"),
        ("left", "of"),
        ("on", "the", "left", "side", "of"),
    ),
    "right": (
        ("to", "the", "right", "of"),
        ("to", "the", "right", "of"),
        ("right", "of"),
        ("on", "the", "right", "side", "of"),
    ),
    "above": (("above",), ("above",), ("over",)),
    "below": (("below",), ("below",), ("under",), ("beneath",), ("underneath",)),
    "near": (("next", "to"), ("next", "to"), ("beside",), ("near",), ("close", "to")),
    "front": (("in", "front", "of"),),
    "behind": (("behind",),),
}


def leftmost(node: Node) -> Node:
    """The first word of a subtree."""
    while node.left:
        node = node.left[0][1]
    return node

"""Dependency trees that are built together with the words they span (Universal Dependencies, as in English EWT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Row = tuple[str, str, str, str, str, str, str, str, str, str]
"""The ten columns of a CoNLL-U line: id, form, lemma, upos, xpos, feats, head, relation, deps, misc."""


@dataclass
class Node:
    """A word with its dependents left and right of it, in the order in which they are spoken."""

    form: str
    upos: str
    lemma: str = ""
    left: list[tuple[str, Node]] = field(default_factory=list)
    right: list[tuple[str, Node]] = field(default_factory=list)

    def before(self, relation: str, node: Node) -> Node:
        """Adds a dependent before all that stand left of the word so far."""
        self.left.insert(0, (relation, node))
        return self

    def after(self, relation: str, node: Node) -> Node:
        """Adds a dependent after all that stand right of the word so far."""
        self.right.append((relation, node))
        return self


@dataclass(frozen=True)
class Word:
    """A word in its sentence. `head` counts from 1, 0 for the root; `space` tells whether a space follows."""

    form: str
    lemma: str
    upos: str
    head: int
    relation: str
    space: bool = True


def linear(root: Node, spaced_stop: bool = False) -> list[Word]:
    """The words of a tree in order. Trees built from `Node` are projective: every subtree is one stretch of words.

    Punctuation follows without a space, save a final full stop where `spaced_stop`.
    """
    nodes: list[tuple[Node, Node | None, str]] = []

    def walk(node: Node, head: Node | None, relation: str) -> None:
        for name, child in node.left:
            walk(child, node, name)
        nodes.append((node, head, relation))
        for name, child in node.right:
            walk(child, node, name)

    walk(root, None, "root")
    place = {id(node): i for i, (node, _, _) in enumerate(nodes, 1)}
    words = []
    for i, (node, head, relation) in enumerate(nodes):
        glued = i + 1 < len(nodes) and nodes[i + 1][0].upos == "PUNCT"
        if glued and spaced_stop and i + 2 == len(nodes):
            glued = False
        last = i + 1 == len(nodes)
        head_place = 0 if head is None else place[id(head)]
        words.append(Word(node.form, node.lemma or node.form, node.upos, head_place, relation, not (glued or last)))
    return words


def text_of(words: Sequence[Word]) -> str:
    """The sentence as written."""
    return "".join(word.form + (" " if word.space else "") for word in words).rstrip()


def rows_of(words: Sequence[Word]) -> list[Row]:
    """CoNLL-U rows; xpos, feats and deps are left blank ("_")."""
    last = len(words)
    return [
        (
            str(i),
            w.form,
            w.lemma,
            w.upos,
            "_",
            "_",
            str(w.head),
            w.relation,
            "_",
            "_" if w.space or i == last else "SpaceAfter=No",
        )
        for i, w in enumerate(words, 1)
    ]


def block_of(words: Sequence[Word], sent_id: str) -> str:
    """A CoNLL-U sentence block with its blank line."""
    lines = "\n".join("\t".join(row) for row in rows_of(words))
    return f"# sent_id = {sent_id}\n# text = {text_of(words)}\n{lines}\n\n"

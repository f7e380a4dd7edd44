"""The dependency tree and the graph of a caption, drawn with the characters of a terminal.

Words are named as they are written; a word that stands there several times has its turn behind it: the₁, the₂.
They are counted from 0, as in the caches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from rich.cells import cell_len, set_cell_size

from itmkit.graphs import dependency_edges

MOST = 30  # words of the longest caption whose matrix is drawn: with two cells each it fits a line of 80
NAME = 13  # cells that a word has beside the matrix
BRANCHES = 44  # cells of a tree's branch with its word; parts of speech stand to the right of them
DEEPEST = 12  # steps from the root that are drawn; deeper words are told by their number of steps
HEADING = 70  # cells of a sentence above its tree
EDGE, LOOP, NOTHING = "●", "○", "·"
NO_TREE = "words of published code, which have no tree"
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_JOINERS = "\u200c\u200d"  # shape letters and emoji, and harm no terminal


@dataclass(frozen=True)
class Tree:
    """The parsed words of one caption, n of each list.

    `heads` count within the caption and a root is its own head; `sentences` is empty where the cache has none.
    """

    words: list[str]
    pos: list[str]
    relations: list[str]
    heads: list[int]
    sentences: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def names(self) -> list[str]:
        """What the words are called in drawings; equal words are numbered."""
        shown = [printable(word) for word in self.words]
        often, seen = Counter(shown), Counter[str]()
        names = []
        for word in shown:
            seen[word] += 1
            names.append(word + str(seen[word]).translate(_SUBSCRIPTS) if often[word] > 1 else word)
        return names

    @cached_property
    def edges(self) -> list[tuple[int, int]]:
        """Pairs i < j, those that build-graphs writes.

        Raises ItmkitError where a head lies outside the caption.
        """
        found, _ = dependency_edges(np.array(self.heads, np.int64), np.array([0, len(self)]))
        return [(int(low), int(high)) for low, high in found]

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """For each word the others that it has an edge with, in the order of the caption."""
        found: list[list[int]] = [[] for _ in self.words]
        for low, high in self.edges:
            found[low].append(high)
            found[high].append(low)
        return [sorted(places) for places in found]


def printable(text: str) -> str:
    """The text without what a terminal would obey: controls, line ends, marks that turn its direction."""
    spaced = " ".join(text.split())
    return "".join(char if char.isprintable() or char in _JOINERS else "\ufffd" for char in spaced)


def cut(text: str, cells: int) -> str:
    """The text, or as much of it as fits, ending in ..., into so many cells of a terminal."""
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + "…"


def pad(text: str, cells: int) -> str:
    """The text with spaces to so many cells: a Chinese letter or an emoji has two."""
    return text + " " * (cells - cell_len(text))


def tree_lines(tree: Tree) -> list[str]:
    """Draws the trees, one a root, with part of speech and relation in columns; several sentences have headings.

    Words of one head stand in the order of the caption. Works for any heads: words that no root leads to (heads in
    a circle, or out of range) are listed at the end.
    """
    branches = _branches(tree)
    width = min(BRANCHES, max((cell_len(branch) for branch, _ in branches), default=0))
    tags = [printable(pos) for pos in tree.pos]
    tagged = max(map(cell_len, tags), default=0)
    several = len(set(tree.sentences)) > 1
    lines: list[str] = []
    sentence = None
    for branch, place in branches:
        if several and place == tree.heads[place] and tree.sentences[place] != sentence:
            sentence = tree.sentences[place]
            lines += ([""] if lines else []) + [_heading(tree, sentence)]
        lines.append(f"{pad(branch, width)}  {pad(tags[place], tagged)}  {printable(tree.relations[place])}".rstrip())
    drawn = {place for _, place in branches}
    lost = [place for place in range(len(tree)) if place not in drawn]
    return lines + [f"{tree.names[place]}  (in no tree: head {tree.heads[place]})" for place in lost]


def _branches(tree: Tree) -> list[tuple[str, int]]:
    """(branch with the word's name, word) from each root downwards, without recursion."""
    children: dict[int, list[int]] = {}
    for place, head in enumerate(tree.heads):
        if head != place:
            children.setdefault(head, []).append(place)
    found = []
    todo = [(place, "", "", 0) for place, head in enumerate(tree.heads) if head == place][::-1]
    while todo:
        place, own, below, steps = todo.pop()
        far = f"({steps} steps down) " if steps > DEEPEST else ""
        found.append((own + far + tree.names[place], place))
        mine = children.get(place, [])
        for number, child in reversed(list(enumerate(mine))):
            last = number == len(mine) - 1
            after = below + ("   " if last else "│  ") if steps < DEEPEST else below
            todo.append((child, below + ("└─ " if last else "├─ "), after, steps + 1))
    return found


def _heading(tree: Tree, sentence: int) -> str:
    words = [printable(word) for word, number in zip(tree.words, tree.sentences, strict=True) if number == sentence]
    return cut(f"sentence {sentence}: {' '.join(words)}", HEADING)


def matrix_lines(names: Sequence[str], edges: Sequence[tuple[int, int]]) -> list[str]:
    """Draws the adjacency of a graph of n words: ● an edge, ○ a word and itself, · neither. Empty for no words."""
    n = len(names)
    if n == 0:
        return []
    marks = [[NOTHING] * n for _ in range(n)]
    for low, high in edges:
        marks[low][high] = marks[high][low] = EDGE
    for place in range(n):
        marks[place][place] = LOOP
    labels = _labels(names, NAME)
    space = " " * cell_len(labels[0])
    # The numbers of the columns are written downwards: 12 is a 1 above a 2.
    digits = len(str(n - 1))
    heads = [" ".join(str(place).rjust(digits)[row] for place in range(n)) for row in range(digits)]
    lines = [f"{space}  {head}".rstrip() for head in heads]
    return lines + [f"{label}  {' '.join(row)}" for label, row in zip(labels, marks, strict=True)]


def neighbour_lines(tree: Tree) -> list[str]:
    """A line a word: the words that it has an edge with."""
    labels = _labels(tree.names, 24)
    told = ["  ".join(tree.names[place] for place in places) or "(none)" for places in tree.neighbours]
    return [f"{label}  {names}" for label, names in zip(labels, told, strict=True)]


def word_lines(words: Sequence[str]) -> list[str]:
    """A line a word with its number, for captions without a tree."""
    return [label.rstrip() for label in _labels([printable(word) for word in words], HEADING)]


def _labels(names: Sequence[str], cells: int) -> list[str]:
    """Number and name of every word, in columns."""
    short = [cut(name, cells) for name in names]
    width, digits = max(map(cell_len, short), default=0), len(str(len(names) - 1))
    return [f"{place:>{digits}} {pad(name, width)}" for place, name in enumerate(short)]

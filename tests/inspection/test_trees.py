from __future__ import annotations

import numpy as np
import pytest
from rich.cells import cell_len

from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.inspection.trees import DEEPEST, EDGE, LOOP, NOTHING, Tree, matrix_lines, neighbour_lines, tree_lines
from tests.training.tiny import GRAPHS, THINGS, make_workspace


def tree(words: str, heads: list[int], sentences: list[int] | None = None) -> Tree:
    n = len(heads)
    return Tree(words.split(), ["X"] * n, ["root" if head == i else "dep" for i, head in enumerate(heads)], heads,
                sentences or [])  # fmt: skip


def test_trees_of_several_sentences() -> None:
    drawn = Tree(
        ["a", "dog", "runs", ".", "Yes"],
        ["DET", "NOUN", "VERB", "PUNCT", "INTJ"],
        ["det", "nsubj", "root", "punct", "root"],
        [1, 2, 2, 2, 4],
        [0, 0, 0, 0, 1],
    )
    assert tree_lines(drawn) == [
        "sentence 0: a dog runs .",
        "runs     VERB   root",
        "├─ dog   NOUN   nsubj",
        "│  └─ a  DET    det",
        "└─ .     PUNCT  punct",
        "",
        "sentence 1: Yes",
        "Yes      INTJ   root",
    ]
    assert neighbour_lines(drawn) == [
        "0 a     dog",
        "1 dog   a  runs",
        "2 runs  dog  .",
        "3 .     runs",
        "4 Yes   (none)",
    ]


def test_words_in_no_tree_are_listed() -> None:
    assert tree_lines(tree("x y z", [1, 0, 99])) == [
        "x  (in no tree: head 1)",
        "y  (in no tree: head 0)",
        "z  (in no tree: head 99)",
    ]
    with pytest.raises(ItmkitError, match="the head of token 2 is 99"):
        _ = tree("x y z", [1, 0, 99]).edges


def test_no_word_and_one_word() -> None:
    assert tree_lines(tree("", [])) == matrix_lines([], []) == neighbour_lines(tree("", [])) == []
    one = tree("dog", [0])
    assert tree_lines(one) == ["dog  X  root"]
    assert matrix_lines(one.names, one.edges) == ["       0", f"0 dog  {LOOP}"]
    assert neighbour_lines(one) == ["0 dog  (none)"]


def test_equal_words_are_numbered_as_they_are_written() -> None:
    drawn = tree("the dog and the dog and The cat", [1, 1, 4, 4, 1, 7, 7, 1])
    assert drawn.names == ["the₁", "dog₁", "and₁", "the₂", "dog₂", "and₂", "The", "cat"]
    assert neighbour_lines(drawn)[1] == "1 dog₁  the₁  dog₂  cat"
    assert tree("a " * 12, [0] * 12).names[11] == "a₁₂"


def test_the_matrix() -> None:
    drawn = tree("a dog runs", [1, 2, 2])
    assert matrix_lines(drawn.names, drawn.edges) == [
        "        0 1 2",
        "0 a     ○ ● ·",
        "1 dog   ● ○ ●",
        "2 runs  · ● ○",
    ]
    wide = tree(" ".join(f"w{i}" for i in range(30)), [0] * 30)
    lines = matrix_lines(wide.names, wide.edges)
    assert lines[0].split() == ["1"] * 10 + ["2"] * 10 and lines[1].split() == list("0123456789" * 3)
    assert len({cell_len(line) for line in lines}) == 1
    longest = matrix_lines(["incomprehensibilities"] * 30, [])
    assert max(map(cell_len, longest)) <= 78 and "incomprehens…" in longest[-1]


def test_wide_characters_are_aligned() -> None:
    drawn = Tree(["狗", "🐕", "dog"], ["NOUN", "X", "NOUN"], ["root", "dep", "dep"], [0, 0, 1])
    columns = {cell_len(line[: line.index(relation)]) for line, relation in
               zip(tree_lines(drawn), ("root", "dep", "dep"), strict=True)}  # fmt: skip
    assert len(columns) == 1
    marks = [line[: line.index(LOOP)] for line in matrix_lines(drawn.names, drawn.edges)[1:]]
    assert [cell_len(line) for line in marks] == [7, 9, 11]


def test_nothing_that_a_terminal_obeys_is_drawn() -> None:
    drawn = Tree(["\x1b[31mred", "a\u202eb", "👩\u200d🚒"], [""] * 3, [""] * 3, [0, 0, 0])
    assert drawn.names == ["\ufffd[31mred", "a\ufffdb", "👩\u200d🚒"]


def test_deep_trees_stay_narrow_and_need_no_recursion() -> None:
    n = 5000
    lines = tree_lines(tree("word " * n, [max(0, place - 1) for place in range(n)]))
    assert len(lines) == n and max(map(cell_len, lines)) < 80
    assert f"({DEEPEST + 1} steps down) word" in lines[DEEPEST + 1] and "steps down" not in lines[DEEPEST]


def test_the_matrix_is_what_matchers_get(tmp_path: object) -> None:
    workspace = make_workspace(tmp_path, train=4, val=1, test=1)  # type: ignore[arg-type]
    inputs = Inputs(workspace, workspace.dataset().split("train"), Vocabulary.build(["a", *THINGS]), GRAPHS)
    for caption, text in enumerate(inputs.caption_texts):
        edges = inputs.text_batch(np.array([caption])).edges
        assert edges is not None
        n = len(text.split())
        drawn = tree(text, [max(0, place - 1) for place in range(n)])  # as this workspace is parsed
        expected = [[LOOP if i == j else EDGE if bool(edges[0, i, j]) else NOTHING for j in range(n)] for i in range(n)]
        assert [line.split()[2:] for line in matrix_lines(drawn.names, drawn.edges)[-n:]] == expected

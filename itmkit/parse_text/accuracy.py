"""Attachment scores of a parser, counted as in the CoNLL 2018 shared task (punctuation included).

UAS: share of words with the right head. LAS: with the right head and the right relation, subtypes left aside
(`nsubj:pass` counts as `nsubj`). From raw text a word is right only if the tokeniser found it too, and the figures
are F1 of gold and found words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from itmkit.parse_text.conllu import Tree
from itmkit.parse_text.parser import Parser
from itmkit.parse_text.tokens import bounds, tokenise


@dataclass(frozen=True)
class Accuracy:
    """Percentages. `words` is F1 of the tokeniser, 100 with gold words."""

    sentences: int
    uas: float
    las: float
    pos: float
    lemmas: float
    words: float

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 2) for name, value in asdict(self).items()}


def on_gold_words(parser: Parser, trees: Sequence[Tree]) -> Accuracy:
    """The parser reads the treebank's own words and sentences."""
    parse = parser.parse([tree.words for tree in trees])
    relations = np.array([r.split(":")[0] for r in parser.labels.relations])
    right_head = parse.heads == np.array([h for tree in trees for h in tree.heads])
    right_relation = relations[parse.relations] == np.array([r.split(":")[0] for t in trees for r in t.relations])
    right_pos = np.array(parser.labels.pos)[parse.pos] == np.array([p for tree in trees for p in tree.pos])
    words = [word for tree in trees for word in tree.words]
    lemmas = [parser.lemma(word, script) for word, script in zip(words, parse.scripts.tolist(), strict=True)]
    right_lemma = [a == b for a, b in zip(lemmas, (x for tree in trees for x in tree.lemmas), strict=True)]
    return Accuracy(
        sentences=len(trees),
        uas=100 * float(right_head.mean()),
        las=100 * float((right_head & right_relation).mean()),
        pos=100 * float(right_pos.mean()),
        lemmas=100 * float(np.mean(right_lemma)),
        words=100.0,
    )


def on_raw_text(parser: Parser, trees: Sequence[Tree]) -> Accuracy:
    """The parser gets each tree's text. Trees whose words could not be placed in their text are left out."""
    trees = [tree for tree in trees if tree.spans]
    texts = [tokenise(tree.text) for tree in trees]
    sentences = [tokens.words[a:b] for tokens in texts for a, b in bounds(tokens.sentences)]
    parse = parser.parse(sentences)
    gold = found = both = uas = las = pos = lemmas = 0
    sentence = 0
    for tree, tokens in zip(trees, texts, strict=True):
        place_of = {(a, b): i for i, (a, b) in enumerate(tree.spans)}
        spans = list(zip(tokens.starts, tokens.ends, strict=True))
        gold += len(tree)
        found += len(tokens)
        for first, _ in bounds(tokens.sentences):
            start, end = int(parse.offsets[sentence]), int(parse.offsets[sentence + 1])
            sentence += 1
            for k in range(start, end):
                i = first + k - start
                word = place_of.get(spans[i])
                if word is None:
                    continue
                both += 1
                pos += parser.labels.pos[parse.pos[k]] == tree.pos[word]
                lemmas += parser.lemma(tokens.words[i], int(parse.scripts[k])) == tree.lemmas[word]
                head = first + int(parse.heads[k])
                is_root = head == i
                if is_root != (tree.heads[word] == word):
                    continue
                if is_root or place_of.get(spans[head]) == tree.heads[word]:
                    uas += 1
                    relation = parser.labels.relations[parse.relations[k]]
                    las += relation.split(":")[0] == tree.relations[word].split(":")[0]
    f1 = 200 / max(gold + found, 1)
    return Accuracy(len(trees), f1 * uas, f1 * las, f1 * pos, f1 * lemmas, f1 * both)

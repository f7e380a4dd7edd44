"""Parts of speech and escapes of the Penn Treebank, as Stanford CoreNLP writes them."""

from __future__ import annotations

import re

_TAGS = {
    "ADJ": "JJ JJR JJS",
    "ADP": "IN RP TO",
    "ADV": "RB RBR RBS WRB",
    "AUX": "MD",
    "CCONJ": "CC",
    "DET": "DT PDT WDT",
    "INTJ": "UH",
    "NOUN": "NN NNS",
    "NUM": "CD",
    "PART": "POS",
    "PRON": "EX PRP PRP$ WP WP$",
    "PROPN": "NNP NNPS",
    "PUNCT": ". , : `` '' -LRB- -RRB- HYPH NFP",
    "SYM": "SYM $ #",
    "VERB": "VB VBD VBG VBN VBP VBZ",
    "X": "ADD AFX FW GW LS XX",
}
_POS = {tag: pos for pos, tags in _TAGS.items() for tag in tags.split()}

_ESCAPES = {"LR": "(", "RR": ")", "LS": "[", "RS": "]", "LC": "{", "RC": "}"}
ESCAPE = re.compile(r"-([LR][RSC])B-|\\[/*]", re.IGNORECASE)


def universal(tag: str, relation: str, lemma: str) -> str:
    """The universal part of speech of a Penn tag, `_` if there is none.

    The relation to the head tells what the tag leaves open: auxiliaries from verbs, subordinating conjunctions from
    prepositions, `to` before a verb from `to` before a noun, `that` for a noun from `that` before one.
    """
    pos = _POS.get(tag, "_")
    kind = relation.partition(":")[0]
    if pos == "VERB" and kind in ("aux", "auxpass", "cop"):
        return "AUX"
    if pos == "ADP" and kind == "mark":
        return "PART" if tag == "TO" else "SCONJ"
    if pos == "DET" and kind in ("nsubj", "nsubjpass", "obj", "dobj", "iobj", "obl", "nmod", "conj", "root", "mark"):
        return "PRON"
    if pos == "ADV" and (kind == "neg" or lemma in ("not", "n't")):
        return "PART"
    return pos


def unescape(text: str) -> str:
    r"""Replaces `-LRB-` and the like by brackets, and `\\/` by `/`."""
    return ESCAPE.sub(lambda found: _ESCAPES[found[1].upper()] if found[1] else found[0][1], text)

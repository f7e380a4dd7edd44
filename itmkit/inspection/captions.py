"""A caption of a text cache: its dependency tree, and the graph that matchers see."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from itmkit.cache import Manifest, read_manifest, text_key
from itmkit.cache.name import PIECES_TEXT, PUBLISHED_TEXTS
from itmkit.dataset import Caption
from itmkit.errors import ItmkitError
from itmkit.inspection.hdf5 import ask_child
from itmkit.inspection.report import Report
from itmkit.inspection.rows import find_root, folder_of, manifest_of, tree_of, words_of
from itmkit.inspection.trees import (
    EDGE,
    LOOP,
    MOST,
    NO_TREE,
    Tree,
    cut,
    matrix_lines,
    neighbour_lines,
    printable,
    tree_lines,
    word_lines,
)
from itmkit.workspace import Workspace

IDS = 5  # caption ids that are named; all are in the JSON


def inspect_caption(path: Path, caption: str) -> Report:
    """The tree, the adjacency and the neighbours of a caption; the report's `data` holds them as values.

    Of words of published code, which have no tree, the words alone.

    Args:
        path: a text cache, or a workspace or anything inside one, whose `text-scan` or
            `text-wordpiece` is read where there is no `text`.
        caption: tried in this order: the number of a row of the cache, from 0; the id of a caption of the data set;
            the text of a caption as it is written there. What else the same number names is told as a fact.

    Raises:
        ItmkitError: there is no such caption, or no complete text cache.
    """
    folder = folder_of(path, "words", "text")
    others = [other for name in PUBLISHED_TEXTS.values() if read_manifest(other := folder.parent / name) is not None]
    if read_manifest(folder) is None and others:
        folder = others[0]
    manifest = manifest_of(folder, "parse-text")
    root = find_root(path)
    captions: list[Caption] = []
    if root is not None and (root / "dataset.jsonl").exists():
        captions = [caption for image in Workspace(root).dataset().images for caption in image.captions]
    found = _find(folder, manifest, captions, caption)
    tree = tree_of(folder, found.columns, manifest) if "heads" in found.columns else None
    words = words_of(folder, found.columns, manifest) if tree is None else tree.words
    if words is None:
        raise ItmkitError(f"{folder}: the caption of row {found.row} has too many words to be drawn")
    text = next((known.text for known in captions if text_key(known.text) == found.key), None)
    ids = [known.id for known in captions if known.text == text]
    report = Report("caption", folder)
    text = _joined(words, found.columns) if text is None else text
    report.fact("caption", printable(text))
    report.fact("row", found.row)
    if ids:
        more = f" and {len(ids) - IDS:,} more" if len(ids) > IDS else ""
        report.fact("caption ids" if len(ids) > 1 else "caption id", printable(", ".join(ids[:IDS])) + more)
    if found.also is not None:
        report.fact("note", f"{caption} is a caption's {found.also[0]} too: row {found.also[1]}")
    report.data = {"row": found.row, "key": found.key, "text": text, "captions": ids, "words": words}
    if tree is None:
        report.fact("words", f"{len(words):,}")
        report.lines += ["", NO_TREE, *_indented(word_lines(words) + _cut_by_matchers(folder, len(words)))]
        return report
    sentences = len(set(tree.sentences))
    report.fact("words", f"{len(tree):,}" + (f" in {sentences} sentences" if sentences > 1 else ""))
    report.data |= {
        "pos": tree.pos,
        "relations": tree.relations,
        "heads": tree.heads,
        "sentences": tree.sentences,
    }
    _draw(report, tree)
    return report


@dataclass(frozen=True)
class _Found:
    row: int
    key: str
    columns: dict[str, Any]
    also: tuple[str, int] | None = None  # what else was meant perhaps: "id" or "text", and its row


def _find(folder: Path, manifest: Manifest, captions: list[Caption], asked: str) -> _Found:
    by_id = next((known.text for known in captions if known.id == asked), None)
    number = _number(asked)
    if number is not None and number < manifest.count:
        answer = ask_child("number", folder, str(number))
        also = None
        other = by_id if by_id is not None else asked if any(known.text == asked for known in captions) else None
        if other is not None and text_key(other) != answer["id"]:
            row = ask_child("row", folder, text_key(other))["row"]
            also = None if row is None else ("text" if by_id is None else "id", row)
        return _Found(answer["row"], answer["id"], answer["columns"], also)
    key = text_key(asked if by_id is None else by_id)
    answer = ask_child("row", folder, key)
    if answer["row"] is not None:
        return _Found(answer["row"], key, answer["columns"])
    if by_id is not None:
        parser = "" if "heads" in manifest.columns else f" --parser {manifest.made_by.settings.get('parser', 'scan')}"
        command = f"itmkit parse-text{parser}"
        raise ItmkitError(f"{folder}: caption {asked!r} of the data set is not parsed here; run `{command}`")
    rows = f"0 to {manifest.count - 1:,}" if manifest.count else "there are none"
    raise ItmkitError(
        f"{folder}: {cut(repr(asked), 200)} is not the number of a row here ({rows}),"
        " and neither the id nor the text of a caption parsed here"
    )


def _number(text: str) -> int | None:
    """The number that is written so, and not otherwise: 007 and ² are none."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or (text[0] == "0" and text != "0"):
        return None
    return int(text)


def _joined(words: list[str], columns: dict[str, Any]) -> str:
    """The caption made of its words, where no data set tells it: white space of any kind is one space."""
    if not {"starts", "ends"} <= columns.keys():
        return " ".join(words)
    starts, ends = columns["starts"]["values"], columns["ends"]["values"]
    written = [place for place in range(len(words)) if starts[place] < ends[place]]  # `<start>` and `<end>` are not
    glued = {place for before, place in pairwise(written) if starts[place] == ends[before]}
    return "".join(words[place] if place in glued else f" {words[place]}" for place in written).lstrip()


def _draw(report: Report, tree: Tree) -> None:
    wrong = [place for place, head in enumerate(tree.heads) if not 0 <= head < len(tree)]
    if wrong:
        report.lines += ["", "dependency tree", *_indented(tree_lines(tree))]
        report.problems.append(
            f"{report.path}: row {report.data['row']}: the head of word {wrong[0]} is {tree.heads[wrong[0]]}, outside"
            f" the {len(tree)} words of the caption, so it has no graph; run `itmkit parse-text --force`"
        )
        return
    report.data |= {"edges": tree.edges, "neighbours": tree.neighbours}
    if len(tree) == 0:
        report.lines += ["", "The caption has no words: no tree and no edges. Matchers see one unknown word."]
        return
    report.lines += ["", "dependency tree", *_indented(tree_lines(tree)), ""]
    if len(tree) <= MOST:
        report.lines.append(f"adjacency  ({EDGE} edge, {LOOP} the word itself)")
        report.lines += _indented(matrix_lines(tree.names, tree.edges))
    else:
        report.lines.append(
            f"adjacency  (left out: {len(tree):,} words, drawn up to {MOST}; the neighbours say the same)"
        )
        report.lines += _indented(_cut_by_matchers(report.path, len(tree), " and the edges among them"))
    report.lines += ["", "neighbours  (besides the word itself)", *_indented(neighbour_lines(tree))]


def _cut_by_matchers(folder: Path, words: int, beside: str = "") -> list[str]:
    if words <= MOST:
        return []
    from itmkit.inputs.texts import MAX_PIECES, MAX_WORDS  # loads torch: only for a long caption

    most = MAX_PIECES if folder.name == PIECES_TEXT else MAX_WORDS
    return [f"Matchers take its first {most} words{beside}."] if words > most else []


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}".rstrip() for line in lines]

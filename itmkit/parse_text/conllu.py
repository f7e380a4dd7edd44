"""Dependency trees and their CoNLL-U files.

Only syntactic words are kept. The lines of multi-word tokens (`1-2`) and empty nodes (`5.1`) are skipped, except that a
multi-word token's surface is used to place its words in the sentence's text. If a file has no universal parts of speech
(Stanford CoreNLP writes none), they are derived from the Penn Treebank's tags in the next column.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from itmkit.errors import ItmkitError
from itmkit.parse_text.penn import universal


@dataclass(slots=True)
class Tree:
    """One sentence. `heads[i]` is the index of word i's head in the sentence; the root is its own head."""

    words: list[str]
    lemmas: list[str]
    pos: list[str]
    heads: list[int]
    relations: list[str]
    text: str = ""
    id: str = ""
    spans: list[tuple[int, int]] = field(default_factory=list)  # characters in `text`; empty where they are unknown
    # Multi-word tokens: index of the first word, of the last, and the token as written.
    surfaces: list[tuple[int, int, str]] = field(default_factory=list, compare=False)

    def __len__(self) -> int:
        return len(self.words)


def read_conllu(path: str | Path) -> Iterator[Tree]:
    """Trees of a CoNLL-U file (`.gz` is unpacked). Raises ItmkitError naming file and line of what is malformed."""
    path = Path(path)
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            yield from parse_conllu(lines, name=str(path))
    except UnicodeDecodeError as error:
        raise ItmkitError(f"{path}: not UTF-8 text ({error}); convert the file to UTF-8") from None
    except (EOFError, zlib.error) as error:
        raise ItmkitError(
            f"{path}: cannot be unpacked, since it is cut off or damaged ({error}); make it anew"
        ) from None
    except OSError as error:
        raise ItmkitError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse_conllu(lines: Iterable[str], name: str = "CoNLL-U") -> Iterator[Tree]:
    """Trees of CoNLL-U lines; sentences end at an empty line. `name` stands in error messages."""
    rows: list[list[str]] = []
    comments: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            if rows:
                yield _tree(rows, comments, f"{name}, sentence before line {number}")
            rows, comments = [], {}
        elif line.startswith("#"):
            key, _, value = line[1:].partition("=")
            comments[key.strip()] = value.strip()
        else:
            fields = line.split("\t")
            if len(fields) != 10:
                raise ItmkitError(f"{name}, line {number}: {len(fields)} columns between tabs, CoNLL-U has 10")
            rows.append(fields)
    if rows:
        yield _tree(rows, comments, f"{name}, last sentence")


def tree_from_rows(rows: Sequence[Sequence[str]]) -> Tree:
    """The tree of one sentence given as CoNLL-U rows of ten strings; its text follows from `SpaceAfter=No`."""
    pieces = [row[1] + ("" if "SpaceAfter=No" in row[9].split("|") else " ") for row in rows if row[0].isdigit()]
    return _tree([list(row) for row in rows], {"text": "".join(pieces).rstrip()}, "CoNLL-U rows")


def format_conllu(tree: Tree) -> str:
    """One sentence as CoNLL-U text, ending with an empty line."""
    lines = []
    if tree.id:
        lines.append(f"# sent_id = {tree.id}")
    if tree.text:
        lines.append(f"# text = {tree.text}")
    for i, word in enumerate(tree.words):
        head = 0 if tree.heads[i] == i else tree.heads[i] + 1
        glued = tree.spans and i + 1 < len(tree) and tree.spans[i][1] == tree.spans[i + 1][0]
        fields = (str(i + 1), word, tree.lemmas[i] or "_", tree.pos[i] or "_", "_", "_", str(head), tree.relations[i])
        lines.append("\t".join((*fields, "_", "SpaceAfter=No" if glued else "_")))
    return "\n".join(lines) + "\n\n"


def _tree(rows: list[list[str]], comments: dict[str, str], where: str) -> Tree:
    words: list[list[str]] = []
    surfaces: list[tuple[int, int, str]] = []  # first word, last word, surface of a multi-word token
    for fields in rows:
        if "-" in fields[0]:
            first, _, last = fields[0].partition("-")
            if not (first.isdecimal() and last.isdecimal() and int(first) == len(words) + 1 <= int(last)):
                raise ItmkitError(f"{where}: {fields[0]!r} is no range of the words that follow")
            surfaces.append((int(first) - 1, int(last) - 1, fields[1]))
        elif "." not in fields[0]:
            words.append(fields)
    if surfaces and surfaces[-1][1] >= len(words):
        raise ItmkitError(f"{where}: the token {surfaces[-1][2]!r} has fewer words than it says")
    heads = []
    for i, fields in enumerate(words):
        if fields[0] != str(i + 1) or not fields[6].isdecimal() or int(fields[6]) > len(words):
            raise ItmkitError(f"{where}: word {fields[0]!r} has head {fields[6]!r}; ids count from 1, heads from 0")
        heads.append(i if fields[6] == "0" else int(fields[6]) - 1)
    text = comments.get("text", "")
    return Tree(
        words=[fields[1] for fields in words],
        lemmas=[fields[2] for fields in words],
        pos=[fields[3] if fields[3] != "_" else universal(fields[4], fields[7], fields[2]) for fields in words],
        heads=heads,
        relations=[fields[7] for fields in words],
        text=text,
        id=comments.get("sent_id", ""),
        spans=_spans(text, [fields[1] for fields in words], surfaces) if text else [],
        surfaces=surfaces,
    )


def _spans(text: str, words: list[str], surfaces: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
    """Places the words in the text from left to right; an empty list where that fails."""
    within = {i: (first, last, surface) for first, last, surface in surfaces for i in range(first, last + 1)}
    spans: list[tuple[int, int]] = []
    at = 0
    for i, word in enumerate(words):
        if i not in within:
            at = text.find(word, at)
            if at < 0:
                return []
            spans.append((at, at + len(word)))
            at += len(word)
            continue
        first, last, surface = within[i]
        if i > first:
            continue
        at = text.find(surface, at)
        if at < 0:
            return []
        parts = words[first : last + 1]
        if "".join(parts) == surface:
            for part in parts:
                spans.append((at, at + len(part)))
                at += len(part)
        else:  # the words are not pieces of the surface: all of them stand for the whole
            spans += [(at, at + len(surface))] * len(parts)
            at += len(surface)
    return spans

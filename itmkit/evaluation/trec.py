"""Rankings and right answers in the formats of TREC, from which other programs compute figures.

own-i2t.run      IMAGE Q0 CAPTION RANK SCORE RUN   a line an item of a ranking, best first
own-i2t.qrels    IMAGE 0 CAPTION 1                 a line a right answer
own-t2i.run, own-t2i.qrels                         the same with captions as queries

`own` are the data set's own pairs; `labels`, `original`, `cxc` and `eccv` have files of their own where they are asked
for. Each set has its own rankings, since ties stand against the query: of items with the same score those that are
right come last. Programs sort by score and break ties in ways of their own, so SCORE counts down from the length of
the ranking and says only the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, unquote

import numpy as np

from itmkit.files import atomic_path, check_replaces
from itmkit.relevance.ranking import PAIRS, columns_of, rows_of
from itmkit.relevance.relevance import Relevance
from itmkit.scoring.stored import Scores

DEPTH = 100  # items of a ranking that are written
SAFE = "/#:@,;=+&()[]{}!$*'|"  # characters of ids that stay, beside ASCII letters, digits and _.-~
Answers = Mapping[str, tuple[Relevance, Relevance]]  # of a set's name: of images x captions, of captions x images


@dataclass(frozen=True)
class Trec:
    """A folder for the files, and how many items of each ranking they hold (None: all)."""

    folder: Path
    depth: int | None = DEPTH


def safe(id: str) -> str:
    """An id as one word of printable ASCII: other characters, blanks and % become %XX, the bytes of their UTF-8.

    Different ids stay different, an empty one becomes a lone %; `original` undoes it.
    """
    return quote(id, safe=SAFE, errors="surrogatepass") or "%"


def original(word: str) -> str:
    """The id that `safe` has made a word of."""
    return "" if word == "%" else unquote(word, errors="surrogatepass")


def check_trec(asked: Trec, sets: Sequence[str], *, force: bool) -> None:
    """Raises ItmkitError if writing would replace files that are no rankings or right answers (unless `force`)."""
    for name in sets:
        for side in ("i2t", "t2i"):
            run, qrels = _paths(asked.folder, name, side)
            check_replaces(run, lambda path: _has_fields(path, 6), "a run of TREC's form", force=force)
            check_replaces(qrels, lambda path: _has_fields(path, 4), "a file of TREC's qrels", force=force)


class TrecFiles:
    """Writes rankings, fold by fold. The files appear when `stack` is closed without an error."""

    def __init__(self, asked: Trec, run: str, stack: ExitStack) -> None:
        """run: what the rankings are called in the files."""
        self._asked, self._run, self._stack = asked, safe(run), stack
        self._open: dict[Path, TextIO] = {}

    def add(self, scores: Scores, answers: Answers, images: Sequence[str], captions: Sequence[str]) -> None:
        """Adds the queries of a fold, which find images and captions of the fold alone.

        Args:
            scores: images x captions.
            answers: what is right, of each set.
            images, captions: ids, in the order of rows and columns.
        """
        ids = [safe(id) for id in images], [safe(id) for id in captions]
        for name, (of_images, of_captions) in answers.items():
            rows = rows_of(scores, of_images.asked())
            self._write(_paths(self._asked.folder, name, "i2t"), rows, of_images, *ids)
            columns = columns_of(scores, of_captions.asked())
            self._write(_paths(self._asked.folder, name, "t2i"), columns, of_captions, *ids[::-1])

    def _write(
        self,
        paths: tuple[Path, Path],
        parts: Iterator[tuple[np.ndarray, np.ndarray]],
        relevance: Relevance,
        queries: Sequence[str],
        items: Sequence[str],
    ) -> None:
        run, qrels = (self._file(path) for path in paths)
        at_once = max(1, PAIRS // max(len(items), 1))
        for asked, scores in parts:
            for begin in range(0, len(asked), at_once):
                some = asked[begin : begin + at_once]
                mask = relevance.mask(some)
                order = best_first(scores[begin : begin + at_once], mask)[:, : self._asked.depth]
                for query, found, right in zip(some.tolist(), order.tolist(), mask, strict=True):
                    if not right.any():
                        continue  # no query: it would count as one that finds nothing
                    name, count = queries[query], len(found)
                    run.writelines(
                        f"{name} Q0 {items[item]} {rank} {count - rank + 1} {self._run}\n"
                        for rank, item in enumerate(found, 1)
                    )
                    qrels.writelines(f"{name} 0 {items[item]} 1\n" for item in np.flatnonzero(right).tolist())

    def _file(self, path: Path) -> TextIO:
        if path not in self._open:
            partial = self._stack.enter_context(atomic_path(path))
            file = self._stack.enter_context(partial.open("w", encoding="ascii", newline="\n"))
            self._open[path] = file
        return self._open[path]


def best_first(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n, items) int64: the items of each query by falling score; of equal scores those that are right come last.

    scores: (n, items) finite; right: (n, items) bool.
    """
    return np.lexsort((right, -scores), axis=1)


def _paths(folder: Path, name: str, side: str) -> tuple[Path, Path]:
    return folder / f"{name}-{side}.run", folder / f"{name}-{side}.qrels"


def _has_fields(path: Path, count: int) -> bool:
    """Whether the first line of a file, if there is one, has so many fields."""
    try:
        with open(path, encoding="ascii") as file:
            return all(len(line.split()) == count for line in islice(file, 1))
    except (OSError, UnicodeDecodeError):
        return False

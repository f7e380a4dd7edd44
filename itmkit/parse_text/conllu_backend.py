"""CoNLL-U files as a backend of `parse_text`: trees that Stanford CoreNLP, stanza, UDPipe or others wrote.

A caption is found by its characters: it is any run of sentences in a file whose words, one after the other, spell it.
(`spelling.py` leaves out white space and unifies quotes, dashes and escaped brackets.) So sentences may stand in any
order, a caption may have been split into several sentences, identical captions need one copy, and comments such as
`# text` are not needed. If several runs spell a caption, the first counts.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.parse_text.conllu import Tree, read_conllu
from itmkit.parse_text.parsed import LAST_SENTENCE, Coded, ParsedTexts, code
from itmkit.parse_text.penn import unescape
from itmkit.parse_text.spelling import spelled, spelled_with_places

ENDINGS = (".conllu", ".conllu.gz", ".conll", ".conll.gz")
LONG_RUN = 64  # sentences; a longer run is sought only where no other long one was
SHOWN = 5  # missing captions named in an error


class ConlluBackend:
    """`path`: a CoNLL-U file (`.gz` is unpacked) or a folder of them; `texts`: the captions to find in it.

    The files are read when the first captions are parsed. At that point all captions must be in them.
    """

    def __init__(self, path: str | Path | None, texts: Sequence[str]) -> None:
        if path is None:
            raise ItmkitError("--parser conllu needs --model FILE|FOLDER: the CoNLL-U file, or a folder of them")
        self._path = Path(path)
        self._files = _files(self._path)
        self._texts = texts

    @cached_property
    def model(self) -> dict[str, Any]:
        if not self._path.is_dir():
            return {"id": self._path.name, "sha256": sha256_file(self._path)}
        state = hashlib.sha256()
        for file in self._files:
            state.update(f"{file.relative_to(self._path).as_posix()} {sha256_file(file)}\n".encode())
        return {"id": self._path.resolve().name, "sha256": state.hexdigest()}

    def parse(self, texts: Sequence[str], batch_size: int) -> ParsedTexts:
        """See `Backend`."""
        runs = [self._found.run(text) for text in texts]
        sentences, trees = [k for run in runs for k in run], self._found.trees
        spans = [trees.place(text, run) for text, run in zip(texts, runs, strict=True)]
        flat = np.array([w for k in sentences for w in trees.words_of(k)], np.int64)
        sizes = [len(trees.words_of(k)) for k in sentences]
        lengths = [len(starts) for _, starts, _ in spans]
        # The first word of each sentence, counted within its caption.
        before = [trees.words_of(k).start - trees.words_of(run.start).start for run in runs for k in run]
        numbers = np.repeat([k - run.start for run in runs for k in run], sizes)
        return ParsedTexts(
            lengths=np.array(lengths, np.int64),
            words=code([word for words, _, _ in spans for word in words]),
            lemmas=trees.lemmas.at(flat),
            pos=trees.pos.at(flat),
            relations=trees.relations.at(flat),
            heads=(np.array(trees.heads, np.int32)[flat] + np.repeat(before, sizes)).astype(np.int32),
            starts=np.array([start for _, starts, _ in spans for start in starts], np.int32),
            ends=np.array([end for _, _, ends in spans for end in ends], np.int32),
            sentences=np.minimum(numbers, LAST_SENTENCE).astype(np.int16),
        )

    @cached_property
    def _found(self) -> _Captions:
        trees = _Trees()
        captions = _Captions(trees, self._texts)
        for file in self._files:
            first = len(trees)
            for tree in read_conllu(file):
                trees.add(tree, file)
            captions.look(first, len(trees))
        if missing := captions.missing(self._texts):
            shown = [f"  {text if len(text) <= 200 else text[:200] + ' ...'}" for text in missing[:SHOWN]]
            more = f"\n  and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise ItmkitError(
                f"{self._path}: no run of its {len(trees)} sentences spells {len(missing)} of"
                f" {len(self._texts)} captions:\n" + "\n".join(shown) + more + "\n"
                "Parse the captions as they stand in dataset.jsonl, with a tokeniser that drops or changes no character"
                " (docs/text.md names CoreNLP's options)"
            )
        return captions


class _Column:
    """Strings of all words as codes."""

    def __init__(self) -> None:
        self.codes = array("i")
        self.places: dict[str, int] = {}

    def add(self, string: str) -> int:
        place = self.places.setdefault(string, len(self.places))
        self.codes.append(place)
        return place

    @cached_property
    def strings(self) -> list[str]:
        return list(self.places)

    def at(self, words: np.ndarray) -> Coded:
        return Coded(np.frombuffer(self.codes, np.int32)[words] if len(words) else np.zeros(0, np.int32), self.strings)


class _Trees:
    """All sentences of all files, a few numbers a word.

    `surfaces`: what a word stands for in the caption: itself; for the first word of a multi-word token that is not
    its words joined, the token; for the others of such a token "", the same characters again.
    """

    def __init__(self) -> None:
        self.words, self.surfaces, self.lemmas, self.pos, self.relations = (_Column() for _ in range(5))
        self.heads = array("i")  # within the sentence
        self._edges = array("q", [0])
        self._spelled: list[str] = []  # of each distinct surface

    def __len__(self) -> int:
        return len(self._edges) - 1

    def words_of(self, sentence: int) -> range:
        return range(self._edges[sentence], self._edges[sentence + 1])

    def add(self, tree: Tree, file: Path) -> None:
        surfaces = list(tree.words)
        for first, last, token in tree.surfaces:
            if spelled("".join(tree.words[first : last + 1])) != spelled(token):
                surfaces[first : last + 1] = [token] + [""] * (last - first)
        for i, word in enumerate(tree.words):
            surface = self.surfaces.add(surfaces[i])
            if surface == len(self._spelled):
                self._spelled.append(spelled(surfaces[i]))
            if surfaces[i] and not self._spelled[surface]:
                raise ItmkitError(f"{file}: word {i + 1} of the sentence {' '.join(tree.words)!r} is white space")
            self.words.add(word)
            lemma = tree.lemmas[i]
            self.lemmas.add(unescape(lemma) if lemma not in ("", "_") else unescape(word).lower())
            self.pos.add("X" if tree.pos[i] == "_" else tree.pos[i])
            self.relations.add("dep" if tree.relations[i] == "_" else tree.relations[i])
        self.heads.extend(tree.heads)
        self._edges.append(len(self.heads))

    def spellings(self, sentence: int) -> list[str]:
        """What a sentence spells. If its full stop may belong to an abbreviation, also what it spells without it.

        CoreNLP writes the full stop twice in a sentence that ends in `U.K.`.
        """
        pieces = [self._spelled[self.surfaces.codes[word]] for word in self.words_of(sentence)]
        whole = ["".join(pieces)]
        return [*whole, whole[0][:-1]] if _twice(pieces) else whole

    def place(self, text: str, run: range) -> tuple[list[str], list[int], list[int]]:
        """Words of a run of sentences as the caption writes them, and where each starts and ends there."""
        spelling, firsts, lasts = spelled_with_places(text)
        words: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = start = end = 0
        for word in (word for sentence in run for word in self.words_of(sentence)):
            surface = self.surfaces.codes[word]
            form = self.words.strings[self.words.codes[word]]
            size = len(self._spelled[surface])
            if size and not spelling.startswith(self._spelled[surface], at):
                at -= 1  # the full stop of the abbreviation before it
            if size:
                start, end = firsts[at], lasts[at + size - 1]
                at += size
            whole = self.surfaces.strings[surface] == form
            words.append(text[start:end] if whole else unescape(form))
            starts.append(start)
            ends.append(end)
        return words, starts, ends


class _Captions:
    """The run of sentences that each caption corresponds to."""

    def __init__(self, trees: _Trees, texts: Sequence[str]) -> None:
        self.trees = trees
        self._spelled = sorted({spelled(text) for text in texts} - {""})
        self._first = array("q", [-1]) * len(self._spelled)
        self._end = array("q", [-1]) * len(self._spelled)

    def look(self, first: int, end: int) -> None:
        """Looks for captions among the sentences of a file, by narrowing the sorted captions sentence by sentence."""
        reach = first
        for start in range(first, end):
            begun = [(0, len(self._spelled), 0)]  # captions low to high begin alike for that many characters
            for sentence in range(start, end):
                pieces = self.trees.spellings(sentence)
                begun = [self._narrowed(piece, *among) for among in begun for piece in pieces]
                begun = [(low, high, length) for low, high, length in begun if low < high]
                if not begun:
                    break
                for low, _, length in begun:
                    if len(self._spelled[low]) == length and self._first[low] < 0:
                        self._first[low], self._end[low] = start, sentence + 1
                if start < reach and sentence - start >= LONG_RUN:
                    break  # so that time does not grow with the square of a run's length
            if sentence - start >= LONG_RUN:
                reach = max(reach, sentence)

    def _narrowed(self, piece: str, low: int, high: int, length: int) -> tuple[int, int, int]:
        """Of the captions low to high, alike in their first `length` characters, those that go on with `piece`."""

        def there(caption: str) -> str:
            return caption[length : length + len(piece)]

        low = bisect_left(self._spelled, piece, low, high, key=there)
        return low, bisect_right(self._spelled, piece, low, high, key=there), length + len(piece)

    def run(self, text: str) -> range:
        """The sentences of a caption; none if it is white space or was not found."""
        wanted = spelled(text)
        place = bisect_left(self._spelled, wanted)
        if place == len(self._spelled) or self._spelled[place] != wanted or self._first[place] < 0:
            return range(0)
        return range(self._first[place], self._end[place])

    def missing(self, texts: Sequence[str]) -> list[str]:
        if -1 not in self._first:
            return []
        return [text for text in texts if spelled(text) and not self.run(text)]


def _twice(pieces: list[str]) -> bool:
    return len(pieces) > 1 and pieces[-1] == "." and len(pieces[-2]) > 1 and pieces[-2].endswith(".")


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ItmkitError(f"{path}: no such file or folder of CoNLL-U")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(ENDINGS))
    if not files:
        raise ItmkitError(f"{path}: no file in this folder ends in {', '.join(ENDINGS)}")
    return files

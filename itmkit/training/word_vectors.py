"""`--word-vectors FILE`: learned word vectors begin with those of a file, such as GloVe's, instead of at random.

The file is text, a word and its numbers a line: as GloVe writes it, or word2vec and fastText with a first line of two
counts. It is read a line at a time, and only the vectors of words that the run knows are kept.
"""

from __future__ import annotations

import hashlib
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from itmkit.errors import ItmkitError
from itmkit.inputs.vocabulary import SPECIAL, Vocabulary
from itmkit.matchers.parts.encoders import WordEncoder

FILE = "word-vectors"  # the name under which run.json has the digest of the file
LONGEST = 1 << 20  # bytes of a line
TOLD = 5  # lines that are told to be wrong


@dataclass(frozen=True)
class WordVectors:
    """Of the words that a file and a vocabulary share.

    Attributes:
        numbers: (n,) int64, of the words in the vocabulary.
        vectors: (n, V) float32.
        digest: hex sha256 of the file.
    """

    numbers: np.ndarray
    vectors: np.ndarray
    digest: str

    def note(self, path: Path, vocabulary: Vocabulary) -> str:
        """How many words begin with a vector of the file."""
        words, found = len(vocabulary) - len(SPECIAL), len(self.numbers)
        rest = f"; the other {words - found:,} begin at random" if found < words else ""
        return f"{path}: {found:,} of {words:,} words begin with its vectors{rest}"

    @torch.no_grad()
    def give(self, members: Mapping[str, nn.Module]) -> None:
        """Writes the vectors into the word encoders of all members; words that the file lacks stay as they are."""
        for matcher in members.values():
            for module in matcher.modules():
                if isinstance(module, WordEncoder) and module.kind == "gru":
                    module.embedding.weight[torch.from_numpy(self.numbers)] = torch.from_numpy(self.vectors)


def read_word_vectors(path: Path, vocabulary: Vocabulary, size: int) -> WordVectors:
    """The vectors of the words of a vocabulary. Of a word that a file has twice the first one counts.

    Args:
        size: how many numbers a vector must have, `--word`.

    Raises:
        ItmkitError: there is no such file, it is none of word vectors, they have another size, some are damaged, or
            none is of a word of the vocabulary.
    """
    wanted = {word.encode(): number for number, word in enumerate(vocabulary.words) if number >= len(SPECIAL)}
    state, problems, found, first = hashlib.sha256(), [], dict[int, np.ndarray](), True
    for place, line in _lines(path):
        state.update(line)
        line = line.removeprefix(BOM_UTF8) if place == 1 else line
        if place == 1 and _is_header(line):
            _check_size(path, int(line.split()[1]), size)
            continue
        if first:  # which says what the file is, whatever its word
            _check_first(path, place, line, size)
            first = False
        word, *rest = line.split(None, 1)[:2] or [b""]
        number = wanted.get(word)
        if number is None or number in found:
            continue
        values = rest[0].split() if rest else []
        if len(values) > size:  # a phrase whose first word is known: some files have them, with blanks in them
            continue
        if wrong := _wrong(values, size):
            problems.append(f"{path}: line {place}: {wrong}")
            if len(problems) == TOLD:
                break
        else:
            found[number] = np.array(values).astype(np.float32)
    if problems:
        raise ItmkitError(problems)
    if not found:
        raise ItmkitError(
            f"{path}: has none of the {len(wanted):,} words of the training captions; is it of another language?"
        )
    return WordVectors(np.array(list(found), np.int64), np.stack(list(found.values())), state.hexdigest())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            place = 0
            while line := file.readline(LONGEST + 1):
                place += 1
                if len(line) > LONGEST:
                    raise ItmkitError(
                        f"{path}: line {place}: longer than {LONGEST:,} bytes, which no line of word vectors is; a text"
                        " file of GloVe or word2vec is needed"
                    )
                yield place, line
    except OSError as error:
        raise ItmkitError(f"--word-vectors {path}: {error.strerror or error}; name a file of word vectors") from None


def _is_header(line: bytes) -> bool:
    """Whether it is word2vec's first line, the number of words and the size of their vectors."""
    fields = line.split()
    return len(fields) == 2 and all(field.isdigit() and len(field) < 10 for field in fields)


def _check_size(path: Path, there: int, size: int) -> None:
    if there != size:
        raise ItmkitError(
            f"{path}: its vectors have {there:,} numbers, and --word is {size:,}: train with --word {there}, or choose"
            " another file"
        )


def _check_first(path: Path, place: int, line: bytes, size: int) -> None:
    """Raises ItmkitError where the first vector is none, or of another size."""
    values = line.split()[1:]
    if not values or _wrong(values, len(values)):
        raise ItmkitError(
            f"{path}: line {place}: is no word with its numbers; a text file of GloVe or word2vec is needed (unpack"
            " archives, and save binary files of word2vec as text)"
        )
    _check_size(path, len(values), size)


def _wrong(values: list[bytes], size: int) -> str:
    """What is wrong with the numbers of a line; nothing where they are as they must be."""
    if len(values) != size:
        return f"{len(values)} numbers instead of {size}"
    try:
        found = np.array(values).astype(np.float64)
    except ValueError:
        return "not all of its fields are numbers"
    fits = np.abs(found) <= np.finfo(np.float32).max  # which NaN is not either
    return "" if fits.all() else "holds NaN or infinity, or a number too large"

"""The vocabulary that belongs to published weights: the JSON file beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from itmkit.errors import ItmkitError
from itmkit.import_checkpoint.published import Form
from itmkit.import_checkpoint.read import Checkpoint
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.parse_text.wordpiece_backend import read_pieces

MASK = "<mask>"
CONVERT = (
    "where you trust it, write its words once with `json.dump({'word2idx': v.word2idx, 'idx2word': v.idx2word, 'idx':"
    " v.idx}, open(NEW, 'w'))`"
)


def read_words(path: Path, form: Form, checkpoint: Checkpoint) -> Vocabulary:
    """The words of a published model, or the word pieces of its BERT, numbered as its embedding numbers them.

    Raises:
        ItmkitError: the file is a pickle or no vocabulary, or has another number of words than the embedding.
    """
    if form.bert:
        pieces = Vocabulary(read_pieces(path), lower=False)
        _check_rows(path, len(pieces), "word pieces", form, checkpoint)
        return pieces
    if not path.is_file():
        raise ItmkitError(f"{path}: no such file")
    with open(path, "rb") as file:
        head = file.read(2)
    if path.suffix == ".pkl" or head[:1] == b"\x80":
        raise ItmkitError(f"{path}: a pickled vocabulary, which can run code when it is read and is refused; {CONVERT}")
    vocabulary = Vocabulary.read(path)
    rows, words = len(checkpoint.parts[1][form.embedding]), vocabulary.words
    if form.mask_word and rows == len(words) + 1 and MASK not in words:
        words = (*words, MASK)
    _check_rows(path, len(words), f"words (and {MASK})" if form.mask_word else "words", form, checkpoint)
    problems = []
    own = checkpoint.options.get("word2idx")
    if isinstance(own, dict) and own != {word: number for number, word in enumerate(words)}:
        problems.append(f"{path}: its words are not those in opt.word2idx of {checkpoint.path}")
    if "b'a" in words:
        problems.append(
            f"{path}: was made of captions as Python 3 prints bytes (b'a dog'), and so were the weights: words of such"
            " captions are not made here"
        )
    if problems:
        raise ItmkitError(problems)
    return replace(Vocabulary(words), lower=not form.ascii_letters)


def _check_rows(path: Path, words: int, what: str, form: Form, checkpoint: Checkpoint) -> None:
    rows = len(checkpoint.parts[1][form.embedding])
    if rows != words:
        raise ItmkitError(
            f"{path}: has {words:,} {what}, and {form.embedding} of {checkpoint.path} has {rows:,} rows: they do not"
            " belong together"
        )

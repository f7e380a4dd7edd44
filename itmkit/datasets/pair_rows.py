"""A picture and its captions as one line of a file has them, and which columns or keys hold them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Names that programs use for the two columns, the usual ones first.
IMAGE_NAMES = (
    "image",
    "file_name",
    "filename",
    "filepath",
    "file_path",
    "image_name",
    "image_path",
    "image_file",
    "img",
    "img_path",
    "path",
    "file",
    "image_id",
)
KAGGLE = ["image_name", "comment_number", "comment"]  # the columns of Kaggle's results.csv
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "sentences", "title", "comment", "description", "raw")
# Columns such as caption_1, caption2 and so on, which together hold the captions.
NUMBERED = re.compile(rf"({'|'.join(CAPTION_NAMES)})[ _-]?\d+")
LABELS_SEPARATOR = ";"  # between the labels of one cell


@dataclass(frozen=True)
class PairRow:
    """One line: a picture and one or more captions. `split` is None where the line says none."""

    place: str
    image: str
    captions: list[str]
    split: str | None
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """What the user says about the columns of a table, or the keys of JSON objects.

    delimiter: what separates the cells of a table; None: by the file's name and its first line. image, captions: the
    names of the columns; None and (): by the usual names.
    """

    delimiter: str | None = None
    image: str | None = None
    captions: tuple[str, ...] = ()


USUAL_COLUMNS = Columns()


def image_name(names: Sequence[str], columns: Columns) -> str | None:
    """The name of the column of pictures; None where there is none. `names` are in lower case."""
    wanted = IMAGE_NAMES if columns.image is None else (columns.image.lower(),)
    return next((name for name in wanted if name in names), None)


def caption_names(names: Sequence[str], columns: Columns) -> list[str]:
    """The names of the columns of captions, each once; none where one of those the user named is missing."""
    if columns.captions:
        wanted = [name.lower() for name in columns.captions]
        return wanted if set(wanted) <= set(names) else []
    usual = next((name for name in CAPTION_NAMES if name in names), None)
    if usual is not None:
        return [usual]
    return [name for name in dict.fromkeys(names) if NUMBERED.fullmatch(name)]


def labels_of(text: str) -> tuple[str, ...]:
    """The labels of one cell."""
    return tuple(label.strip() for label in text.split(LABELS_SEPARATOR) if label.strip())

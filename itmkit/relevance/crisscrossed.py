"""Ratings of Crisscrossed Captions: how well captions of COCO fit its images, from 0 to 5.

caption,image,agg_score,sampling_method                                        sits_val.csv, sits_test.csv
COCO_val2014:sentid:732091,COCO_val2014_000000365325.jpg,2.2,c2i_intrasim

`c2i_original` are an image and one of its own captions, `c2i_intrasim` others. The files of two captions (sts) and of
two images (sis) rate no image and caption.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from itmkit.coco_names import coco_number
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.files import utf8_lines

LOWEST, HIGHEST = 0, 5
ADVICE = "Prepare COCO with `karpathy dataset_coco.json --captions all`, whose ids these are"
_OWN = "c2i_original"
_CAPTION = re.compile(r"(?:COCO_(?:train|val|test)[0-9]{4}:sentid:)?0*([0-9]{1,12})")
_COLUMNS = ("caption", "image", "agg_score")


def rows(file: Path, own: set[tuple[str, str]], problems: list[str]) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """(COCO's number of the image, that of the caption, the rating) of every line.

    Args:
        own: takes the pairs that are an image and one of its own captions, as far as the file says it.
    """
    if not file.is_file():
        problems.append(f"{file}: no such file")
        return
    seen: dict[tuple[str, str], int] = {}
    places: list[int] | None = None
    for number, line in utf8_lines(file, problems):
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]), [])]
        except csv.Error:  # a cell longer than any of these files has
            cells = []
        if places is None:
            places = _places(file, cells)
            continue
        if not line.strip():
            continue
        caption, image, score = (cells[place] if place < len(cells) else "" for place in places)
        found = _CAPTION.fullmatch(caption), coco_number(PurePosixPath(image).stem)
        value = _rating(score)
        if found[0] is None or found[1] is None or value is None:
            problems.append(
                f"{file}: line {number}: expected COCO_val2014:sentid:NUMBER, COCO_val2014_NUMBER.jpg and a rating from"
                f" {LOWEST} to {HIGHEST}; found {line[:80]!r}"
            )
            continue
        pair = found[1], found[0][1]
        if pair in seen:
            problems.append(f"{file}: line {number}: {image} and {caption} are rated before, in line {seen[pair]}")
            continue
        seen[pair] = number
        if _OWN in cells:
            own.add(pair)
        yield *pair, (value,)
    if places is None and not problems:
        problems.append(f"{file}: is empty")


def image_places(images: Sequence[ImageRecord]) -> dict[str, int]:
    """{COCO's number: place} by the ids of images, or else by the names of their files."""
    places: dict[str, int] = {}
    for names in ([image.id for image in images], [image.file or "" for image in images]):
        for place, name in enumerate(names):
            if found := coco_number(PurePosixPath(name).stem):
                places.setdefault(found, place)
    return places


def caption_places(images: Sequence[ImageRecord]) -> dict[str, int]:
    """{COCO's number: the caption's place among all}, by the captions' ids."""
    captions = (caption for image in images for caption in image.captions)
    return {found[1]: at for at, caption in enumerate(captions) if (found := _CAPTION.fullmatch(caption.id))}


def check_ids(
    file: Path,
    own: Iterable[tuple[str, str]],
    image_at: Mapping[str, int],
    caption_at: Mapping[str, int],
    owner: Sequence[int] | np.ndarray,
) -> None:
    """Makes sure that the numbers in a data set's ids are COCO's, which any number looks like.

    Args:
        own: from `rows`. image_at, caption_at: from `image_places` and `caption_places`. owner: (m,) the image of each
            caption.

    Raises:
        ItmkitError: an image's own caption belongs to another image here.
    """
    known = [(image, caption) for image, caption in own if image in image_at and caption in caption_at]
    wrong = [pair for pair in known if owner[caption_at[pair[1]]] != image_at[pair[0]]]
    if wrong:
        raise ItmkitError(
            f"{file}: caption {wrong[0][1]} is one of image {wrong[0][0]}, and of another image in this data set"
            f" ({len(wrong):,} of {len(known):,} such pairs), whose ids are not COCO's then. {ADVICE}"
        )


def _places(file: Path, names: Sequence[str]) -> list[int]:
    """Where the three columns are."""
    for twice, what in (("caption1", "two captions"), ("image1", "two images")):
        if twice in names:
            raise ItmkitError(
                f"{file}: rates pairs of {what}, and a run scores images with captions; name sits_val.csv or"
                " sits_test.csv"
            )
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise ItmkitError(
            f"{file}: line 1: has no column {' and no column '.join(missing)}; the columns of sits_test.csv are"
            " caption,image,agg_score,sampling_method"
        )
    return [names.index(name) for name in _COLUMNS]


def _rating(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if LOWEST <= value <= HIGHEST else None

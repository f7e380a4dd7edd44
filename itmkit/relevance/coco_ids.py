"""COCO's own ids of a data set's images and captions, by which judgements of COCO's captions name them.

The ground truth of ECCV-Caption (the folder `eccv_caption/data` of naver-ai/eccv-caption) says which captions belong
to the 5,000 test images of Karpathy's split:

original_caption_to_image.json  {"annotation id of a caption": [its image's id]}, 25,000 of them
coco_test_ids.npy               (25000,) the same annotation ids, in the order of the SCAN caption files (testall)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from itmkit.caption_text import evenly_spelled
from itmkit.coco_names import coco_number
from itmkit.dataset import ImageRecord
from itmkit.datasets.fields import integer_or_string, objects_in, string
from itmkit.errors import ItmkitError
from itmkit.files import read_json

UNKNOWN = -1


@dataclass(frozen=True)
class CocoIds:
    """images: (n_images,) int64, captions: (n_captions,) int64 annotation ids; UNKNOWN where there is none.

    Captions are in the order of their images. `found_by` says in words how they were found.
    """

    images: np.ndarray
    captions: np.ndarray
    found_by: str


def coco_ids(
    images: Sequence[ImageRecord], folder: Path, *, captions: Sequence[Path] = (), in_order: bool = False
) -> CocoIds:
    """Finds COCO's ids of the images of a split and of their captions.

    Without `captions` and `in_order` the data set's own caption ids are taken (of `prepare coco`, and of `prepare
    karpathy` where the file's `sentid` are annotation ids). They are checked: an id counts where the ground truth
    gives it to the caption's image.

    Args:
        folder: of ECCV-Caption's ground truth.
        captions: COCO's caption files (captions_val2014.json); captions are found by their image and text.
        in_order: the captions of an image are those of `coco_test_ids.npy` in that order, as in the SCAN files
            (`import-features scan`). Images whose ids are not COCO's must be all 5,000, in that order too.

    Raises:
        ItmkitError: saying what is missing for the way asked for, and which other way there is.
    """
    if not images:
        raise ItmkitError("there are no images to judge")
    owners = read_pairs(folder, "original_caption_to_image.json")
    if (owners.lengths != 1).any():
        raise ItmkitError(f"{owners.path}: a caption has several images; is it the file of ECCV-Caption?")
    owner = dict(zip(owners.keys.tolist(), owners.items.tolist(), strict=True))
    numbers = [_coco_number(image.id) for image in images]
    if captions:
        return _by_text(images, numbers, captions)
    if in_order:
        return _by_order(images, numbers, owner, folder)
    own = [
        int(caption.id) if caption.id.isdecimal() and owner.get(int(caption.id)) == number != UNKNOWN else UNKNOWN
        for image, number in zip(images, numbers, strict=True)
        for caption in image.captions
    ]
    if all(id == UNKNOWN for id in own):
        first = images[0]
        raise ItmkitError(
            f"{owners.path}: none of the {len(own):,} caption ids of this split (such as {first.captions[0].id!r} of"
            f" image {first.id!r}) is COCO's annotation id of one of its images. Name COCO's caption file"
            " (captions_val2014.json) to find captions by image and text, or say that they are in the order of the"
            " SCAN files (testall_caps.txt)"
        )
    return CocoIds(np.array(numbers, np.int64), np.array(own, np.int64), "the data set's caption ids")


def _coco_number(id: str) -> int:
    """The number of "391895" or "val2014/COCO_val2014_000000391895.jpg"."""
    number = coco_number(PurePosixPath(id).stem)
    return UNKNOWN if number is None else int(number)


def _by_text(images: Sequence[ImageRecord], numbers: Sequence[int], files: Sequence[Path]) -> CocoIds:
    """An image's captions by their text; of equal texts of one image the first has the smallest id."""
    problems: list[str] = []
    wanted = set(numbers) - {UNKNOWN}
    found: dict[tuple[int, str], list[int]] = {}
    for file in files:
        try:
            _add_ids(file, wanted, found, problems)
        except ItmkitError as error:
            problems += error.problems
    names = ", ".join(map(str, files))
    if not wanted:
        problems.append(
            f"{names}: captions are found by image and text, but image ids such as {images[0].id!r} are not COCO's;"
            " say instead that the captions are in the order of the SCAN files, where they are"
        )
    elif not found and not problems:
        problems.append(f"{names}: describes none of these images; is it captions_val2014.json?")
    if problems:
        raise ItmkitError(problems)
    for ids in found.values():
        ids.sort(reverse=True)
    captions = [
        same.pop() if (same := found.get((number, _plain(caption.text)))) else UNKNOWN
        for image, number in zip(images, numbers, strict=True)
        for caption in image.captions
    ]
    return CocoIds(np.array(numbers, np.int64), np.array(captions, np.int64), f"image and text in {names}")


def _add_ids(file: Path, wanted: set[int], found: dict[tuple[int, str], list[int]], problems: list[str]) -> None:
    """Adds the annotation ids of the wanted images' captions, by image and text."""
    for place, entry in objects_in(file, "annotations", problems):
        id, image = (integer_or_string(entry, key, place, problems) for key in ("id", "image_id"))
        text = string(entry, "caption", place, problems)
        if id.isdecimal() and image.isdecimal():
            if int(image) in wanted:
                found.setdefault((int(image), _plain(text)), []).append(int(id))
        elif id and image:
            problems.append(f"{place}: id {id!r} and image_id {image!r} are not COCO's numbers")


def _plain(text: str) -> str:
    """As captions are compared: COCO's files have the spelling of their authors, data sets one spelling."""
    return " ".join(evenly_spelled(text).split())


def _by_order(images: Sequence[ImageRecord], numbers: Sequence[int], owner: dict[int, int], folder: Path) -> CocoIds:
    path = (
        folder / "coco_test_ids.npy" if (folder / "coco_test_ids.npy").exists() else _one(folder, "coco_test_ids.npy")
    )
    order = _read_order(path)
    strange = [id for id in order.tolist() if id not in owner]
    if strange:
        raise ItmkitError(f"{path}: {len(strange)} of its ids, such as {strange[0]}, are not in the ground truth")
    of_image: dict[int, list[int]] = {}
    for id in order.tolist():
        of_image.setdefault(owner[id], []).append(id)
    counts = [len(image.captions) for image in images]
    if UNKNOWN in numbers:  # the ids say nothing; then only the whole split can be in this order
        if [len(ids) for ids in of_image.values()] != counts:
            raise ItmkitError(
                f"{path}: has {len(order):,} captions of {len(of_image):,} images, this split {sum(counts):,} of"
                f" {len(counts):,}. Image ids such as {images[numbers.index(UNKNOWN)].id!r} are not COCO's, so that"
                " they can only be counted off; take all images of testall, with the file of their ids"
                " (testall_ids.txt) where some are missing"
            )
        return CocoIds(np.fromiter(of_image, np.int64), order, f"the order of {path}")
    wrong = [
        f"image {image.id!r} has {count} captions, {path} {len(of_image[number])}"
        for image, number, count in zip(images, numbers, counts, strict=True)
        if number in of_image and count != len(of_image[number])
    ]
    if wrong:
        raise ItmkitError(wrong)
    if not of_image.keys() & set(numbers):
        raise ItmkitError(f"{path}: has none of the {len(images):,} images of this split, such as {images[0].id!r}")
    placed = (of_image.get(number, [UNKNOWN] * count) for number, count in zip(numbers, counts, strict=True))
    captions = np.fromiter(chain.from_iterable(placed), np.int64, count=sum(counts))
    return CocoIds(np.array(numbers, np.int64), captions, f"the image, and the order of {path}")


def _read_order(path: Path) -> np.ndarray:
    try:
        order = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ItmkitError(f"{path}: cannot be read as .npy ({error})") from None
    if not isinstance(order, np.ndarray) or order.ndim != 1 or order.dtype.kind not in "iu":
        raise ItmkitError(f"{path}: is no list of whole numbers")
    if len(np.unique(order)) != len(order):
        raise ItmkitError(f"{path}: has an annotation id twice")
    return order.astype(np.int64)


@dataclass(frozen=True)
class Pairs:
    """A file of {"id": [ids]}: keys (k,), lengths (k,) of their lists, and all items (sum of lengths,), int64."""

    path: Path
    keys: np.ndarray
    lengths: np.ndarray
    items: np.ndarray


def read_pairs(folder: Path, name: str) -> Pairs:
    """Reads a file of the ground truth. Its name may have something in front, such as `eccv_`.

    Raises:
        ItmkitError: with everything that is wrong with the file.
    """
    path = _one(folder, name)
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise ItmkitError(f"{path}: not an object of ids and lists of ids")
    problems = [f"{path}: {key!r} is not a COCO id" for key in content if not key.isdecimal()]
    problems += [
        f"{path}: {key!r}: not a list of COCO ids"
        for key, items in content.items()
        if not isinstance(items, list) or any(type(item) is not int or item < 0 for item in items)
    ]
    if problems:
        raise ItmkitError(problems)
    lengths = np.fromiter(map(len, content.values()), np.int64, count=len(content))
    items = np.fromiter(chain.from_iterable(content.values()), np.int64, count=int(lengths.sum()))
    return Pairs(path, np.fromiter(map(int, content), np.int64, count=len(content)), lengths, items)


def _one(folder: Path, name: str) -> Path:
    found = [folder / name] if (folder / name).exists() else sorted(folder.glob(f"*_{name}"))
    if len(found) != 1:
        have = f"several ({', '.join(path.name for path in found)})" if found else "none"
        raise ItmkitError(
            f"{folder}: needs one file {name}, has {have}; it is in the folder eccv_caption/data of ECCV-Caption"
        )
    return found[0]

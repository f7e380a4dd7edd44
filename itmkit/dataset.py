"""The data set of a workspace, `dataset.jsonl`. Each line holds one image with its captions.

Every reader under `itmkit.datasets` ends with `write_dataset`, and every stage begins with `read_dataset`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from itmkit.dataset_digests import Digests
from itmkit.dataset_info import INFO, facts_first, info_of
from itmkit.errors import ItmkitError, nearest
from itmkit.files import atomic_path
from itmkit.typed import checked, read_strict_json

SPLITS = ("train", "val", "test")
PICTURES = "images"  # the kind of a data set of pictures without captions
ALL = "all"  # the split of all its pictures


@dataclass(frozen=True, slots=True)
class Caption:
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image. `file` is None where only features were imported; sizes are of the upright picture, in pixels."""

    id: str
    split: str
    captions: tuple[Caption, ...]
    file: str | None = None
    labels: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    supercategories: tuple[str, ...] = ()  # what the labels are kinds of: a dog is an animal

    def to_json(self) -> dict[str, Any]:
        record = {key: value for key, value in asdict(self).items() if value is not None}
        record["labels"] = list(self.labels)
        if not self.supercategories:
            del record["supercategories"]
        return record


@dataclass(frozen=True)
class Dataset:
    """All images of a workspace, in file order, and the facts of `dataset.info.json`."""

    images: list[ImageRecord]
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return str(self.info.get("kind", "unknown"))

    @property
    def images_digest(self) -> str:
        return str(self.info["images_digest"])

    @property
    def captions_digest(self) -> str:
        return str(self.info["captions_digest"])

    @property
    def distinct_texts(self) -> list[str]:
        """Every caption text once, in order of first appearance: the rows of the caches of captions."""
        return list(dict.fromkeys(caption.text for image in self.images for caption in image.captions))

    @property
    def has_captions(self) -> bool:
        """Whether there are any: a data set of the kind `PICTURES` has none."""
        return any(image.captions for image in self.images)

    def check_captions(self, what: str) -> None:
        """Raises ItmkitError saying that `what` ("`itmkit train`") needs captions, if there are none."""
        if not self.has_captions:
            raise ItmkitError(
                f"{what} needs captions, and this data set has pictures alone (`itmkit prepare images`); read pictures"
                " with captions instead (`itmkit prepare csv --force`), or search these with `itmkit photos`"
            )

    def split(self, name: str) -> list[ImageRecord]:
        """The images of one split, in file order. Raises ItmkitError for a split that has no images."""
        chosen = [image for image in self.images if image.split == name]
        if not chosen:
            if name in SPLITS:
                self.check_captions(f"the split {name!r}")
            counts = Counter(i.split for i in self.images)
            have = ", ".join(f"{split} ({n})" for split, n in counts.items())
            close = nearest(name, counts)
            raise ItmkitError(f"split {name!r} has no images in this data set; it has: {have or 'nothing'}{close}")
        return chosen


def image_of_captions(images: Sequence[ImageRecord]) -> np.ndarray:
    """(m,) int64: the place among `images` of each caption's image, captions in the order of their images."""
    return np.repeat(np.arange(len(images)), [len(image.captions) for image in images])


def label_matrix(images: Sequence[ImageRecord]) -> tuple[list[str], np.ndarray]:
    """The names of all labels, sorted, and (n, labels) bool, which of them each image has."""
    names = sorted({label for image in images for label in image.labels})
    place = {name: number for number, name in enumerate(names)}
    found = np.zeros((len(images), len(names)), bool)
    for row, image in enumerate(images):
        found[row, [place[label] for label in image.labels]] = True
    return names, found


def dataset_info(images: Sequence[ImageRecord], *, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Counts per split, and digests of what later stages depend on: the pictures, and the captions."""
    counts: dict[str, dict[str, int]] = {}
    digests = Digests()
    for image in images:
        count = counts.setdefault(image.split, {"images": 0, "captions": 0})
        count["images"] += 1
        count["captions"] += len(image.captions)
        digests.add(image)
    return {
        "schema": 1,
        "kind": kind,
        "settings": settings,
        "counts": counts,
        "images_digest": digests.images,
        "captions_digest": digests.captions,
    }


# JSON can smuggle in halves of surrogate pairs, which no file or hash can hold as UTF-8.
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
NOT_IN_IDS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def wrong_id(text: str) -> str | None:
    """Why `text` cannot be the id of an image or a caption (caches store it, tables show it), or None."""
    if not text.strip():
        return "is empty"
    return "contains control characters or half a surrogate pair" if NOT_IN_IDS.search(text) else None


class Described(Protocol):
    """What `check_described` looks at: an `ImageRecord`, or the draft of one."""

    @property
    def id(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def captions(self) -> Sequence[Caption]: ...


def check_described(
    images: Sequence[Described],
    *,
    splits: Iterable[str] = SPLITS,
    places: Sequence[str] | None = None,
    captionless: bool = False,
) -> list[str]:
    """Finds impossible or repeated ids, unknown splits, images without captions and captions without text.

    Args:
        splits: the known splits.
        places: where each image is described (a file and a line in it). If given, messages begin with the place.
        captionless: images need no captions.
    """
    problems: list[str] = []
    seen_images: dict[str, str] = {}
    seen_captions: dict[str, str] = {}
    for number, image in enumerate(images):
        place, where = places[number] if places is not None else "", _where(image, number, places)

        if reason := wrong_id(image.id):
            problems.append(f"{where}: the id {reason}")
        if image.id in seen_images:
            problems.append(f"{where}: this id occurs before{_at(seen_images[image.id])}")
        seen_images.setdefault(image.id, place)
        if image.split not in splits:
            problems.append(f"{where}: unknown split {image.split!r}; known are {', '.join(splits)}")
        if not image.captions and not captionless:
            problems.append(f"{where}: has no caption")
        for caption in image.captions:
            if not caption.text.strip():
                problems.append(f"{where}: caption {caption.id!r} is empty")
            elif NOT_TEXT.search(caption.text):
                problems.append(f"{where}: caption {caption.id!r} contains NUL or half a surrogate pair")
            if reason := wrong_id(caption.id):
                problems.append(f"{where}: the caption id {caption.id!r} {reason}")
            if caption.id in seen_captions:
                problems.append(f"{where}: the caption id {caption.id!r} occurs before{_at(seen_captions[caption.id])}")
            seen_captions.setdefault(caption.id, place)
    if not images:
        problems.append("no images were found")
    return problems


def _where(image: Described, number: int, places: Sequence[str] | None) -> str:
    return f"image {image.id!r}" if places is None else f"{places[number]}: image {image.id!r}"


def _at(place: str) -> str:
    return f", at {place}" if place else ""


def check_records(images: Sequence[ImageRecord], places: Sequence[str] | None = None, *, kind: str = "") -> list[str]:
    """Everything wrong with finished records, whatever their source; `places` as for `check_described`.

    Args:
        kind: of the data set. Images of the kind `PICTURES` need no captions, and their split may be `ALL`.
    """
    unwritable = [
        f"{_where(image, number, places)}: its file name or a label contains NUL or half a surrogate pair"
        for number, image in enumerate(images)
        if any(NOT_TEXT.search(text) for text in (image.file or "", *image.labels, *image.supercategories))
    ]
    alone = kind == PICTURES
    splits = (*SPLITS, ALL) if alone else SPLITS
    return check_described(images, splits=splits, places=places, captionless=alone) + unwritable


def write_dataset(path: Path, images: Iterable[ImageRecord], *, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Checks all records, writes `path` (`dataset.jsonl`) and `dataset.info.json` beside it, and returns the info.

    Raises:
        ItmkitError: every problem of the data set, before anything is written.
    """
    records = list(images)
    if problems := check_records(records, kind=kind):
        raise ItmkitError(problems)
    info = dataset_info(records, kind=kind, settings=settings)
    lines = [(json.dumps(image.to_json(), ensure_ascii=False) + "\n").encode() for image in records]
    state = hashlib.sha256()
    for line in lines:
        state.update(line)
    with facts_first(path, info, state.hexdigest()), atomic_path(path) as partial, open(partial, "wb") as file:
        file.writelines(lines)
    return info


LABELS = ("labels", "supercategories")  # and, besides id, split and captions, a record may hold:
OPTIONAL = {"file": str, "width": int, "height": int, "bytes": int, "sha256": str}


def _record(line: str, place: str, problems: list[str]) -> ImageRecord | None:
    advice = "put the line right, or run `itmkit prepare --force`"
    try:
        raw = json.loads(line)
        captions = tuple(Caption(_string(c["id"]), _string(c["text"])) for c in _list(raw["captions"]))
        names: dict[str, Any] = {key: tuple(map(_string, _list(raw.get(key, [])))) for key in LABELS}
        known = {key: raw[key] for key in OPTIONAL if raw.get(key) is not None}
        for key, value in known.items():
            if type(value) is not OPTIONAL[key] or (isinstance(value, int) and value < 0):
                raise TypeError(f"{key} is {value!r}")
        return ImageRecord(_string(raw["id"]), _string(raw["split"]), captions, **names, **known)
    except KeyError as error:
        problems.append(f"{place}: has no key {error}; {advice}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        problems.append(f"{place}: not an image record ({type(error).__name__}: {error}); {advice}")
    return None


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def read_dataset(path: Path) -> Dataset:
    """Reads a `dataset.jsonl`. Raises ItmkitError if it, or the `dataset.info.json` beside it, cannot be used."""
    if not path.exists():
        raise ItmkitError(
            f"{path}: this workspace has no data set; run `itmkit prepare` (or `itmkit import-features`) first"
        )
    problems: list[str] = []
    images: list[ImageRecord] = []
    places: list[str] = []
    state = hashlib.sha256()
    with open(path, "rb") as lines:
        for number, data in enumerate(lines, 1):
            state.update(data)
            place = f"{path}: line {number}"
            try:
                line = data.decode("utf-8")
            except UnicodeDecodeError as error:
                problems.append(f"{place}: byte {error.start} is not UTF-8")
                continue
            record = _record(line, place, problems)
            if record is not None:
                images.append(record)
                places.append(place)
    if not images and not problems:
        problems.append(f"{path}: holds no images; run `itmkit prepare --force`")
    if problems:
        raise ItmkitError(problems)
    beside = info_of(path, state.hexdigest())
    found = read_strict_json(beside) if beside.exists() else {}
    info = checked(INFO, found, beside, "delete it, or run `itmkit prepare --force`")
    if problems := check_records(images, places, kind=info.kind):
        raise ItmkitError(problems)
    # The digests are computed anew, since a user may have edited dataset.jsonl by hand.
    return Dataset(images, dataset_info(images, kind=info.kind, settings=info.settings))

"""Which picture of the data set a set of features belongs to: by id, by file name, or by COCO's number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from itmkit.coco_names import coco_number
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.import_features.scan_layout import some

_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True)
class Matched:
    """`places[image id]` is the place of its features among the ids of the files; `rule` says how they were found."""

    places: dict[str, int]
    rule: str


def match(images: Sequence[ImageRecord], ids: Sequence[str]) -> Matched:
    """Finds the features of every picture.

    The whole set uses one rule, the one that finds the most pictures. Mixed rules would be unsafe: number 5 of a file
    and id 5 of a data set may be different pictures.

    Args:
        ids: the ids of the features, no two equal.

    Raises:
        ItmkitError: no rule finds any picture, or several features or several pictures have one name under the rule.
    """
    best: Matched | None = None
    problems: list[str] = []
    for rule, of_picture, of_feature in _RULES:
        found, wrong = _by_rule(images, ids, rule, of_picture, of_feature)
        if found and (best is None or len(found) > len(best.places)):
            best, problems = Matched(found, rule), wrong
    if best is None:
        raise ItmkitError(
            f"none of the {len(ids)} features belongs to a picture of the data set: the ids in the files are such as"
            f" {', '.join(map(repr, ids[:3]))}, those of the data set {', '.join(repr(i.id) for i in images[:3])}"
            f" (files {', '.join(repr(i.file) for i in images[:3])})"
        )
    if problems:
        raise ItmkitError(problems)
    return best


def _by_rule(
    images: Sequence[ImageRecord],
    ids: Sequence[str],
    rule: str,
    of_picture: Callable[[ImageRecord], str | None],
    of_feature: Callable[[str], str | None],
) -> tuple[dict[str, int], list[str]]:
    pictures: dict[str, str] = {}
    problems: dict[str, list[str]] = {"pictures of the data set": [], "features": []}
    shared: list[tuple[str, str]] = []
    for image in images:
        name = of_picture(image)
        if name is not None and pictures.setdefault(name, image.id) != image.id:
            shared.append((name, f"{pictures[name]!r} and {image.id!r}"))
    places: dict[str, int] = {}
    for place, key in enumerate(ids):
        found = pictures.get(of_feature(key) or "")
        if found is not None and places.setdefault(found, place) != place:
            problems["features"].append(f"{ids[places[found]]!r} and {key!r}")
    problems["pictures of the data set"] = [both for name, both in shared if pictures[name] in places]
    words = [f"by {rule}, several {what} are one: {some('pair', pairs)}" for what, pairs in problems.items() if pairs]
    return places, words


def _name(text: str) -> str:
    path = PurePosixPath(text)
    return path.stem if path.suffix.lower() in _ENDINGS else path.name


def _coco(text: str) -> str | None:
    return coco_number(_name(text))


def _file_or_id(image: ImageRecord) -> str:
    return image.file if image.file is not None else image.id


# The rule in words, then the name under it of a picture and of features.
_RULES: tuple[tuple[str, Callable[[ImageRecord], str | None], Callable[[str], str | None]], ...] = (
    ("id", lambda image: image.id, lambda key: key),
    ("file name", lambda image: _name(_file_or_id(image)), _name),
    ("COCO's number", lambda image: _coco(_file_or_id(image)), _coco),
    ("COCO's number", lambda image: _coco(image.id), _coco),
)

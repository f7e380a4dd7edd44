"""MIRFLICKR-25K: pictures with their Flickr tags and 24 labels, as its authors or as the hashing literature pack it.

mirflickr/im1.jpg, meta/tags/tags1.txt      the authors' archive; a tag a line
mirflickr25k_annotations_v080/clouds.txt    the authors' labels; the number of an image a line
all_imgs.txt, all_tags.txt, all_labels.txt  one image a line, in the same order in all three
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Skip
from itmkit.datasets.tagged import (
    USUAL,
    Division,
    Found,
    Listed,
    Tagged,
    first_words,
    read_lists,
    tags_in,
    write_tagged,
)
from itmkit.errors import ItmkitError
from itmkit.files import utf8_lines
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

UNTAGGED = "untagged"  # the caption of a picture without any tag, where all are kept
MIN_COUNT = 20  # images that a tag must occur in, in the literature: 1,386 tags do
TEST = 2000
# Files of labels without names have their columns in the order of the annotation files, which is alphabetical.
LABELS = (
    *("animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor", "lake", "male"),
    *("night", "people", "plant_life", "portrait", "river", "sea", "sky", "structures", "sunset", "transport"),
    *("tree", "water"),
)
# Labels that were annotated a second time: pictures in which the subject matters, not only occurs.
RELEVANT = (
    *("baby", "bird", "car", "clouds", "dog", "female", "flower", "male", "night", "people", "portrait", "river"),
    *("sea", "tree"),
)
COLUMNS = {24: LABELS, 38: tuple(sorted([*LABELS, *(f"{name}_r1" for name in RELEVANT)]))}
ANNOTATIONS = ("mirflickr25k_annotations_v080", "annotations_v080", "annotations")
TAG_FILE = re.compile(r"tags(\d+)\.txt")


def prepare_mirflickr(
    workspace: Workspace,
    folder: Path,
    *,
    images: Path | None = None,
    min_count: int | None = None,
    keep_all: bool = False,
    division: Division = USUAL,
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads the authors' folder, or one with `all_imgs.txt`, `all_tags.txt` and labels, and writes the data set.

    An image's id is the name of its file, `im1.jpg`; its one caption, `im1.jpg#0`, is its tags with blanks between.
    Images without any of the tags, or without a label, are left out and counted.

    Args:
        images: the folder of the pictures. Default: `folder` or `folder/mirflickr`.
        min_count: drops tags that occur in fewer images. If None, `doc/common_tags.txt` or `TagList.txt` says which
            tags are kept. Without such a file it is 20.
        keep_all: keeps every picture: one with none of these tags has all of its own, one without a tag the caption
            "untagged", and labels are not needed.
        division: the splits. If it gives no number, 2,000 images are drawn for testing.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """
    division = division.checked(TEST)
    problems: list[str] = []
    found, words = _read_images(folder, images, problems)
    read = read_lists(division.lists, problems) if division.lists is not None else {}
    _add_labels(found, read, folder, [] if keep_all else problems)

    from_file = min_count is None and words.is_file()
    known = first_words(words, problems) if from_file else None
    tags, count = tags_in([image.tags for image in found], known, min_count or MIN_COUNT)
    notes = _replaced(found, tags) if keep_all else []
    for image, kept in zip(found, tags, strict=True):
        image.tags = kept
    which = words.name if from_file else f"in at least {min_count or MIN_COUNT} images"
    listed = {split: [Path(line.path).name for line in lines] for split, lines in read.items()}
    return write_tagged(
        workspace,
        Found(found, f"the {count:,} tags ({which})", listed, problems, notes, keep_all),
        division,
        kind="mirflickr",
        settings={"min_count": min_count} | ({"keep_all": True} if keep_all else {}),
        skip=skip,
        force=force,
        progress=progress,
    )


def _replaced(images: Sequence[Tagged], tags: list[list[str]]) -> list[str]:
    """Gives images without a tag in `tags` their own rare ones, or the word for none; says how many there are."""
    without = [place for place, kept in enumerate(tags) if not kept]
    for place in without:
        tags[place] = list(dict.fromkeys(images[place].tags)) or [UNTAGGED]
    bare = sum(tags[place] == [UNTAGGED] for place in without)
    rare, unlabelled = len(without) - bare, sum(not image.labels for image in images)
    counts = [(rare, "rare tags alone"), (bare, f"no tag, and the caption {UNTAGGED!r}"), (unlabelled, "no label")]
    return [f"{count:,} of {len(images):,} images have {what}" for count, what in counts if count]


def _read_images(folder: Path, images: Path | None, problems: list[str]) -> tuple[list[Tagged], Path]:
    """The images as one of the two ways of packing has them, and the file that may say which tags are kept."""
    if (folder / "all_imgs.txt").is_file():
        return _read_aligned(folder, images, problems), folder / "TagList.txt"
    root = next((path for path in (folder, folder / "mirflickr") if (path / "meta/tags").is_dir()), None)
    if root is None:
        raise ItmkitError(f"{folder}: has neither all_imgs.txt nor meta/tags; is it the folder of MIRFLICKR-25K?")
    return _read_official(root, folder, images, problems), root / "doc/common_tags.txt"


def _add_labels(images: Sequence[Tagged], read: dict[str, list[Listed]], folder: Path, problems: list[str]) -> None:
    """Gives images that came without labels those that stand in the lists."""
    if not any(image.labels for image in images):
        columns = {Path(line.path).name: line.columns for lines in read.values() for line in lines}
        for image in images:
            image.labels = _named(columns.get(image.id, ()))
    if images and not any(image.labels for image in images):
        places = f"annotation files in {', '.join(ANNOTATIONS)}, all_labels.txt or labels_annotation.txt"
        problems.append(f"{folder}: no labels were found ({places})")


def _named(marks: Sequence[str]) -> tuple[str, ...]:
    """The names of the labels marked "1" among 24 or 38 columns; none where there are other columns."""
    return tuple(name for name, mark in zip(COLUMNS.get(len(marks), ()), marks, strict=False) if mark == "1")


def _read_aligned(folder: Path, images: Path | None, problems: list[str]) -> list[Tagged]:
    """Files with a line an image: names, tags between commas, and labels as columns or names between commas."""
    path = folder / "all_imgs.txt"
    places = [(f"{path}: line {number}", line.strip()) for number, line in utf8_lines(path, problems)]
    tags = [_between_commas(line) for _, line in _lines(folder / "all_tags.txt", problems)]
    labels: list[tuple[str, ...]] = []
    if (folder / "all_labels.txt").is_file():
        for number, line in _lines(folder / "all_labels.txt", problems):
            marks = line.split()
            if len(marks) not in COLUMNS or not set(marks) <= {"0", "1"}:
                place = f"{folder / 'all_labels.txt'}: line {number}"
                problems.append(f"{place}: expected 24 or 38 columns of 0 and 1, found {line[:40]!r}")
            labels.append(_named(marks))
    elif (folder / "labels_annotation.txt").is_file():
        labels = [tuple(_between_commas(line)) for _, line in _lines(folder / "labels_annotation.txt", problems)]
    else:
        labels = [()] * len(places)
    for name, count in (("all_tags.txt", len(tags)), ("the file of labels", len(labels))):
        if count != len(places):
            problems.append(f"{folder}: {name} has {count} lines, all_imgs.txt {len(places)}")
    bases = [images] if images else [folder, folder.absolute().parent]
    problems += [f"{place}: is empty" for place, name in places if not name]
    found = []
    for (place, name), line_tags, line_labels in zip(places, tags, labels, strict=False):
        candidates = [path for base in bases for path in (base / name, base / Path(name).name)]
        found.append(Tagged(Path(name).name, place, candidates, line_tags, line_labels))
    return found


def _lines(path: Path, problems: list[str]) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        problems.append(f"{path}: no such file")
        return
    yield from utf8_lines(path, problems)


def _between_commas(line: str) -> list[str]:
    return [word.strip() for word in line.split(",") if word.strip()]


def _read_official(root: Path, folder: Path, images: Path | None, problems: list[str]) -> list[Tagged]:
    """The authors' archive: every image that has a file of tags, in the order of the numbers."""
    tags = root / "meta/tags"
    numbers = sorted(int(match[1]) for path in tags.iterdir() if (match := TAG_FILE.fullmatch(path.name)))
    if not numbers:
        problems.append(f"{tags}: holds no tags1.txt, tags2.txt, ...")
    labels = _read_annotations(root, folder, problems)
    found = []
    for number in numbers:
        path, name = tags / f"tags{number}.txt", f"im{number}.jpg"
        words = [line.strip() for _, line in utf8_lines(path, problems) if line.strip()]
        found.append(Tagged(name, str(path), [(images or root) / name], words, tuple(labels.get(number, ()))))
    return found


def _read_annotations(root: Path, folder: Path, problems: list[str]) -> dict[int, list[str]]:
    """{number of an image: its labels, alphabetically}, of the 24 files without `_r1`."""
    places = [base / name for base in (folder, root, root.absolute().parent) for name in ANNOTATIONS]
    annotations = next((path for path in places if path.is_dir()), None)
    labels: dict[int, list[str]] = {}
    for path in sorted(annotations.glob("*.txt")) if annotations else ():
        if path.stem.lower() == "readme" or path.stem.endswith("_r1"):
            continue
        for number, line in utf8_lines(path, problems):
            if line.strip().isdecimal():
                labels.setdefault(int(line), []).append(path.stem)
            elif line.strip():
                problems.append(f"{path}: line {number}: expected the number of an image, found {line[:40]!r}")
    return labels

r"""NUS-WIDE as its authors distribute it: pictures with their Flickr tags and 81 concepts as labels.

ImageList/Imagelist.txt                   actor\0001_2124494179.jpg; the second number is Flickr's
NUS_WID_Tags/All_Tags.txt                 2124494179 portrait actor ...; the same order
Groundtruth/AllLabels/Labels_actor.txt    0 or 1 an image, the same order; a file a concept
Flickr/actor/0001_2124494179.jpg          the pictures
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Skip
from itmkit.datasets.tagged import (
    USUAL,
    Division,
    Found,
    Listed,
    Tagged,
    first_words,
    read_list,
    read_lists,
    tags_in,
    write_tagged,
)
from itmkit.errors import ItmkitError, nearest
from itmkit.files import utf8_lines
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

CONCEPTS = 21  # the most frequent ones; the literature takes 21, 10 or all 81
TEST = 2100
FLICKR_ID = re.compile(r"\d+_(\d+)(_\w+)?\.jpe?g", re.IGNORECASE)  # 0001_2124494179.jpg, 9_2124494179_b039ddccac_m.jpg


class _Rows:
    """The images in their order, and which of them a line of some list means."""

    def __init__(self, lines: Sequence[Listed]) -> None:
        self.lines = lines
        self._row_of: dict[str, int] = {}
        for number, line in enumerate(lines):
            for key in _keys(line.path):
                self._row_of.setdefault(key, number)

    def place_of(self, line: Listed) -> int | None:
        return next((self._row_of[key] for key in _keys(line.path) if key in self._row_of), None)

    def id_of(self, line: Listed) -> str | None:
        place = self.place_of(line)
        return None if place is None else self.lines[place].path


def prepare_nuswide(
    workspace: Workspace,
    folder: Path,
    *,
    images: Path | None = None,
    vocabulary: Path | None = None,
    concepts: int | tuple[str, ...] | None = CONCEPTS,
    each: int | None = None,
    division: Division = USUAL,
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads the folder in which the authors' archives were unpacked, and writes the workspace's data set.

    An image's id is its path in `Imagelist.txt` with slashes, `actor/0001_2124494179.jpg`; its one caption is its
    tags with blanks between. Images without any of the tags, or of the concepts, are left out and counted.

    Args:
        images: the folder of the pictures. Default: `folder/Flickr` or `folder/images`.
        vocabulary: a file of the tags to keep. Default: `TagList1k.txt`; without that file all tags are kept.
        concepts: how many of the most frequent concepts become labels, or their names; None takes all.
        each: takes so many images of every one of these concepts, drawn from those that have a tag and none of the
            other ones (NUS-WIDE-10K); None takes all images.
        division: the splits. If it gives no number, 2,100 images are drawn for testing. The lists may also be
            TrainImagelist.txt and TestImagelist.txt.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """
    if each is not None and division.lists is not None:
        raise ItmkitError("--each draws images, and --lists says which; give one of them")
    division = division.checked(TEST)
    problems: list[str] = []
    read = read_lists(division.lists, problems) if division.lists is not None else {}
    image_list = _find(folder, "ImageList/Imagelist.txt", "Imagelist.txt")
    if image_list is None and division.lists is None:
        raise ItmkitError(f"{folder}: has no ImageList/Imagelist.txt; is it the folder of NUS-WIDE? Or name --lists")
    listed = list({line.path: line for lines in read.values() for line in lines}.values())
    rows = _Rows(read_list(image_list, problems) if image_list else listed)

    words = vocabulary or _find(folder, "NUS_WID_Tags/TagList1k.txt", "TagList1k.txt")
    tags = _read_tags(folder, rows.lines, image_list is not None, problems)
    tags, count = tags_in(tags, first_words(words, problems) if words else None, None)
    names, of = _all_labels(folder, rows, listed, image_list is not None, problems)
    found = _images(folder, images, rows, tags, _labels(names, of, concepts, problems))
    found, notes = (found, []) if each is None else _of_each(found, each, division, problems)
    ids = {split: [rows.id_of(line) for line in lines] for split, lines in read.items()}
    return write_tagged(
        workspace,
        Found(found, f"the {count:,} tags ({words.name if words else 'all'})", ids, problems, notes),
        division,
        kind="nuswide",
        settings={"vocabulary": words.name if words else None} | _told(concepts, each),
        skip=skip,
        force=force,
        progress=progress,
    )


def _images(
    folder: Path, images: Path | None, rows: _Rows, tags: list[list[str]], labels: list[tuple[str, ...]]
) -> list[Tagged]:
    """The images with their tags and labels, and where their pictures may lie."""
    bases = [images] if images else [folder / "Flickr", folder / "images", folder]
    found = []
    for row, row_tags, row_labels in zip(rows.lines, tags, labels, strict=True):
        candidates = [path for base in bases for path in (base / row.path, base / Path(row.path).name)]
        found.append(Tagged(row.path, row.place, candidates, row_tags, row_labels))
    return found


def _told(concepts: int | tuple[str, ...] | None, each: int | None) -> dict[str, Any]:
    """Settings as they are kept with the data set."""
    found: dict[str, Any] = {"concepts": list(concepts) if isinstance(concepts, tuple) else concepts}
    return found if each is None else found | {"each": each}


def _of_each(
    images: Sequence[Tagged], each: int, division: Division, problems: list[str]
) -> tuple[list[Tagged], list[str]]:
    """`each` images of every label, drawn from those with tags and no other label; and a note about the others."""
    single = {image.id: image.labels[0] for image in images if image.tags and len(image.labels) == 1}
    drawn: dict[str, list[str]] = {label: [] for image in images for label in image.labels}
    for id in division.order(single):
        drawn[single[id]].append(id)
    problems += [
        f"--each {each}: only {len(ids):,} images have tags and {label!r} as their one label; lower the number, or"
        " name other --concepts"
        for label, ids in sorted(drawn.items())
        if len(ids) < each
    ]
    chosen = {id for ids in drawn.values() for id in ids[:each]}
    note = (
        f"{len(chosen):,} of {len(images):,} images are taken, {each:,} with each of {len(drawn)} labels and no other"
    )
    return [image for image in images if image.id in chosen], [note]


def _find(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _keys(path: str) -> list[str]:
    """What a picture may be recognised by, best first: its path, its file name, its number at Flickr."""
    name = path.rpartition("/")[2]
    match = FLICKR_ID.fullmatch(name)
    return [path, name, *([f"#{match[1]}"] if match else [])]


def _read_tags(folder: Path, rows: Sequence[Listed], in_order: bool, problems: list[str]) -> list[list[str]]:
    """The tags of every image: line by line where the images are those of Imagelist.txt, else by Flickr's number."""
    path = _find(folder, "NUS_WID_Tags/All_Tags.txt", "All_Tags.txt")
    if path is None:
        problems.append(f"{folder}: has no NUS_WID_Tags/All_Tags.txt; without tags there are no captions")
        return [[] for _ in rows]
    lines = [(number, line.split()) for number, line in utf8_lines(path, problems)]
    numbers = [key[-1][1:] if (key := _keys(row.path))[-1].startswith("#") else "" for row in rows]
    if not in_order:
        by_number = {words[0]: words[1:] for _, words in lines if words}
        return [by_number.get(number, []) for number in numbers]
    if len(lines) != len(rows):
        problems.append(f"{path}: has {len(lines)} lines, the list of images {len(rows)}")
    for (line, words), number, row in zip(lines, numbers, rows, strict=False):
        if words[:1] != [number]:
            problems.append(f"{path}: line {line}: expected tags of {number}, as {row.place}; found {words[:1]}")
    tags = [words[1:] for _, words in lines[: len(rows)]]
    return tags + [[] for _ in rows[len(tags) :]]


def _all_labels(
    folder: Path, rows: _Rows, listed: Sequence[Listed], in_order: bool, problems: list[str]
) -> tuple[list[str], np.ndarray]:
    """Names of the concepts, and (n_images, n_concepts) bool: from the files of labels, else from the lists."""
    source = _label_source(folder, in_order)
    if source is None and listed:
        return _labels_of_lists(folder, rows, listed, problems)
    return _read_labels(folder, source, rows, problems)


def _label_source(folder: Path, in_order: bool) -> Path | None:
    """The folder of label files: those of all images in order, else those of the two official lists."""
    every = _find(folder, "Groundtruth/AllLabels", "AllLabels")
    return every if every and in_order else _find(folder, "Groundtruth/TrainTestLabels", "TrainTestLabels")


def _read_labels(folder: Path, source: Path | None, rows: _Rows, problems: list[str]) -> tuple[list[str], np.ndarray]:
    """Names of the concepts, and (n_images, n_concepts) bool."""
    if source is None:
        problems.append(f"{folder}: has neither Groundtruth/AllLabels nor Groundtruth/TrainTestLabels")
        return [], np.zeros((len(rows.lines), 0), bool)
    parts: list[tuple[str, list[int | None]]] = [("", list(range(len(rows.lines))))]
    if source.name != "AllLabels":
        parts = []
        for part in ("Train", "Test"):
            path = _find(folder, f"ImageList/{part}Imagelist.txt", f"{part}Imagelist.txt")
            if path is None:
                problems.append(f"{folder}: has no ImageList/{part}Imagelist.txt, which {source} needs")
            else:
                parts.append((f"_{part}", [rows.place_of(line) for line in read_list(path, problems)]))
    names = _concepts(folder, problems)
    if not names:
        ending = f"{parts[0][0] if parts else ''}.txt"
        names = sorted(path.name[len("Labels_") : -len(ending)] for path in source.glob(f"Labels_*{ending}"))
    of = np.zeros((len(rows.lines), len(names)), bool)
    for column, name in enumerate(names):
        for part, places in parts:
            marks = _read_marks(source / f"Labels_{name}{part}.txt", len(places), problems)
            known = [place for place, mark in zip(places, marks, strict=True) if mark and place is not None]
            of[known, column] = True
    return names, of


def _read_marks(path: Path, count: int, problems: list[str]) -> np.ndarray:
    """(count,) bool: the lines that are 1."""
    if not path.is_file():
        problems.append(f"{path}: no such file")
        return np.zeros(count, bool)
    marks = np.array(path.read_bytes().split(), np.bytes_)
    if len(marks) != count:
        problems.append(f"{path}: has {len(marks)} lines, the list of its images {count}")
        return np.zeros(count, bool)
    for number in np.flatnonzero((marks != b"0") & (marks != b"1")):
        problems.append(
            f"{path}: line {number + 1}: expected 0 or 1, found {marks[number].decode('utf-8', 'replace')!r}"
        )
    return marks == b"1"


def _concepts(folder: Path, problems: list[str]) -> list[str]:
    path = _find(folder, "ConceptsList/Concepts81.txt", "Concepts81.txt")
    return first_words(path, problems) if path else []


def _labels_of_lists(
    folder: Path, rows: _Rows, listed: Sequence[Listed], problems: list[str]
) -> tuple[list[str], np.ndarray]:
    """The labels that stand in the lists; their columns have names where Concepts81.txt has as many."""
    width = max((len(line.columns) for line in listed), default=0)
    if not width:
        problems.append(f"{folder}: has no Groundtruth, and the lists have no labels")
    names = _concepts(folder, problems)
    if len(names) != width:
        names = [f"concept {number}" for number in range(1, width + 1)]
    of = np.zeros((len(rows.lines), width), bool)
    for line in listed:
        place = rows.place_of(line)
        if place is not None and len(line.columns) == width:
            of[place] |= [mark == "1" for mark in line.columns]
    return names, of


def _labels(
    names: Sequence[str], of: np.ndarray, wanted: int | Sequence[str] | None, problems: list[str]
) -> list[tuple[str, ...]]:
    """The labels of every image among the wanted concepts, or the most frequent ones, in the order of `names`."""
    if wanted is None or isinstance(wanted, int):
        chosen = np.sort(np.argsort(-of.sum(0), kind="stable")[:wanted])
    else:
        problems += [f"--concepts {one!r}: no such concept{nearest(one, names)}" for one in wanted if one not in names]
        chosen = np.array([place for place, name in enumerate(names) if name in wanted], np.int64)
    return [tuple(names[column] for column in chosen[row]) for row in of[:, chosen]]

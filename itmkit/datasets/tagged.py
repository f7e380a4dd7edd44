"""Data sets of pictures with tags and labels: an image's tags are its caption, its labels say what it is about.

Their readers share this module: it leaves images out, divides the others, and reads lists of images per split.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from itmkit.dataset import Caption
from itmkit.datasets.draft import Draft
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import Problems, Skip
from itmkit.datasets.write import write_drafts
from itmkit.errors import ItmkitError
from itmkit.files import utf8_lines
from itmkit.progress import Progress
from itmkit.workspace import Workspace

# The files of a folder of lists: of NUS-WIDE's authors, and of the hashing literature. `database` are images that
# are neither queries nor trained on.
LISTS = {
    "train": ("TrainImagelist.txt", "train.txt"),
    "test": ("TestImagelist.txt", "test.txt"),
    "database": ("database.txt",),
}


@dataclass(slots=True)
class Tagged:
    """One image with its tags and labels, and where it is described. See `itmkit.datasets.draft.Draft`."""

    id: str
    place: str
    candidates: list[Path]
    tags: list[str]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of a list: the picture's path, with slashes, and the columns of its labels ("0" or "1"), if any."""

    place: str
    path: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What a reader found.

    Attributes:
        tags: which tags count, in words.
        listed: for every list the ids of its pictures, None for a picture that does not exist; {} without lists.
        problems: what is wrong with the files.
        notes: what the reader has left out already.
        keep_all: images without labels count too; all have tags.
    """

    images: Sequence[Tagged]
    tags: str
    listed: Mapping[str, Sequence[str | None]]
    problems: list[str]
    notes: Sequence[str] = ()
    keep_all: bool = False


@dataclass(frozen=True)
class Division:
    """How many images become test, val and train; the rest is left out.

    Attributes:
        test: how many are drawn for testing; None means the usual number for the data set.
        val: how many are drawn for validation: with lists from database.txt, or without that file from train.
        train: how many are drawn for training; None means all others.
        lists: a folder with train.txt and test.txt, and perhaps database.txt, which then decide the splits. `test` and
            `train` are None in that case.
    """

    test: int | None = None
    val: int = 1000
    train: int | None = None
    seed: int = 0
    lists: Path | None = None

    def checked(self, usual: int) -> Division:
        """The division with `usual` images for testing, if neither lists nor a number decide that."""
        if self.lists is not None and (self.test is not None or self.train is not None):
            raise ItmkitError("--lists says which images are test and train; leave --test and --train out")
        return replace(self, test=usual) if self.test is None and self.lists is None else self

    def order(self, ids: Iterable[str]) -> list[str]:
        """The ids in an order that looks random, but depends on neither their given order nor any software version."""
        return sorted(
            ids, key=lambda id: hashlib.sha256(f"{self.seed}\0{id}".encode("utf-8", "surrogatepass")).digest()
        )

    def splits(self, ids: Sequence[str], problems: list[str]) -> dict[str, str]:
        """{id: split}, of the images that have one."""
        test = self.test or 0
        if test + self.val >= len(ids):
            problems.append(
                f"--test {test} and --val {self.val} leave nothing to train on: {len(ids)} images have tags and labels"
            )
            return {}
        names = ["test"] * test + ["val"] * self.val + ["train"] * (len(ids) if self.train is None else self.train)
        return dict(zip(self.order(ids), names, strict=False))

    def listed(self, found: dict[str, list[str]], problems: list[str]) -> dict[str, str]:
        """{id: split} of images that lists name; val is drawn from the database, or without one from train.

        found: {"train": ids, "test": ids, and perhaps "database": ids}.
        """
        splits = dict.fromkeys(found["train"], "train") | dict.fromkeys(found["test"], "test")
        source = "database" if "database" in found else "train"
        free = [
            id for id in dict.fromkeys(found[source]) if splits.get(id) == (None if source == "database" else source)
        ]
        if self.val > len(free) - (source == "train"):
            problems.append(f"--val {self.val}: the {source} list has {len(free)} images to take them from")
            return {}
        return splits | dict.fromkeys(self.order(free)[: self.val], "val")


USUAL = Division()


def read_lists(folder: Path, problems: list[str]) -> dict[str, list[Listed]]:
    """The lists of a folder: {"train": ..., "test": ..., and "database" where there is one}.

    A line is a path and, separated by blanks, a column 0 or 1 for each label. All lines have as many columns.
    """
    paths = {
        split: next((folder / name for name in names if (folder / name).is_file()), None)
        for split, names in LISTS.items()
    }
    problems += [
        f"{folder}: has no list of the {split} images ({' or '.join(LISTS[split])})"
        for split in ("train", "test")
        if paths[split] is None
    ]
    found = {split: read_list(path, problems) for split, path in paths.items() if path is not None}
    widths = Counter(len(line.columns) for lines in found.values() for line in lines)
    if len(widths) > 1:
        usual = widths.most_common(1)[0][0]
        problems += [
            f"{line.place}: has {len(line.columns)} labels, most lines {usual}"
            for lines in found.values()
            for line in lines
            if len(line.columns) != usual
        ]
    seen: dict[str, str] = {}
    for split in ("train", "test"):
        for line in found.get(split, []):
            if line.path in seen:
                problems.append(f"{line.place}: {line.path} is listed before, at {seen[line.path]}")
            seen.setdefault(line.path, line.place)
    return found


def read_list(path: Path, problems: list[str]) -> list[Listed]:
    """The lines of one list; those that are wrong are left out and stand in `problems`."""
    found = []
    for number, line in utf8_lines(path, problems):
        if not line.strip():
            continue
        name, *columns = line.split()
        place = f"{path}: line {number}"
        if not set(columns) <= {"0", "1"}:
            wrong = next(column for column in columns if column not in ("0", "1"))
            problems.append(f"{place}: expected a path and labels that are 0 or 1, found {wrong[:20]!r}")
        else:
            found.append(Listed(place, name.replace("\\", "/"), tuple(columns)))
    return found


def with_tags_and_labels(images: Sequence[Tagged], tags: str) -> tuple[list[Tagged], list[str]]:
    """The images that have both, and notes about the others. `tags` says in words which tags count."""
    tagged = [image for image in images if image.tags]
    kept = [image for image in tagged if image.labels]
    notes = []
    if len(tagged) < len(images):
        notes.append(f"{len(images) - len(tagged):,} of {len(images):,} images are left out: none of {tags}")
    if len(kept) < len(tagged):
        notes.append(f"{len(tagged) - len(kept):,} of {len(images):,} images are left out: tags, but no label")
    return kept, notes


def tags_in(
    tags: Sequence[list[str]], vocabulary: Iterable[str] | None, min_count: int | None
) -> tuple[list[list[str]], int]:
    """Every image's tags, each once, that are in `vocabulary`, or that at least `min_count` images have; and how
    many tags that are."""
    once = [list(dict.fromkeys(found)) for found in tags]
    known = set(vocabulary) if vocabulary is not None else None
    if known is None:
        counts = Counter(tag for found in once for tag in found)
        known = {tag for tag, count in counts.items() if count >= (min_count or 1)}
    return [[tag for tag in found if tag in known] for found in once], len(known)


def first_words(path: Path, problems: list[str]) -> list[str]:
    """The first word of every line that has one: lists of tags or concepts, with or without counts."""
    if not path.is_file():
        problems.append(f"{path}: no such file")
        return []
    return [line.split()[0] for _, line in utf8_lines(path, problems) if line.strip()]


def write_tagged(
    workspace: Workspace,
    found: Found,
    division: Division,
    *,
    kind: str,
    settings: dict[str, Any],
    skip: Skip,
    force: bool,
    progress: Progress,
) -> PreparedDataset:
    """Leaves out images without tags or labels, divides the others, and writes the data set."""
    kept, notes = (list(found.images), []) if found.keep_all else with_tags_and_labels(found.images, found.tags)
    notes = [*found.notes, *notes]
    problems, lists = found.problems, division.lists
    splits: dict[str, str] = {}
    if lists is None:
        splits = division.splits([image.id for image in kept], problems) if found.images else {}
    elif {"train", "test"} <= found.listed.keys():
        known = {image.id for image in kept}
        ids = {split: [id for id in listed if id and id in known] for split, listed in found.listed.items()}
        absent = sum(map(len, found.listed.values())) - sum(map(len, ids.values()))
        if absent:
            notes.append(f"{absent:,} images of the lists in {lists} are left out: without tags, labels or entry")
        splits = division.listed(ids, problems)
    drafts = [
        Draft(i.id, splits[i.id], i.candidates, [Caption(f"{i.id}#0", " ".join(i.tags))], i.place, i.labels)
        for i in kept
        if i.id in splits
    ]
    if splits and len(drafts) < len(kept):
        which = "" if found.keep_all else " with tags and labels"
        notes.append(f"{len(kept) - len(drafts):,} images{which} are in no split and left out")
    if not drafts:  # checking no drafts would only add that there are none
        raise ItmkitError(problems or "no image of a split has both tags and labels")
    settings |= {"test": division.test, "val": division.val, "train": division.train, "seed": division.seed}
    settings |= {"lists": lists.name if lists else None}
    return write_drafts(
        workspace,
        drafts,
        Problems(problems),
        kind=kind,
        settings=settings,
        notes=notes,
        skip=skip,
        force=force,
        progress=progress,
    )

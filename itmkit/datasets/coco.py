"""COCO's own annotation files: captions, and instances whose categories become the labels of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from itmkit.dataset import Caption
from itmkit.datasets.draft import Draft, split_of_name
from itmkit.datasets.fields import integer_or_string, objects_in, string
from itmkit.datasets.instances import add_categories
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Problems, Skip, unreadable_files
from itmkit.datasets.write import write_drafts
from itmkit.file_kinds import check_is_text
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace


def prepare_coco(
    workspace: Workspace,
    files: Sequence[Path],
    *,
    images: Path,
    instances: Sequence[Path] = (),
    split: str | None = None,
    captions: int | None = 5,
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads caption files such as `captions_train2017.json` and writes the workspace's data set.

    An image's id is COCO's image id, a caption's id COCO's annotation id. The pictures are looked for as
    `images/file_name` and as `images/train2017/file_name`, the folder being the end of the caption file's name.

    Args:
        instances: files whose categories become labels, see `itmkit.datasets.instances.add_categories`.
        split: the split of all images. If None, the name of each file says it ("train", "val" or "test").
        captions: how many of an image's captions are taken, in file order; None takes all.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """
    problems, found = Problems(), _Found()
    for file in (*files, *instances):
        with unreadable_files(problems):
            check_is_text(file)
    problems.check_readable(skip)
    for file in files:
        with unreadable_files(problems):
            _read_captions(file, images, split, found, problems)
    add_categories(instances, found.drafts, problems)
    problems.check_readable(skip)
    return write_drafts(
        workspace,
        found.worth_checking(skip),
        problems,
        kind="coco",
        settings={
            "files": [file.name for file in files],
            "instances": [file.name for file in instances],
            "captions": captions,
        },
        captions=captions,
        skip=skip,
        force=force,
        progress=progress,
    )


@dataclass
class _Found:
    """The images of all files so far by id, the captions by id with the image of each, and images with damaged ones."""

    drafts: dict[str, Draft] = field(default_factory=dict)
    captions: dict[str, tuple[str, str]] = field(default_factory=dict)
    spoilt: set[str] = field(default_factory=set)

    def worth_checking(self, skip: Skip) -> list[Draft]:
        """The images; those that lack captions only because these are damaged need no second complaint."""
        return [d for d in self.drafts.values() if skip.damaged or d.captions or d.id not in self.spoilt]


def _read_captions(file: Path, images: Path, split: str | None, found: _Found, problems: Problems) -> None:
    """Adds the images of one file, with all their captions."""
    split = split or split_of_name(file)
    if split is None:
        problems.files.append(f"{file}: its name says no split (train, val or test); name it with --split")
    folder = images / file.stem.rpartition("_")[2]
    ids: dict[str, str] = {}  # {as an annotation may write it: id}; "000000000139" is also 139
    for place, entry in objects_in(file, "images", problems.damaged):
        id = integer_or_string(entry, "id", place, problems.damaged)
        name = string(entry, "file_name", place, problems.damaged)
        if not id or not name:
            continue
        draft = Draft(id, split or "train", [images / name, folder / name], [], place)
        first = found.drafts.setdefault(id, draft)
        if first is not draft and (first.split, first.candidates[0]) != (draft.split, draft.candidates[0]):
            problems.damaged.append(f"{place}: image {id!r}: this id occurs before, at {first.place}")
            ids.setdefault(id, "")  # whose captions are whose is not known
            continue
        problems.repeated += first is not draft
        ids[id] = id
        if id.isdecimal():
            ids.setdefault(str(int(id)), id)
    _add_captions(file, ids, found, problems)


def _add_captions(file: Path, ids: dict[str, str], found: _Found, problems: Problems) -> None:
    for place, entry in objects_in(file, "annotations", problems.damaged):
        wrong: list[str] = []
        image = integer_or_string(entry, "image_id", place, wrong)
        text = string(entry, "caption", place, wrong).strip()
        id = integer_or_string(entry, "id", place, wrong)
        if not wrong and image not in ids:
            wrong.append(f"{place}: image {image!r} is not among the images of this file")
        problems.damaged += wrong
        image = ids.get(image, "")
        if wrong:
            found.spoilt.add(image)
        if wrong or not image:
            continue
        if found.captions.get(id) == (image, text):
            problems.repeated += 1
            continue
        found.captions.setdefault(id, (image, text))
        found.drafts[image].captions.append(Caption(id, text))

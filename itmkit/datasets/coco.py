"""COCO's own annotation files: captions, and instances whose categories become the labels of an image."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from itmkit.dataset import Caption
from itmkit.datasets.draft import Draft, write_drafts
from itmkit.datasets.fields import integer_or_string, list_of_objects, string
from itmkit.datasets.prepared import PreparedDataset
from itmkit.files import read_json
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
    skip_missing: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads caption files such as `captions_train2017.json` and writes the workspace's data set.

    An image's id is COCO's image id, a caption's id COCO's annotation id. The pictures are looked for as
    `images/file_name` and as `images/train2017/file_name`, the folder being the end of the caption file's name.

    Args:
        instances: files whose categories become labels, in the order of the category ids.
        split: the split of all images. If None, the name of each file says it ("train", "val" or "test").
        captions: how many of an image's captions are taken, in file order; None takes all.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """
    problems: list[str] = []
    drafts: dict[str, Draft] = {}
    again: list[Draft] = []
    for file in files:
        here, repeated = _read_captions(file, images, split, drafts, problems)
        again += repeated
        drafts |= {id: draft for id, draft in here.items() if id not in drafts}
    for draft in drafts.values():
        draft.captions = draft.captions[:captions]
    _add_labels(instances, drafts, problems)
    settings = {
        "files": [file.name for file in files],
        "instances": [file.name for file in instances],
        "captions": captions,
        "skip_missing": skip_missing,
    }
    problems += [
        f"{draft.place}: image {draft.id!r}: this id occurs before, at {drafts[draft.id].place}" for draft in again
    ]
    return write_drafts(
        workspace,
        list(drafts.values()),
        problems,
        kind="coco",
        settings=settings,
        skip_missing=skip_missing,
        force=force,
        progress=progress,
    )


def split_of_name(file: Path) -> str | None:
    """The split that a file's name says, None where it says none or several."""
    found = set(re.findall(r"train|val|test", file.stem.lower()))
    return found.pop() if len(found) == 1 else None


def _read_captions(
    file: Path, images: Path, split: str | None, before: Collection[str], problems: list[str]
) -> tuple[dict[str, Draft], list[Draft]]:
    """The images of one file, with all their captions; and those whose ids occur in it, or in `before`, already."""
    content = read_json(file)
    split = split or split_of_name(file)
    if split is None:
        problems.append(f"{file}: its name says no split (train, val or test); name it with --split")
    folder = images / file.stem.rpartition("_")[2]
    here: dict[str, Draft] = {}
    again: list[Draft] = []
    for place, entry in list_of_objects(content, "images", str(file), problems):
        id = integer_or_string(entry, "id", place, problems)
        name = string(entry, "file_name", place, problems)
        if id and name:
            draft = Draft(id, split or "train", [images / name, folder / name], [], place)
            again += [draft] if id in before or id in here else []
            here.setdefault(id, draft)
    _add_captions(content, file, here, problems)
    return here, again


def _add_captions(content: Any, file: Path, drafts: dict[str, Draft], problems: list[str]) -> None:
    for place, entry in list_of_objects(content, "annotations", str(file), problems):
        image = integer_or_string(entry, "image_id", place, problems)
        text = string(entry, "caption", place, problems)
        id = integer_or_string(entry, "id", place, problems)
        if image in drafts:
            drafts[image].captions.append(Caption(id, text.strip()))
        elif image:
            problems.append(f"{place}: image {image!r} is not among the images of this file")


def _add_labels(files: Sequence[Path], drafts: dict[str, Draft], problems: list[str]) -> None:
    """Sets the labels: the names of the categories of an image's instances, each once, by category id."""
    names: dict[str, str] = {}
    labels: dict[str, set[str]] = {}
    for file in files:
        content = read_json(file)
        known = 0
        for place, entry in list_of_objects(content, "categories", str(file), problems):
            id = integer_or_string(entry, "id", place, problems)
            names.setdefault(id, string(entry, "name", place, problems))
        for place, entry in list_of_objects(content, "annotations", str(file), problems):
            image = integer_or_string(entry, "image_id", place, problems)
            category = integer_or_string(entry, "category_id", place, problems)
            if image and category and category not in names:
                problems.append(f"{place}: category {category!r} is not among the categories")
            elif image in drafts:  # an instances file may describe more images than are prepared
                known += 1
                labels.setdefault(image, set()).add(category)
        if not known:
            problems.append(f"{file}: describes none of these images; does it belong to these captions?")
    order = {id: place for place, id in enumerate(names)}
    for image, found in labels.items():
        drafts[image].labels = tuple(names[category] for category in sorted(found, key=order.__getitem__))

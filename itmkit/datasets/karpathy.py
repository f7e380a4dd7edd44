"""Karpathy's JSON files: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json` and look-alikes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from itmkit.dataset import Caption
from itmkit.datasets.draft import Draft
from itmkit.datasets.fields import integer_or_string, list_of_objects, objects_in, string
from itmkit.datasets.instances import add_categories
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Problems, Skip, unreadable_files
from itmkit.datasets.write import write_drafts
from itmkit.file_kinds import check_is_text
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace


def prepare_karpathy(
    workspace: Workspace,
    file: Path,
    *,
    images: Path,
    instances: Sequence[Path] = (),
    captions: int | None = 5,
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads a JSON file in Karpathy's layout and writes the workspace's data set.

    An image's id is its `cocoid` if the file has one, else its `imgid`. A caption's id is its `sentid`. The
    pictures are looked for as `images/filepath/filename` and `images/filename`. Split `restval` is train.

    Args:
        instances: COCO's instances files; their categories become labels, see
            `itmkit.datasets.instances.add_categories`.
        captions: how many of an image's captions are taken, in file order; None takes all. Some COCO images have
            six or seven, of which the field takes five.

    Raises:
        ItmkitError: everything that is wrong with the file and the pictures, in one error.
    """
    problems = Problems()
    for one in (file, *instances):
        with unreadable_files(problems):
            check_is_text(one)
    problems.check_readable(skip)
    key, drafts = "imgid", list[Draft]()
    with unreadable_files(problems):
        if any("cocoid" in entry for _, entry in objects_in(file, "images", [])):
            key = "cocoid"
        entries = _each_once(objects_in(file, "images", problems.damaged), problems)
        made = (_draft(entry, place, key, images, problems) for place, entry in entries)
        drafts = [draft for draft in made if draft is not None]
    settings: dict[str, Any] = {"file": file.name, "captions": captions}
    if instances:
        settings["instances"] = [one.name for one in instances]
        if key == "cocoid":
            add_categories(instances, {draft.id: draft for draft in drafts}, problems)
        else:
            problems.files.append(f"{file}: its images have no cocoid, by which --instances finds their categories")
    problems.check_readable(skip)
    return write_drafts(
        workspace,
        drafts,
        problems,
        kind="karpathy",
        settings=settings,
        captions=captions,
        skip=skip,
        force=force,
        progress=progress,
    )


def _each_once(
    entries: Iterable[tuple[str, dict[str, Any]]], problems: Problems
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries without those that repeat an earlier one in every word."""
    seen: set[bytes] = set()
    for place, entry in entries:
        digest = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).digest()
        if digest in seen:
            problems.repeated += 1
        else:
            seen.add(digest)
            yield place, entry


def _draft(entry: dict[str, Any], place: str, key: str, images: Path, problems: Problems) -> Draft | None:
    wrong: list[str] = []
    id = integer_or_string(entry, key, place, wrong)
    split = string(entry, "split", place, wrong)
    name = string(entry, "filename", place, wrong)
    folder = string(entry, "filepath", place, wrong) if "filepath" in entry else ""
    texts: dict[Caption, None] = {}  # in order, and quick to search where an image has hundreds
    found = list_of_objects(entry, "sentences", place, wrong, problems.damaged)
    for number, (sentence_place, sentence) in enumerate(found):
        before = len(problems.damaged)
        text = string(sentence, "raw", sentence_place, problems.damaged)
        own = integer_or_string(sentence, "sentid", sentence_place, problems.damaged) if "sentid" in sentence else None
        caption = Caption(own or f"{id}#{number}", text.strip())
        if own is not None and caption in texts:
            problems.repeated += 1
        elif len(problems.damaged) == before:
            texts.setdefault(caption)
    if wrong:
        problems.damaged += wrong
        return None
    candidates = [images / folder / name, images / name] if folder else [images / name]
    return Draft(id, split, candidates, list(texts), place)

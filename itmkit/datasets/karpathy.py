"""Karpathy's JSON files: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json` and look-alikes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmkit.dataset import Caption
from itmkit.datasets.draft import Draft, write_drafts
from itmkit.datasets.fields import integer_or_string, list_of_objects, string
from itmkit.datasets.prepared import PreparedDataset
from itmkit.files import read_json
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace


def prepare_karpathy(
    workspace: Workspace,
    file: Path,
    *,
    images: Path,
    captions: int | None = 5,
    skip_missing: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads a JSON file in Karpathy's layout and writes the workspace's data set.

    An image's id is its `cocoid` if the file has one, else its `imgid`. A caption's id is its `sentid`. The
    pictures are looked for as `images/filepath/filename` and `images/filename`. Split `restval` is train.

    Args:
        captions: how many of an image's captions are taken, in file order; None takes all. Some COCO images have
            six or seven, of which the field takes five.

    Raises:
        ItmkitError: everything that is wrong with the file and the pictures, in one error.
    """
    problems: list[str] = []
    entries = list_of_objects(read_json(file), "images", str(file), problems)
    key = "cocoid" if any("cocoid" in entry for _, entry in entries) else "imgid"
    drafts = [_draft(entry, place, key, images, captions, problems) for place, entry in entries]
    settings = {"file": file.name, "captions": captions, "skip_missing": skip_missing}
    return write_drafts(
        workspace,
        [draft for draft in drafts if draft is not None],
        problems,
        kind="karpathy",
        settings=settings,
        skip_missing=skip_missing,
        force=force,
        progress=progress,
    )


def _draft(
    entry: dict[str, Any], place: str, key: str, images: Path, count: int | None, problems: list[str]
) -> Draft | None:
    before = len(problems)
    id = integer_or_string(entry, key, place, problems)
    split = string(entry, "split", place, problems)
    name = string(entry, "filename", place, problems)
    folder = string(entry, "filepath", place, problems) if "filepath" in entry else ""
    texts: list[Caption] = []
    for sentence_place, sentence in list_of_objects(entry, "sentences", place, problems)[:count]:
        text = string(sentence, "raw", sentence_place, problems)
        number = len(texts)
        own = integer_or_string(sentence, "sentid", sentence_place, problems) if "sentid" in sentence else None
        texts.append(Caption(own or f"{id}#{number}", text.strip()))
    if len(problems) > before:
        return None
    candidates = [images / folder / name, images / name] if folder else [images / name]
    return Draft(id, split, candidates, texts, place)

"""What a file or folder of a data set is, by its names and first bytes: for `itmkit prepare auto`."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from itmkit.datasets.flickr8k import TOKENS
from itmkit.datasets.image_folder import metadata_in
from itmkit.datasets.pair_drafts import PICTURE_ENDINGS
from itmkit.datasets.tables import what_table
from itmkit.datasets.walk import OUR_FILES, OURS, is_workspace
from itmkit.errors import ItmkitError
from itmkit.file_kinds import check_is_text

READERS = (
    "karpathy", "flickr8k", "coco", "mirflickr", "nuswide", "jsonl", "csv", "imagefolder", "pairs", "webdataset",
    "parquet", "images",
)  # fmt: skip
_HEAD = 1 << 16  # bytes of a file that are looked at
_MANY = 2000  # names of a folder that are looked at
_CXC = re.compile(r"\bagg_score\b")  # a column of Crisscrossed Captions


@dataclass(frozen=True)
class Look:
    """One reading of what somebody named: the reader of `itmkit prepare`, the files for it, and why."""

    reader: str
    paths: tuple[Path, ...]
    why: str


def look_at(path: Path) -> Look:
    """What a path is.

    Raises:
        ItmkitError: it may be several things, or none; says what was seen, and names the readers.
    """
    if not path.exists():
        raise ItmkitError(f"{path}: no such file or folder")
    found = _of_folder(path) if path.is_dir() else [_of_file(path)]
    if len(found) == 1:
        return found[0]
    readers = f"readers: {', '.join(READERS)} (`itmkit prepare READER --help`)"
    if not found:
        raise ItmkitError(f"{path}: nothing that a reader knows; it holds {_seen(path)}. {readers}")
    told = "; ".join(f"{look.why}: `itmkit prepare {look.reader} {' '.join(map(str, look.paths))}`" for look in found)
    raise ItmkitError(f"{path}: may be several things. {told}")


def _of_file(path: Path) -> Look:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head[257:262] == b"ustar":
        return Look("webdataset", (path,), "a tar archive")
    if head[:4] == b"PAR1":
        return Look("parquet", (path,), "a Parquet file")
    check_is_text(path)
    text = head.decode("utf-8-sig", "replace").lstrip()
    first = text.split("\n", 1)[0]
    if text[:1] == "[":
        return Look("jsonl", (path,), "a JSON list")
    if text[:1] == "{":
        return _of_object(path, text, first)
    if _CXC.search(first):
        raise ItmkitError(
            f"{path}: ratings of Crisscrossed Captions, not a data set; its pictures and captions are COCO's:"
            " `itmkit prepare karpathy dataset_coco.json --captions all`. `itmkit evaluate --ratings cxc=sits_test.csv`"
            " reads the ratings of images and captions"
        )
    if table := what_table(path, first.rstrip("\r")):
        return Look("csv", (path,), table)
    raise ItmkitError(
        f"{path}: nothing that a reader knows; its first line is {first[:60]!r}. If it is a table,"
        f" `itmkit prepare csv` with --image-column and --caption-column reads it. Readers: {', '.join(READERS)}"
    )


def _of_object(path: Path, text: str, first: str) -> Look:
    try:
        one = json.loads(first)
    except ValueError:
        one = None
    whole = not isinstance(one, dict) or isinstance(one.get("images"), list)
    if whole and '"sentences"' in text:
        return Look("karpathy", (path,), "JSON with `images` and their `sentences`: Karpathy's layout")
    if whole and re.search(r'"(images|annotations)"\s*:', text):
        return Look("coco", (path,), "JSON with `images` and `annotations`: COCO's layout")
    if isinstance(one, dict):
        return Look("jsonl", (path,), "a JSON object in the first line")
    raise ItmkitError(f"{path}: JSON of a layout that no reader knows ({first[:60]!r}); readers: {', '.join(READERS)}")


def _of_folder(folder: Path) -> list[Look]:
    """Everything that the folder may be."""
    names = _names(folder)
    ends = {Path(name).suffix.lower() for name in names}
    found: list[Look] = []
    if (folder / TOKENS).is_file():
        return [Look("flickr8k", (folder,), f"has {TOKENS}")]
    if any((folder / inside).is_dir() for inside in ("meta/tags", "mirflickr/meta/tags")):
        return [Look("mirflickr", (folder,), "has meta/tags")]
    if any((folder / inside).is_file() for inside in ("ImageList/Imagelist.txt", "Imagelist.txt")):
        return [Look("nuswide", (folder,), "has Imagelist.txt")]
    if features := [name for name in names if name.endswith("_ims.npy")]:
        raise ItmkitError(
            f"{folder}: has {features[0]}, features with captions: `itmkit import-features scan {folder}` reads both"
        )
    if metadata := metadata_in(folder, [], []):
        return [Look("imagefolder", (folder,), f"has {metadata[0].relative_to(folder)}")]
    if shards := [name for name in names if name.endswith(".tar")]:
        return [Look("webdataset", (folder,), f"has shards such as {shards[0]}")]
    pictures = [name for name in names if Path(name).suffix.lower() in PICTURE_ENDINGS]
    stems = {os.path.splitext(name)[0] for name in pictures}  # noqa: PTH122  (of a path within the folder)
    beside = [name for name in names if name.endswith((".txt", ".json")) and os.path.splitext(name)[0] in stems]  # noqa: PTH122
    if beside:
        return [Look("pairs", (folder,), f"has captions beside pictures, such as {beside[0]}")]
    if ".parquet" in ends:
        found.append(Look("parquet", (folder,), "has .parquet files"))
    found += _files_in(folder, names)
    if not found and pictures:
        found.append(Look("images", (folder,), f"has pictures, such as {pictures[0]}, and no captions"))
    return found


def _files_in(folder: Path, names: list[str]) -> list[Look]:
    """What the tables and JSON files in a folder are; files of one reader go together."""
    by_reader: dict[str, list[Look]] = {}
    for name in names:
        if name.lower().endswith((".csv", ".tsv", ".token", ".jsonl", ".json")) or name == "captions.txt":
            if re.match(r"(instances|person_keypoints|stuff|panoptic|image_info)_", Path(name).name):
                continue
            try:
                look = _of_file(folder / name)
            except ItmkitError:
                continue
            by_reader.setdefault(look.reader, []).append(look)
    return [
        Look(
            reader,
            tuple(path for look in looks for path in look.paths),
            f"has {looks[0].paths[0].name}, {looks[0].why}",
        )
        for reader, looks in by_reader.items()
    ]


def _names(folder: Path) -> list[str]:
    """Paths within the folder, those nearest to it first, up to a number that tells enough.

    What the stages of a workspace have made in it is passed over.
    """
    found: list[str] = []
    level = [folder]
    while level and len(found) < _MANY:
        below: list[Path] = []
        for place in level:
            ours = (*OURS, *OUR_FILES) if is_workspace(place) else ()
            for entry in _entries(place):
                if entry.name.startswith(".") or entry.name == "__MACOSX" or entry.name in ours:
                    continue
                if entry.is_dir():
                    below.append(entry)
                elif len(found) < _MANY:
                    found.append(entry.relative_to(folder).as_posix())
        level = below
    return found


def _entries(place: Path) -> list[Path]:
    """What is in a folder; nothing where it cannot be looked into, which the reader tells."""
    try:
        return sorted(place.iterdir())
    except OSError:
        return []


def _seen(folder: Path) -> str:
    names = _names(folder)
    return f"{', '.join(names[:8])}{' and more' if len(names) > 8 else ''}" or "nothing"

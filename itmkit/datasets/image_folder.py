"""Folders of pictures with captions beside them: Hugging Face's imagefolder, and a text of the same name a picture.

train/metadata.csv, .jsonl or .parquet   file_name, and text or another name of captions   imagefolder
photos/a.jpg  photos/a.txt               a caption a line                                  pairs
00000/000000012.jpg  .txt  .json         `caption` in the JSON                             pairs (img2dataset)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from itmkit.datasets.add import PAIRS, Adding
from itmkit.datasets.draft import split_named
from itmkit.datasets.json_rows import json_rows
from itmkit.datasets.pair_drafts import PICTURE_ENDINGS, drafts_of, readable
from itmkit.datasets.pair_rows import USUAL_COLUMNS, Columns, PairRow
from itmkit.datasets.parquet import parquet_rows
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Problems, Skip
from itmkit.datasets.tables import table_rows
from itmkit.datasets.walk import files_below, files_called, own_folders
from itmkit.datasets.webdataset import MOST_TEXT, captions_beside
from itmkit.datasets.write import write_or_add
from itmkit.errors import ItmkitError
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_TEXTS = (".txt", ".json")


def prepare_image_folder(
    workspace: Workspace,
    folder: Path,
    *,
    split: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    skip: Skip = NOTHING,
    add: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads the metadata files in a folder and in the folders below it, as Hugging Face's imagefolder has them.

    `file_name` is relative to the metadata file; an image's id is its path within `folder`.

    Args:
        split: of what has none. If None, a column `split` or the folder says it: train/, validation/, test/.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """
    problems, notes = Problems(), list[str]()
    files = metadata_in(folder, problems.damaged, notes)
    if not files:
        raise ItmkitError([". ".join([f"{folder}: holds no {', '.join(METADATA)}", *notes]), *problems.damaged])
    problems.files += _several_in_one_folder(files)
    described: dict[str, Path] = {}  # by which file each picture is

    def read(file: Path) -> Iterator[PairRow]:
        told = False
        before = file.parent.relative_to(folder).as_posix()
        for row in _metadata_rows(file, columns, problems, notes):
            name = row.image if before == "." else f"{before}/{row.image}"
            first = described.setdefault(name, file)
            if first.parent != file.parent and not told:
                told = True
                problems.files.append(f"{row.place}: {name!r} is described in {first} too; keep one of the two files")
            yield replace(row, image=name, split=row.split or split or _split_of(folder, name))

    rows = (row for file in files for row in readable(read(file), problems))
    return _written(
        workspace, folder, rows, problems, notes, kind="imagefolder", skip=skip, add=add, force=force, progress=progress
    )


def prepare_pairs(
    workspace: Workspace,
    folder: Path,
    *,
    split: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    skip: Skip = NOTHING,
    add: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads pictures with a .txt (a caption a line) or a .json of the same name, in a folder and those below it.

    An image's id is its path within `folder`.

    Args:
        split: of all images. If None, a folder train/, val/ or test/ says it, else `default_splits` divides them.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """
    if not folder.is_dir():
        raise ItmkitError(f"{folder}: {'is a file, a folder is needed' if folder.exists() else 'no such folder'}")
    problems, notes = Problems(), list[str]()
    places = files_below(folder, own_folders(workspace), problems.damaged, notes)
    rows = _pair_rows(folder, places, split, columns, problems)
    first = next(rows, None)
    if first is None and not problems.damaged and not problems.empty:
        raise ItmkitError(". ".join([f"{folder}: holds no pictures ({', '.join(PICTURE_ENDINGS)})", *notes]))
    rows = chain([first] if first else [], rows)
    return _written(
        workspace, folder, rows, problems, notes, kind="pairs", skip=skip, add=add, force=force, progress=progress
    )


def metadata_in(folder: Path, closed: list[str], notes: list[str]) -> list[Path]:
    """The metadata files of an imagefolder, in the order of their paths; the rest is as in `files_below`."""
    return sorted(files_called(folder, METADATA.__contains__, closed, notes))


def _several_in_one_folder(files: Sequence[Path]) -> list[str]:
    """A line for every folder with metadata of several forms, which would have every caption twice."""
    names: dict[Path, list[str]] = {}
    for file in files:
        names.setdefault(file.parent, []).append(file.name)
    return [
        f"{folder}: holds {' and '.join(found)}; keep one of them, or read one with `itmkit prepare csv` or `jsonl`"
        for folder, found in names.items()
        if len(found) > 1
    ]


def _metadata_rows(file: Path, columns: Columns, problems: Problems, notes: list[str]) -> Iterable[PairRow]:
    if file.suffix == ".csv":
        return table_rows(file, columns, file.parent, problems, notes)
    if file.suffix == ".jsonl":
        return json_rows(file, columns, problems)
    return parquet_rows(file, None, columns, problems, inside=False)


def _split_of(folder: Path, name: str) -> str | None:
    """The split that one of the folders of a picture is named after, the outermost first."""
    parts = name.replace("\\", "/").split("/")[:-1]
    return next((split for part in (*parts, folder.name) if (split := split_named(part))), None)


def _pair_rows(
    folder: Path,
    places: Iterable[tuple[Path, list[str]]],
    split: str | None,
    columns: Columns,
    problems: Problems,
) -> Iterator[PairRow]:
    for place, names in places:
        present = set(names)
        for name in names:
            path = place / name
            if path.suffix.lower() not in PICTURE_ENDINGS:
                continue
            within = path.relative_to(folder).as_posix()
            beside = {e: path.with_suffix(e) for e in _TEXTS if path.with_suffix(e).name in present}
            if wrong := [f"{p.name}: {why}" for p in beside.values() if (why := _unreadable(p))]:
                problems.damaged.append(f"{path}: {'; '.join(wrong)}")
                continue
            held = {ending: text.read_bytes() for ending, text in beside.items()}
            captions = captions_beside(held.get(".json"), held.get(".txt"), columns)
            if captions is None:
                problems.damaged.append(f"{path}: the .txt or .json beside it is not UTF-8 text, or no JSON object")
            elif not captions:
                problems.empty.append(f"{path}: has no caption (a .txt of its name, or `caption` in a .json)")
            else:
                yield PairRow(str(path), within, captions, split or _split_of(folder, within), ())


def _unreadable(path: Path) -> str | None:
    if not path.is_file():
        return "is not a regular file"
    return f"has more than {MOST_TEXT >> 20} MiB" if path.stat().st_size > MOST_TEXT else None


def _written(
    workspace: Workspace,
    folder: Path,
    rows: Iterable[PairRow],
    problems: Problems,
    notes: list[str],
    *,
    kind: str,
    skip: Skip,
    add: bool,
    force: bool,
    progress: Progress,
) -> PreparedDataset:
    adding = Adding.to(workspace, PAIRS) if add else None
    drafts = drafts_of([folder], lambda _: rows, folder, None, problems, notes)
    problems.check_readable(skip)
    return write_or_add(
        workspace,
        drafts,
        problems,
        adding,
        kind=kind,
        settings={"folder": folder.name},
        notes=notes,
        skip=skip,
        force=force,
        progress=progress,
    )

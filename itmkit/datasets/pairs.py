"""Your own pictures and captions, as JSON lines, JSON lists or tables. Each line has a picture and a caption.

{"image": "photos/a.jpg", "caption": "A dog on a beach.", "split": "train", "labels": ["dog"]}
image,caption,split,labels
photos/a.jpg,A dog on a beach.,train,dog;beach
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from itmkit.dataset import SPLITS, Caption
from itmkit.datasets.draft import Draft, split_named, split_of_name
from itmkit.datasets.json_rows import json_rows
from itmkit.datasets.pair_rows import USUAL_COLUMNS, Columns, PairRow
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Problems, Skip
from itmkit.datasets.tables import table_rows
from itmkit.datasets.write import write_drafts
from itmkit.errors import ItmkitError
from itmkit.file_kinds import is_address
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

_ENDINGS = (".jpg", ".jpeg", ".png")  # tried where the name of a picture has none
PICTURE_ENDINGS = (*_ENDINGS, ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


def prepare_jsonl(
    workspace: Workspace,
    files: Path | Sequence[Path],
    *,
    images: Path | None = None,
    split: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads objects with `image`, `caption` (or a list `captions`), and optionally `split` and `labels`.

    A file holds one object a line, or one list of objects. Objects of one image are put together. An image's id is
    `image` as written, a caption's `IMAGE#0`, `IMAGE#1`, ... If files lie in different folders and there is no
    `images`, ids begin with the folder: `train/0001.jpg`.

    Args:
        files: one file, or several; the names of several say the split of what has none (train.json, val/lines.jsonl).
        images: the folder that `image` is relative to. Default: the folder of the file.
        split: the split of what has none. If it is None and nothing has a split, `default_splits` divides the images.
        columns: the keys of pictures and captions, where they are not among the usual names.
        skip: what is left out and listed, instead of being reported.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """
    problems, notes = Problems(), list[str]()
    files = [files] if isinstance(files, Path) else list(files)
    rows = _rows_of_all(files, problems, lambda file: list(json_rows(file, columns, problems)))
    drafts = _drafts(files, rows, images, split, problems, notes)
    return write_drafts(
        workspace,
        drafts,
        problems,
        kind="jsonl",
        settings={"files": [file.name for file in files], "split": split},
        notes=notes,
        skip=skip,
        force=force,
        progress=progress,
    )


def prepare_csv(
    workspace: Workspace,
    files: Path | Sequence[Path],
    *,
    images: Path | None = None,
    split: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads tables with a header: columns `image` and `caption`, and optionally `split` and `labels` (`dog;beach`).

    What separates the columns follows from the header: commas, tabs, semicolons or bars. Token files of Flickr30k,
    which have no header, are read too. The rest is as in `prepare_jsonl`.
    """
    problems, notes = Problems(), list[str]()
    files = [files] if isinstance(files, Path) else list(files)
    rows = _rows_of_all(files, problems, lambda file: table_rows(file, columns, images or file.parent, problems, notes))
    drafts = _drafts(files, rows, images, split, problems, notes)
    return write_drafts(
        workspace,
        drafts,
        problems,
        kind="csv",
        settings={"files": [file.name for file in files], "split": split},
        notes=notes,
        skip=skip,
        force=force,
        progress=progress,
    )


def default_splits(ids: list[str]) -> dict[str, str]:
    """One image in ten becomes val, one in ten test (at least one each where there are three), the rest train.

    Which ones is decided by the digest of the id: it looks random, and does not depend on the order of the file.
    """
    order = sorted(ids, key=lambda id: hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest())
    share = max(1, len(ids) // 10) if len(ids) >= 3 else 0
    return {id: "val" if n < share else "test" if n < 2 * share else "train" for n, id in enumerate(order)}


def _rows_of_all(
    files: Sequence[Path], problems: Problems, read: Callable[[Path], list[PairRow]]
) -> list[list[PairRow]]:
    """The rows of each file; raises ItmkitError with what keeps any of them from being read at all."""
    found: list[list[PairRow]] = []
    unreadable: list[str] = []
    for file in files:
        try:
            found.append(read(file))
        except ItmkitError as error:
            unreadable += error.problems
    if unreadable:
        raise ItmkitError([*problems.files, *unreadable])
    return found


def _drafts(
    files: Sequence[Path],
    rows: Sequence[list[PairRow]],
    images: Path | None,
    split: str | None,
    problems: Problems,
    notes: list[str],
) -> list[Draft]:
    """The images of all files. Those that no line and no file gives a split are divided."""
    drafts: dict[str, Draft] = {}
    bare: list[str] = []  # places of rows without a split
    said: dict[str, str] = {}
    base = _common_folder(files) if images is None else None
    for file, of_file in zip(files, rows, strict=True):
        folder = images or file.parent
        before = "" if base is None else f"{file.parent.absolute().relative_to(base).as_posix()}/"
        of_name = (split_of_name(file) or split_of_name(file.absolute().parent)) if len(files) > 1 else None
        usual = split or of_name
        for row in _without_addresses(of_file, problems):
            named = replace(row, image=f"{before}{row.image}", split=row.split or usual)
            if named.split is None:
                bare.append(row.place)
            _add(named, _candidates(folder, row.image), drafts, said, problems)
    if bare and said:
        problems.files.append(
            f"{bare[0]}: has no split while other lines have one ({len(bare)} such lines); use --split"
        )
    elif bare:
        notes.append("no line says a split: a tenth of the images became val, a tenth test, the rest train")
        chosen = default_splits(list(drafts))
        for draft in drafts.values():
            draft.split = chosen[draft.id]
    return list(drafts.values())


def _common_folder(files: Sequence[Path]) -> Path | None:
    """The folder that holds the folders of all files; None where they lie in one and the same."""
    folders = {str(file.parent.absolute()) for file in files}
    return Path(os.path.commonpath(folders)) if len(folders) > 1 else None


def _candidates(folder: Path, image: str) -> list[Path]:
    path = folder / image
    if path.suffix.lower() in PICTURE_ENDINGS:
        return [path]
    return [path, *(folder / f"{image}{ending}" for ending in _ENDINGS)]


def _without_addresses(rows: list[PairRow], problems: Problems) -> list[PairRow]:
    found = [row for row in rows if is_address(row.image)]
    if found:
        what = f"the picture is an address ({found[0].image[:60]}); download the pictures and name the files"
        more = f" ({len(found)} such lines)" if len(found) > 1 else ""
        if len(found) == len(rows):
            problems.files.append(f"{found[0].place}: {what}{more}")
        else:
            problems.damaged += [f"{row.place}: the picture is an address ({row.image[:60]})" for row in found]
    return [row for row in rows if not is_address(row.image)]


def _add(
    row: PairRow, candidates: list[Path], drafts: dict[str, Draft], said: dict[str, str], problems: Problems
) -> None:
    """Adds a row to the draft of its image, whose split is the first that a row says; its labels are those of all."""
    draft = drafts.get(row.image)
    if draft is None:
        draft = drafts[row.image] = Draft(row.image, row.split or SPLITS[0], candidates, [], row.place)
    if row.split is not None:
        first = said.setdefault(row.image, row.split)
        if (split_named(first) or first) != (split_named(row.split) or row.split):
            problems.damaged.append(f"{row.place}: image {row.image!r}: split {row.split!r} here, {first!r} before")
            return
        draft.split = first
    count = len(draft.captions)
    draft.captions += [Caption(f"{row.image}#{count + n}", text) for n, text in enumerate(row.captions)]
    draft.labels += tuple(label for label in row.labels if label not in draft.labels)

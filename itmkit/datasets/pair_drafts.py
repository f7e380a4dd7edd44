"""From rows of pictures and captions to images: rows of one picture are put together, and every image gets a split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from itmkit.dataset import SPLITS, Caption
from itmkit.datasets.draft import Draft, split_named, split_of_name
from itmkit.datasets.pair_rows import PairRow
from itmkit.datasets.skip import Problems
from itmkit.errors import ItmkitError
from itmkit.file_kinds import is_address

_ENDINGS = (".jpg", ".jpeg", ".png")  # tried where the name of a picture has none
PICTURE_ENDINGS = (*_ENDINGS, ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


def default_splits(ids: list[str]) -> dict[str, str]:
    """One image in ten becomes val, one in ten test (at least one each where there are three), the rest train.

    Which ones is decided by the digest of the id: it looks random, and does not depend on the order of the file.
    """
    order = sorted(ids, key=lambda id: hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest())
    share = max(1, len(ids) // 10) if len(ids) >= 3 else 0
    return {id: "val" if n < share else "test" if n < 2 * share else "train" for n, id in enumerate(order)}


def rows_of_each(
    files: Sequence[Path], read: Callable[[Path], Iterable[PairRow]]
) -> tuple[list[list[PairRow]], list[str]]:
    """The rows of each file that can be read, and in words what keeps the others from being read at all."""
    found: list[list[PairRow]] = []
    unreadable: list[str] = []
    for file in files:
        try:
            found.append(list(read(file)))
        except ItmkitError as error:
            unreadable += error.problems
    return found, unreadable


def drafts_of(
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
            _add(named, candidates_of(folder, row.image), drafts, said, problems)
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


def candidates_of(folder: Path, image: str) -> list[Path]:
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

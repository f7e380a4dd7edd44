"""From rows of pictures and captions to images: rows of one picture are put together, and every image gets a split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from itmkit.dataset import SPLITS, Caption
from itmkit.datasets.draft import Draft, split_named, split_of_name
from itmkit.datasets.pair_rows import PairRow
from itmkit.datasets.skip import Problems, unreadable_files
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


def readable(rows: Iterable[PairRow], problems: Problems) -> Iterator[PairRow]:
    """The rows of a file, up to what keeps it from being read at all."""
    with unreadable_files(problems):
        yield from rows


def drafts_of(
    files: Sequence[Path],
    read: Callable[[Path], Iterable[PairRow]],
    images: Path | None,
    split: str | None,
    problems: Problems,
    notes: list[str],
    *,
    packed: bool = False,
) -> list[Draft]:
    """The images of all files. Rows are put together as they are read; none is kept.

    Images that no line and no file gives a split are divided.

    Args:
        read: gives the rows of a file.
        packed: the pictures are no files yet. Else names of one file, such as "a", "./a.jpg" and accents in another
            form, are one image, which is called as the first of them.
    """
    drafts: dict[str, Draft] = {}  # by what rows call them
    of_file: dict[str, Draft] = {}
    bare, first_bare = 0, ""  # rows without a split
    said: dict[str, str] = {}
    base = _common_folder(files) if images is None else None
    for file in files:
        folder = images or file.parent
        before = "" if base is None else f"{file.parent.absolute().relative_to(base).as_posix()}/"
        of_name = (split_of_name(file) or split_of_name(file.absolute().parent)) if len(files) > 1 else None
        usual = split or of_name
        for row in _without_addresses(readable(read(file), problems), problems):
            named = replace(row, image=f"{before}{row.image}", split=row.split or usual)
            if named.split is None:
                bare, first_bare = bare + 1, first_bare or row.place
            draft = drafts.get(named.image)
            if draft is None:
                candidates = candidates_of(folder, row.image)
                draft = Draft(named.image, named.split or SPLITS[0], candidates, [], named.place)
                # Path.resolve would follow links, of which each may be an image.
                whole = named.image if packed else os.path.abspath(draft.path())  # noqa: PTH100
                draft = drafts[named.image] = of_file.setdefault(whole, draft)
            _add(named, draft, said, problems)
    found = {draft.id: draft for draft in drafts.values()}
    if bare and said:
        problems.files.append(f"{first_bare}: has no split while other lines have one ({bare} such lines); use --split")
    elif bare:
        notes.append("no line says a split: a tenth of the images became val, a tenth test, the rest train")
        chosen = default_splits(list(found))
        for draft in found.values():
            draft.split = chosen[draft.id]
    return list(found.values())


def _common_folder(files: Sequence[Path]) -> Path | None:
    """The folder that holds the folders of all files; None where they lie in one and the same."""
    folders = {str(file.parent.absolute()) for file in files}
    return Path(os.path.commonpath(folders)) if len(folders) > 1 else None


def candidates_of(folder: Path, image: str) -> list[Path]:
    path = folder / image
    if path.suffix.lower() in PICTURE_ENDINGS:
        return [path]
    return [path, *(folder / f"{image}{ending}" for ending in _ENDINGS)]


def _without_addresses(rows: Iterable[PairRow], problems: Problems) -> Iterator[PairRow]:
    """The rows of one file whose pictures are files."""
    others, first = 0, None
    found: list[str] = []
    for row in rows:
        if not is_address(row.image):
            others += 1
            yield row
            continue
        first = first or row
        found.append(f"{row.place}: the picture is an address ({row.image[:60]})")
    if first is None:
        return
    if others:
        problems.damaged += found
        return
    what = f"the picture is an address ({first.image[:60]}); download the pictures and name the files"
    more = f" ({len(found)} such lines)" if len(found) > 1 else ""
    problems.files.append(f"{first.place}: {what}{more}")


def _add(row: PairRow, draft: Draft, said: dict[str, str], problems: Problems) -> None:
    """Adds a row to the draft of its image, whose split is the first that a row says; its labels are those of all."""
    if row.split is not None:
        first = said.setdefault(draft.id, row.split)
        if (split_named(first) or first) != (split_named(row.split) or row.split):
            problems.damaged.append(f"{row.place}: image {row.image!r}: split {row.split!r} here, {first!r} before")
            return
        draft.split = first
    count = len(draft.captions)
    draft.captions += [Caption(f"{draft.id}#{count + n}", text) for n, text in enumerate(row.captions)]
    labels = (label.strip() for label in row.labels)
    draft.labels = tuple(dict.fromkeys(label for label in (*draft.labels, *labels) if label))

"""A folder of photographs without captions, as a data set to extract from, to index and to search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from itmkit.dataset import ALL, PICTURES, ImageRecord, wrong_id
from itmkit.datasets.draft import is_file
from itmkit.datasets.pair_drafts import PICTURE_ENDINGS
from itmkit.datasets.prepared import PreparedDataset, Skipped, present, write_or_keep
from itmkit.datasets.walk import files_below, own_folders
from itmkit.datasets.write import stored_path
from itmkit.errors import ItmkitError
from itmkit.pictures.facts import Facts, all_picture_facts
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

UNREAD_ENDINGS = (".heic", ".heif", ".avif", ".cr2", ".nef", ".arw", ".dng")  # photographs that nothing here decodes


@dataclass(frozen=True)
class _Found:
    """A picture file. name: its path within the folder that was named, with /."""

    path: Path
    name: str
    facts: Facts


def prepare_images(
    workspace: Workspace,
    folder: Path,
    *,
    add: bool = False,
    skip_damaged: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads the pictures in a folder and in the folders below it. All are in the split "all" and have no caption.

    Files count by their endings, hidden ones do not. An image's id is its path within the folder. Images are in the
    order of their ids. Of pictures that are byte for byte the same, the first is taken.

    Args:
        add: what the data set lacks comes last in it, so that the rows of its caches stay what they are. Pictures that
            have moved keep their id; those that are gone, or changed, are images without a file from now on.
        skip_damaged: pictures that cannot be read are left out and listed instead of being reported.
        force: replace a data set that differs.

    Raises:
        ItmkitError: there is no such folder, or no picture in it; pictures cannot be read; a different data set is
            there; with `add`, it is one of another kind.
    """
    old = _to_add_to(workspace) if add else None
    closed: list[str] = []
    files, notes = _files(workspace, folder, closed)
    facts = all_picture_facts([path for path, _ in files], progress=progress)
    looked_at = [(path, name, _with_name(path, name, fact)) for (path, name), fact in zip(files, facts, strict=True)]
    wrong = [(name, fact) for _, name, fact in looked_at if isinstance(fact, ItmkitError)]
    found = [_Found(path, name, fact) for path, name, fact in looked_at if isinstance(fact, Facts)]
    if (wrong or closed) and not (skip_damaged and found):
        problems = [f"{line} (--skip-damaged leaves it out)" for line in closed]
        if wrong:
            problems.append(f"{len(wrong)} of {len(files)} pictures are no use; --skip-damaged leaves them out")
            problems += [str(error) for _, error in wrong]
        raise ItmkitError(problems)
    distinct, left_out = _distinct(found)
    left_out += [*closed, *(str(error) for _, error in wrong)]
    records = [_record(workspace, each) for each in distinct]
    if old is not None:
        unreadable = {stored_path(workspace, folder / name) for name, _ in wrong}
        records, told = _added(workspace, old, found, unreadable)
        notes.append(told)
    return write_or_keep(
        workspace,
        records,
        kind=PICTURES,
        settings={"folder": folder.name} | ({"skip_damaged": True} if skip_damaged else {}),
        skipped=[Skipped(name, str(error)) for name, error in wrong],
        left_out=left_out,
        notes=notes,
        force=force or (old is not None and old != records),
    )


def _to_add_to(workspace: Workspace) -> list[ImageRecord] | None:
    """The images of the data set that is there; None where there is none. Raises ItmkitError for one of captions."""
    old = present(workspace)
    if old is not None and old.kind != PICTURES:
        raise ItmkitError(
            f"{workspace.dataset_path}: --add adds to a data set of `itmkit prepare images`; this one is of the kind"
            f" {old.kind}. Name another workspace with -w"
        )
    return None if old is None else old.images


def _files(workspace: Workspace, folder: Path, closed: list[str]) -> tuple[list[tuple[Path, str]], list[str]]:
    """Path and name of every picture file, by name, and notes on what is passed over; `closed` as in `files_below`."""
    if not folder.is_dir():
        raise ItmkitError(f"{folder}: {'is a file, a folder is needed' if folder.exists() else 'no such folder'}")
    root = workspace.root.resolve()
    ours = own_folders(workspace) if root == folder.resolve() else {root}
    files, unread, notes = [], list[str](), list[str]()
    for inside, names in files_below(folder, ours, closed, notes):
        for name in names:
            path = inside / name
            if path.suffix.lower() in PICTURE_ENDINGS:
                files.append((path, path.relative_to(folder).as_posix()))
            elif path.suffix.lower() in UNREAD_ENDINGS:
                unread.append(path.suffix.lower())
    if unread:
        forms = ", ".join(sorted(set(unread)))
        notes.append(f"files in forms that are not read ({forms}): {len(unread):,}; convert them")
    if not files:
        raise ItmkitError([". ".join([f"{folder}: holds no pictures ({', '.join(PICTURE_ENDINGS)})", *notes]), *closed])
    return sorted(files, key=lambda file: file[1]), notes


def _with_name(path: Path, name: str, fact: Facts | ItmkitError) -> Facts | ItmkitError:
    """What was found of a picture; an error where its name can be no id."""
    reason = wrong_id(name)
    return ItmkitError(f"{path}: its name {reason}") if reason and isinstance(fact, Facts) else fact


def _distinct(found: Sequence[_Found]) -> tuple[list[_Found], list[str]]:
    """The first of each content, and a line for every other."""
    first: dict[str, _Found] = {}
    repeated = []
    for each in found:
        other = first.setdefault(each.facts.sha256, each)
        if other is not each:
            repeated.append(f"{each.path}: is the same picture as {other.name}, byte for byte")
    return list(first.values()), repeated


def _added(
    workspace: Workspace, old: Sequence[ImageRecord], found: Sequence[_Found], unreadable: set[str]
) -> tuple[list[ImageRecord], str]:
    """The old images in their order, then those that they lack; and a note on both.

    A picture that is gone, or has another content now, leaves an image without a file: rows of caches keep their place.

    Args:
        unreadable: the files that cannot be read, as the data set writes them.
    """
    files = {stored_path(workspace, each.path): each.facts.sha256 for each in found}
    of_content = {sha256: file for file, sha256 in reversed(files.items())}
    records = []
    for image in old:
        there = image.file is not None and is_file(workspace.image_path(image.file)) and image.file not in unreadable
        if not there or files.get(image.file or "", image.sha256) != image.sha256:
            image = replace(image, file=of_content.get(image.sha256 or ""))
        records.append(image)
    known, ids = {image.sha256 for image in old}, {image.id for image in old}
    for each in found:
        if each.facts.sha256 not in known:
            known.add(each.facts.sha256)
            record = _record(workspace, each)
            numbered = (f"{each.name} ({number})" for number in count(2))
            name = record.id if record.id not in ids else next(other for other in numbered if other not in ids)
            ids.add(name)
            records.append(replace(record, id=name))
    gone = sum(image.file is None for image in records)
    told = f"new pictures: {len(records) - len(old):,}; there already: {len(old) - gone:,}"
    return records, told + (f"; gone or changed since, and no longer indexed: {gone:,}" if gone else "")


def _record(workspace: Workspace, found: _Found) -> ImageRecord:
    facts, file = found.facts, stored_path(workspace, found.path)
    size = {"width": facts.width, "height": facts.height, "bytes": facts.bytes, "sha256": facts.sha256}
    return ImageRecord(found.name, ALL, (), file, **size)  # type: ignore[arg-type]

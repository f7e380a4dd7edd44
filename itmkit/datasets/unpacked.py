"""Pictures that lie inside archives and tables, as files of the workspace, which later stages can open.

A file is named after the digest of its bytes, never after what an archive calls it: no name leads out of the folder,
nothing is replaced by another picture, and what is there already is not written again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from itmkit.dataset_index import dataset_state
from itmkit.datasets.add import PAIRS, Adding
from itmkit.datasets.draft import Draft
from itmkit.datasets.pair_drafts import PICTURE_ENDINGS, drafts_of
from itmkit.datasets.pair_rows import PairRow
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import Problems, Skip
from itmkit.datasets.write import write_or_add
from itmkit.errors import ItmkitError
from itmkit.files import atomic_path
from itmkit.progress import Progress
from itmkit.workspace import Workspace

FOLDER = "unpacked"  # in the workspace
MOST_BYTES = 64 << 20  # of a picture
# The bytes a picture begins with, where its name has no usual ending.
_BEGINNINGS = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"RIFF", ".webp"), (b"BM", ".bmp"))

Pictures = Callable[[Path], Iterable[tuple[str, bytes]]]  # of a file: each picture as the rows call it, and its bytes


class Unpacked:
    """The folder. `undo` removes what this object has added to it."""

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.root / FOLDER
        self._written: list[Path] = []
        self._added: list[Path] = []  # those that were not there before, damaged

    def keep(self, data: bytes, name: str) -> Path:
        """The file with these bytes; it is written unless it is there. `flush` brings it to the disk."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._folder / sha256[:2] / f"{sha256[:32]}{_ending(name, data)}"
        there = path.is_file()
        if not there or path.stat().st_size != len(data) or path.read_bytes() != data:
            with atomic_path(path, flush=False) as partial:
                partial.write_bytes(data)
            self._written.append(path)
            if not there:
                self._added.append(path)
        return path

    def flush(self) -> None:
        """All at the end, as the first flush takes most of the others with it."""
        for path in self._written:
            with open(path, "rb+") as handle:
                os.fsync(handle.fileno())

    def undo(self) -> None:
        for path in self._added:
            path.unlink(missing_ok=True)
        for folder in (*{path.parent for path in self._added}, self._folder):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def names_of_files(files: Sequence[Path]) -> dict[Path, str]:
    """What ids begin with that name a file: its name, or its path below the common folder where names repeat."""
    names = {file: file.stem for file in files}
    if len(set(names.values())) == len(names):
        return names
    base = Path(os.path.commonpath([str(file.absolute().parent) for file in files]))
    return {file: file.absolute().relative_to(base).with_suffix("").as_posix() for file in files}


def prepare_packed(
    workspace: Workspace,
    files: Sequence[Path],
    rows: Callable[[Path, Problems], Iterable[PairRow]],
    pictures: Pictures,
    closed: list[str],
    notes: list[str],
    *,
    kind: str,
    skip: Skip,
    add: bool,
    force: bool,
    progress: Progress,
) -> PreparedDataset:
    """Writes the data set of files that hold pictures. They are read twice: for the captions, then for the pictures.

    Args:
        rows: gives the rows of a file, and adds to the problems.
        pictures: gives its pictures by the names that the rows have.
        closed: a line for every folder that could not be looked into. notes: what else the user should know.

    Raises:
        ItmkitError: everything that is wrong. The pictures that were unpacked for nothing are removed.
    """
    adding = Adding.to(workspace, PAIRS) if add else None
    problems = Problems(damaged=closed)
    drafts = drafts_of(files, lambda file: rows(file, problems), workspace.root, None, problems, notes, packed=True)
    problems.check_readable(skip)
    told, _ = problems.divided(skip)
    if told:
        raise ItmkitError(told)
    unpacked, before = Unpacked(workspace), dataset_state(workspace.dataset_path)
    try:
        _unpack(drafts, files, pictures, unpacked, progress)
        unpacked.flush()  # before the data set that names them appears
        return write_or_add(
            workspace,
            drafts,
            problems,
            adding,
            kind=kind,
            settings={"files": [file.name for file in files]},
            notes=notes,
            skip=skip,
            force=force,
            progress=progress,
        )
    except BaseException:
        if dataset_state(workspace.dataset_path) == before:  # else the data set is there that names them
            unpacked.undo()
        raise


def _unpack(
    drafts: Sequence[Draft], files: Sequence[Path], pictures: Pictures, unpacked: Unpacked, progress: Progress
) -> None:
    """Gives every draft the file of its picture. Raises ItmkitError where one name has several pictures."""
    wanted = {draft.id: draft for draft in drafts}
    given: dict[str, Path] = {}
    others: list[str] = []
    with progress.task("unpack", len(wanted), unit="pictures") as advance:
        for file in files:
            for name, data in pictures(file):
                if name not in wanted:
                    continue
                path = unpacked.keep(data, name)
                if name not in given:
                    given[name] = path
                    wanted[name].candidates = [path]
                    advance(1)
                elif given[name] != path:
                    others.append(f"{file}: another picture is called {name!r} as well")
    if others:
        others[0] += " (of Parquet files, --image-column names a column that tells them apart)"
        raise ItmkitError(others)


def _ending(name: str, data: bytes) -> str:
    ending = PurePosixPath(name).suffix.lower()
    if ending in PICTURE_ENDINGS:
        return ending
    return next((found for beginning, found in _BEGINNINGS if data.startswith(beginning)), ".jpg")

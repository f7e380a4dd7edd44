"""The files in a folder of pictures and in the folders below it, and what is not looked into."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from itmkit.workspace import Workspace

OURS = ("caches", "runs", "plots", "reports", "index", "transfer", "unpacked")  # folders of a workspace
OUR_FILES = ("dataset.jsonl", "dataset.info.json", "dataset.index.json")  # that look like data sets


def own_folders(workspace: Workspace) -> set[Path]:
    """The folders in which a workspace keeps what its stages make."""
    return {workspace.root.resolve() / name for name in OURS}


def is_workspace(folder: Path) -> bool:
    """Whether a data set was prepared in it. `dataset.jsonl` alone may be a file of anybody's."""
    return (folder / "dataset.info.json").is_file()


def files_below(
    folder: Path, passed: Collection[Path], closed: list[str], notes: list[str]
) -> Iterator[tuple[Path, list[str]]]:
    """(folder, the names of its files) of a folder and of those below it, in the order of their names.

    Hidden files and folders are passed over, and so are those that macOS adds to archives.

    Args:
        passed: folders that are passed over too, resolved.
        closed: takes a line for every folder that cannot be looked into.
        notes: takes one, at the end, if there are links to folders, which are not followed.
    """
    links: list[Path] = []

    def tell(error: OSError) -> None:
        closed.append(f"{error.filename}: cannot be looked into ({error.strerror})")

    for place, folders, names in os.walk(folder, onerror=tell):
        inside = Path(place)
        shown = (name for name in folders if name[0] != "." and name != "__MACOSX")
        folders[:] = sorted(name for name in shown if (inside / name).resolve() not in passed)
        links += (inside / name for name in folders if (inside / name).is_symlink())
        yield inside, sorted(name for name in names if name[0] != ".")
    if links:
        notes.append(f"links to folders are not followed: {len(links):,} (the first: {links[0]})")


def files_called(folder: Path, fits: Callable[[str], bool], closed: list[str], notes: list[str]) -> list[Path]:
    """The files whose name fits, in a folder and in those below it; the rest is as in `files_below`."""
    return [place / name for place, names in files_below(folder, (), closed, notes) for name in names if fits(name)]

"""Your own pictures and captions, as JSON lines, JSON lists or tables. Each line has a picture and a caption.

{"image": "photos/a.jpg", "caption": "A dog on a beach.", "split": "train", "labels": ["dog"]}
image,caption,split,labels
photos/a.jpg,A dog on a beach.,train,dog;beach
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from itmkit.datasets.add import PAIRS, Adding
from itmkit.datasets.json_rows import json_rows
from itmkit.datasets.pair_drafts import drafts_of
from itmkit.datasets.pair_rows import USUAL_COLUMNS, Columns, PairRow
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Problems, Skip
from itmkit.datasets.tables import table_rows
from itmkit.datasets.write import write_or_add
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

Read = Callable[[Path, Problems, list[str]], Iterable[PairRow]]


def prepare_jsonl(
    workspace: Workspace,
    files: Path | Sequence[Path],
    *,
    images: Path | None = None,
    split: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    skip: Skip = NOTHING,
    add: bool = False,
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
        add: what the data set lacks comes last in it; images that are there stay as they are.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """

    def read(file: Path, problems: Problems, notes: list[str]) -> Iterable[PairRow]:
        return json_rows(file, columns, problems)

    return _prepare(
        workspace, files, read, images, split, kind="jsonl", skip=skip, add=add, force=force, progress=progress
    )


def prepare_csv(
    workspace: Workspace,
    files: Path | Sequence[Path],
    *,
    images: Path | None = None,
    split: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    skip: Skip = NOTHING,
    add: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads tables with a header: columns `image` and `caption`, and optionally `split` and `labels` (`dog;beach`).

    What separates the columns follows from the header: commas, tabs, semicolons or bars. Token files of Flickr30k,
    which have no header, are read too. The rest is as in `prepare_jsonl`.
    """

    def read(file: Path, problems: Problems, notes: list[str]) -> Iterable[PairRow]:
        return table_rows(file, columns, images or file.parent, problems, notes)

    return _prepare(
        workspace, files, read, images, split, kind="csv", skip=skip, add=add, force=force, progress=progress
    )


def _prepare(
    workspace: Workspace,
    files: Path | Sequence[Path],
    read: Read,
    images: Path | None,
    split: str | None,
    *,
    kind: str,
    skip: Skip,
    add: bool,
    force: bool,
    progress: Progress,
) -> PreparedDataset:
    """What the two have in common. `read` gives the rows of a file, and adds to the problems and notes."""
    adding = Adding.to(workspace, PAIRS) if add else None
    problems, notes = Problems(), list[str]()
    files = [files] if isinstance(files, Path) else list(files)
    drafts = drafts_of(files, lambda file: read(file, problems, notes), images, split, problems, notes)
    problems.check_readable(skip)
    return write_or_add(
        workspace,
        drafts,
        problems,
        adding,
        kind=kind,
        settings={"files": [file.name for file in files], "split": split},
        notes=notes,
        skip=skip,
        force=force,
        progress=progress,
    )

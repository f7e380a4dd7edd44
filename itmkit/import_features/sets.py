"""import-features bottom-up, npz, npy, pt, hdf5: sets of regions that belong to the pictures of a prepared data set.

The files are read twice. The first pass checks everything and notes where each picture lies, so that all problems are
reported together before anything is written. The second pass writes, a few pictures at a time, in the order of the data
set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.files import digest
from itmkit.import_features.bottom_up_tsv import check_bottom_up
from itmkit.import_features.many_pictures import check_many, hdf5_source, pt_source
from itmkit.import_features.picture_files import check_picture_files
from itmkit.import_features.tsv_lines import FeatureType
from itmkit.import_features.write_sets import SetsResult, write_sets
from itmkit.progress import SILENT, Progress
from itmkit.regions.vg_vocabulary import read_vocabulary
from itmkit.workspace import Workspace


def import_bottom_up(
    workspace: Workspace,
    paths: Sequence[Path],
    *,
    vocabulary: Path | None = None,
    regions: int | None = None,
    dtype: FeatureType = "float32",
    skip_damaged: bool = False,
    shard_size: int = 2000,
    force: bool = False,
    progress: Progress = SILENT,
) -> SetsResult:
    """Imports bottom-up TSV files, plain or LXMERT's (see `itmkit.import_features.bottom_up_tsv`).

    Pictures are found in the data set by id, file name or COCO's number, whichever finds most.

    Args:
        paths: the files of one set, in any order.
        vocabulary: folder with objects_vocab.txt and attributes_vocab.txt. LXMERT's ids are line numbers in these.
        regions: room for this many regions per picture. Default: as many as any picture has.
        dtype: of the numbers in the field `features`; nothing in the files says it.
        skip_damaged: leave out lines that cannot be used, and list them.
        force: make the cache anew if it came from other files.

    Raises:
        ItmkitError: there is no data set, or the files have problems. All of them are reported before anything is
            written.
    """
    dataset = workspace.dataset()
    names = read_vocabulary(vocabulary) if vocabulary is not None else None
    files = check_bottom_up(paths, names, progress, dtype=dtype, skip_damaged=skip_damaged)
    notes = []
    if files.seems_float16:
        notes.append(f"the features may be float16: as float32 they are {files.dim} tiny numbers; see --dtype float16")
    if files.form == "lxmert" and names is None:
        notes.append("ids of objects and attributes are left out: --vocabulary DIR would name them")
    if files.unlabelled:
        notes.append(f"the files of labels say nothing of {files.unlabelled:,} pictures, whose regions have no tags")
    settings = {"layout": files.form, "vocabulary": digest(names) if names is not None else None}
    settings |= {"dtype": dtype} if dtype != "float32" else {}
    places: dict[str, Any] = {"paths": [str(path.resolve()) for path in paths]}
    places |= {"vocabulary": str(vocabulary.resolve())} if vocabulary is not None else {}
    return write_sets(
        workspace, dataset, files, settings, places, regions, notes, skip_damaged, shard_size, force, progress
    )


def import_npz(workspace: Workspace, folder: Path, **options: Any) -> SetsResult:
    """Imports a folder with one .npz file a picture; arguments as `import_picture_files`."""
    return import_picture_files(workspace, folder, ".npz", **options)


def import_picture_files(
    workspace: Workspace,
    folder: Path,
    ending: str,
    *,
    boxes: Path | None = None,
    regions: int | None = None,
    skip_damaged: bool = False,
    shard_size: int = 2000,
    force: bool = False,
    progress: Progress = SILENT,
) -> SetsResult:
    """Imports a folder with one file a picture (see `picture_files.py`); arguments as `import_bottom_up`.

    Args:
        ending: ".npz", ".npy" or ".pt".
        boxes: a folder with the boxes (n, 4) of each picture, as .npy files of the same names.
    """
    dataset = workspace.dataset()
    files = check_picture_files(folder, ending, progress, boxes=boxes, skip_damaged=skip_damaged)
    notes = []
    if files.pickled and ending == ".npz":
        notes.append(f"'info' of {files.pickled} files is a pickled Python object and was not read: there are no tags")
    elif files.pickled:
        notes.append(f"{files.pickled} files *_info.npy are pickled Python objects and were not read")
    places = {"folder": str(folder.resolve())} | ({"boxes_folder": str(boxes.resolve())} if boxes is not None else {})
    settings = {"layout": ending[1:]}
    return write_sets(
        workspace, dataset, files, settings, places, regions, notes, skip_damaged, shard_size, force, progress
    )


def import_many_pictures(
    workspace: Workspace,
    path: Path,
    *,
    index: Path | None = None,
    regions: int | None = None,
    skip_damaged: bool = False,
    shard_size: int = 2000,
    force: bool = False,
    progress: Progress = SILENT,
) -> SetsResult:
    """Imports one file with the features of many pictures (see `many_pictures.py`); arguments as `import_bottom_up`.

    Args:
        path: an HDF5 file, or a .pt file with a dict.
        index: for HDF5 with a row a picture: a JSON file {id: row}, or a list of ids in the order of the rows.
    """
    dataset = workspace.dataset()
    is_pt = path.suffix in (".pt", ".pth")
    if is_pt and index is not None:
        raise ItmkitError(f"{path}: its dict says the ids; leave --index out")
    with pt_source(path) if is_pt else hdf5_source(path, index) as source:
        form = "pt-dict" if is_pt else "hdf5"
        files = check_many(path, source, form, progress, skip_damaged=skip_damaged)
        settings: dict[str, Any] = {"layout": form}
        settings |= {} if is_pt else {"ids_sha256": digest(source.whose)}
        places: dict[str, Any] = {"paths": [str(path.resolve())]}
        places |= {"index": str(index.resolve())} if index is not None else {}
        return write_sets(
            workspace, dataset, files, settings, places, regions, [], skip_damaged, shard_size, force, progress
        )

"""What a file is that somebody named where TSV lines are read, and which command reads it."""

from __future__ import annotations

from pathlib import Path

from itmkit.errors import ItmkitError
from itmkit.file_kinds import check_is_text
from itmkit.import_features.npy import is_pickle

_COMMAND = "`itmkit import-features {}` reads it"


def why_no_lines(path: Path) -> str | None:
    """Why a regular file is no text, and what to do instead; None where it may be text."""
    with open(path, "rb") as file:
        head = file.read(1024)
    if head[:4] == b"\x89HDF":
        return f"is an HDF5 file; {_COMMAND.format('hdf5 FILE')}"
    if head[:6] == b"\x93NUMPY":
        return (
            "is a NumPy array; `itmkit import-features scan FOLDER` reads train_ims.npy with its captions, and `npy"
            " FOLDER` one file a picture"
        )
    if is_pickle(head[:16]):
        return (
            "is a Python pickle, which is never read (it could run any program); if it is the index of an .hdf5 file,"
            " name that: `itmkit import-features hdf5 FILE` says how to convert the index"
        )
    if head[:4] == b"PK\3\4" and b"data.pkl" in head:
        return f"is a file of torch.save; {_COMMAND.format('pt FILE')}"
    if head[:4] == b"PK\3\4" and b".npy" in head:
        return "is an .npz file; `itmkit import-features npz FOLDER` reads a folder with one a picture"
    try:
        check_is_text(path)
    except ItmkitError as error:  # an archive, as released features are packed
        return error.problems[0].removeprefix(f"{path}: ")
    return None

"""Imports hold the regions of a few pictures at a time, however many the files have."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from itmkit.import_features.bottom_up_tsv import check_bottom_up
from itmkit.import_features.picture_files import check_picture_files
from itmkit.import_features.region_sets import RegionSet
from itmkit.import_features.sets import SetsResult, import_bottom_up, import_many_pictures, import_picture_files
from itmkit.import_features.write_sets import _GROUP
from itmkit.progress import SILENT
from itmkit.workspace import Workspace
from tests.import_features.feature_files import data_set, drawn, write_npz, write_tsv

FEW, MANY = 4, 24  # pictures
DIM = 2000  # so that the three regions of a picture take 24,000 bytes
# Bytes that a reader may take for the pictures more: half of what they have. Of npz it takes 93,000, nearly all of them
# garbage that waits for its collection, which comes earlier or later.
GROWTH = 240_000


def tsv(folder: Path, rows: list[dict[str, Any]]) -> Path:
    return write_tsv(folder / "a.tsv", rows)


def npz(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for row in rows:
        write_npz(folder / "npz", row)
    return folder / "npz"


def npy(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "npy").mkdir()
    for row in rows:
        np.save(folder / "npy" / f"{row['id']}.npy", row["features"])
    return folder / "npy"


def pt(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "pt").mkdir()
    for row in rows:
        torch.save(torch.from_numpy(row["features"]), folder / "pt" / f"{row['id']}.pt")
    return folder / "pt"


def pt_dict(folder: Path, rows: list[dict[str, Any]]) -> Path:
    torch.save({row["id"]: torch.from_numpy(row["features"]) for row in rows}, folder / "a.pt")
    return folder / "a.pt"


def hdf5(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with h5py.File(folder / "a.hdf5", "w") as file:
        for row in rows:
            file[f"{row['id']}_features"], file[f"{row['id']}_boxes"] = row["features"], row["boxes"]
    return folder / "a.hdf5"


Write = Callable[[Path, list[dict[str, Any]]], Path]
IMPORTS: dict[str, tuple[Write, Callable[[Workspace, Path], SetsResult]]] = {
    "tsv": (tsv, lambda work, path: import_bottom_up(work, [path])),
    "npz": (npz, lambda work, path: import_picture_files(work, path, ".npz")),
    "npy": (npy, lambda work, path: import_picture_files(work, path, ".npy")),
    "pt": (pt, lambda work, path: import_picture_files(work, path, ".pt")),
    "pt of a dict": (pt_dict, import_many_pictures),
    "hdf5": (hdf5, import_many_pictures),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_few_pictures_are_alive_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write, read = IMPORTS[name]
    keys = [f"{n}" for n in range(MANY)]
    path = write(tmp_path, [drawn(key, 2, 4) for key in keys])
    made: list[weakref.ref[RegionSet]] = []
    most = 0
    init = RegionSet.__init__

    def counted(self: RegionSet, *given: Any, **named: Any) -> None:
        nonlocal most
        made.append(weakref.ref(self))
        most = max(most, sum(one() is not None for one in made))
        init(self, *given, **named)

    monkeypatch.setattr(RegionSet, "__init__", counted)
    assert read(data_set(tmp_path / "work", keys), path).images == MANY
    assert len(made) >= 2 * MANY and most <= _GROUP + 1


@pytest.mark.parametrize("name", ["tsv", "npz", "npy"])
def test_five_times_as_many_pictures_take_the_same_memory(tmp_path: Path, name: str) -> None:
    """Of what is checked; what torch and HDF5 hold cannot be seen here."""
    peaks = {}
    for count in (1, FEW, MANY):  # what is imported for the first is not counted
        (tmp_path / str(count)).mkdir()
        path = IMPORTS[name][0](tmp_path / str(count), [drawn(f"{n}", 3, DIM) for n in range(count)])
        tracemalloc.start()
        if name == "tsv":
            files: Any = check_bottom_up([path], None, SILENT)
        else:
            files = check_picture_files(path, f".{name}", SILENT)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(files.ids) == count
    assert peaks[MANY] - peaks[FEW] < GROWTH

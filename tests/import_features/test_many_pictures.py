"""One file with the features of many pictures: HDF5, and a dict of tensors."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from itmkit.cache import CacheReader
from itmkit.errors import ItmkitError
from itmkit.import_features.sets import import_many_pictures
from itmkit.workspace import Workspace
from tests.import_features.feature_files import DIM, data_set

KEYS = ["9", "25"]


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return data_set(tmp_path / "work", KEYS)


def test_an_index_of_other_rows_is_another_import(tmp_path: Path, work: Workspace) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["image_features"] = np.arange(1, 5, dtype="<f4")[:, None, None] * np.ones((4, 3, DIM), "<f4")
    index = tmp_path / "rows.json"
    for first in (0, 2):
        index.write_text(json.dumps({key: first + place for place, key in enumerate(KEYS)}))
        if first:
            with pytest.raises(ItmkitError, match=r"ids_sha256 changed.*--force"):
                import_many_pictures(work, tmp_path / "a.hdf5", index=index)
        import_many_pictures(work, tmp_path / "a.hdf5", index=index, force=bool(first))
        assert import_many_pictures(work, tmp_path / "a.hdf5", index=index).unchanged
        found = CacheReader.open(work.cache("regions")).read_all("features")[:, 0, 0]
        assert found.tolist() == [first + 1, first + 2]

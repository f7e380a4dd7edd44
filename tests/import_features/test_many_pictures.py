"""One file with the features of many pictures: HDF5, and a dict of tensors."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from itmkit.cache import CacheReader
from itmkit.errors import ItmkitError
from itmkit.import_features.sets import import_many_pictures, import_picture_files
from itmkit.workspace import Workspace
from tests.import_features.feature_files import DIM, data_set, drawn

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


@pytest.mark.parametrize("many", [False, True])
def test_tensors_that_were_saved_with_their_gradients(tmp_path: Path, work: Workspace, many: bool) -> None:
    features = {key: torch.from_numpy(drawn(key)["features"]) for key in KEYS}
    saved = {
        "9": torch.nn.Parameter(features["9"]),
        "25": {"features": torch._neg_view(-features["25"])},
        "a": features["9"].bfloat16().requires_grad_(),
        "b": features["9"].to_sparse(),
        "c": features["9"].to(torch.float8_e4m3fn),
        "d": {"features": features["9"], "num_bbox": [features["9"][0, 0].requires_grad_() * 1]},
    }
    if many:
        torch.save(saved, tmp_path / "many.pt")
        result = import_many_pictures(work, tmp_path / "many.pt", skip_damaged=True)
    else:
        (tmp_path / "pt").mkdir()
        for key, value in saved.items():
            torch.save(value, tmp_path / "pt" / f"{key}.pt")
        result = import_picture_files(work, tmp_path / "pt", ".pt", skip_damaged=True)
    found = CacheReader.open(work.cache("regions")).read_all("features")
    assert np.array_equal(found, np.stack([features[key].half().numpy() for key in KEYS]))
    told = [one["reason"] for one in result.damaged]
    assert len(told) == 3 and "'num_bbox' is neither a tensor nor a number" in told
    assert sum("'features' is a tensor without plain numbers" in reason for reason in told) == 2

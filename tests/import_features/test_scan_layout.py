"""Whose the rows and captions of a folder in the SCAN layout are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from itmkit.cache import CacheReader
from itmkit.import_features.scan import import_scan
from itmkit.import_features.scan_check import CheckOptions
from itmkit.workspace import Workspace
from tests.import_features.scan_folder import write_scan


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.mark.parametrize("skip_empty", [False, True])
def test_blank_lines_at_the_end_are_no_captions(tmp_path: Path, work: Workspace, skip_empty: bool) -> None:
    content = write_scan(tmp_path / "scan")
    for what in ("caps", "ids"):
        with open(tmp_path / "scan" / f"train_{what}.txt", "a") as file:
            file.write("\n\n")
    result = import_scan(work, tmp_path / "scan", options=CheckOptions(skip_empty=skip_empty))
    assert (result.captions, result.empty, CacheReader.open(work.cache("regions")).ids) == (20, 0, content["ids"])


def images(work: Workspace) -> list[tuple[str, list[str]]]:
    """Of each picture its id and captions."""
    return [(image.id, [caption.text for caption in image.captions]) for image in work.dataset().images]


@pytest.mark.parametrize(("names", "split"), [(("restval", "train"), "train"), (("dev", "val"), "val")])
def test_two_names_of_a_split_without_ids(tmp_path: Path, work: Workspace, names: tuple[str, str], split: str) -> None:
    for name in names:
        write_scan(tmp_path / "scan", name, pictures=2, ids=None)
    assert import_scan(work, tmp_path / "scan").splits == {split: 4}
    assert [key for key, _ in images(work)] == [f"{name}-{number}" for name in names for number in (0, 1)]


def test_uneven_captions_whose_number_is_a_multiple_of_the_rows(tmp_path: Path, work: Workspace) -> None:
    caps = [f"dog {number}" for number in range(15)]
    written = write_scan(tmp_path / "scan", pictures=3, caps=caps, ids=[*"aaaabbbbbcccccc"])
    import_scan(work, tmp_path / "scan")
    assert images(work) == [("a", caps[:4]), ("b", caps[4:9]), ("c", caps[9:])]
    found = CacheReader.open(work.cache("regions")).read_all("features")
    assert np.array_equal(found, written["ims"].astype(np.float16))


def test_pictures_that_are_alike_stay_two_where_they_have_ids(tmp_path: Path, work: Workspace) -> None:
    written = write_scan(tmp_path / "scan", captions=1, extras=())
    written["ims"][2] = written["ims"][1]
    np.save(tmp_path / "scan" / "train_ims.npy", written["ims"])
    assert import_scan(work, tmp_path / "scan").repeated == 0
    assert images(work) == [(key, [text]) for key, text in zip(written["ids"], written["caps"], strict=True)]

"""PFAN's and GLFN's block positions in a folder of the SCAN layout, to the graphs and to the matchers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from itmkit.cache import CacheReader
from itmkit.errors import ItmkitError
from itmkit.graphs import build_graphs
from itmkit.import_features.scan import import_scan
from itmkit.import_features.scan_blocks import read_blocks
from itmkit.inputs import Inputs, Needs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.parse_text.parse import parse_text
from itmkit.workspace import Workspace
from tests.import_features.scan_folder import write_scan
from tests.training.tiny import GRAPHS


def block_file(pictures: int = 4, regions: int = 3, columns: int = 30) -> np.ndarray:
    """Numbers 0 to 255 with their shares, largest first; the last places are padding, 256 and 0."""
    rng = np.random.default_rng(0)
    values = np.zeros((pictures, regions, columns), np.float32)
    for place in np.ndindex(pictures, regions):
        real = int(rng.integers(1, 16))
        values[place][:15] = 256
        values[place][:real] = rng.choice(256, real, replace=False)
        values[place][15 : 15 + real] = np.sort(rng.dirichlet(np.ones(real)))[::-1]
    values[..., 30:] = 7777
    return values


@pytest.mark.parametrize("columns", [30, 31])
def test_graphs_take_the_blocks_of_the_file(tmp_path: Path, columns: int) -> None:
    work, values = Workspace(tmp_path / "work"), block_file(columns=columns)
    write_scan(tmp_path / "scan", extras=("boxes",), boxes=values)
    result = import_scan(work, tmp_path / "scan")
    assert result.extras == ("blocks",)
    assert build_graphs(work, parts=["images"], shard_size=3).polar is False
    graphs = CacheReader.open(work.cache("graphs/images"))
    assert set(graphs.columns) == {"blocks", "block_weights"} and graphs.columns["blocks"].shape == (3, 15)
    numbers, weights = graphs.read_all("blocks"), graphs.read_all("block_weights")
    for place in np.ndindex(4, 3, 15):  # literally: their 0 is our 1, their 256 is our 0
        number = int(values[place])
        assert numbers[place] == (0 if number == 256 else number + 1)
        assert weights[place] == (0 if number == 256 else values[place[0], place[1], 15 + place[2]])
    assert numbers.max() <= 256 and numbers.dtype == np.int16
    with pytest.raises(ItmkitError, match="imported with block positions, 15 of 16 x 16.*10 of 8 x 8 cannot be made"):
        build_graphs(work, parts=["images"], blocks=8, keep=10, force=True)


def test_repeated_rows_and_padded_regions(tmp_path: Path) -> None:
    work, values = Workspace(tmp_path / "work"), block_file()
    ims = np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32)
    ims[1, 2] = 0
    write_scan(tmp_path / "scan", repeat=True, extras=("boxes",), boxes=values.repeat(5, 0), ims=ims.repeat(5, 0))
    import_scan(work, tmp_path / "scan")
    reader = CacheReader.open(work.cache("regions"))
    numbers, weights = read_blocks(values)
    assert np.array_equal(reader.read_all("blocks")[0], numbers[0])
    assert np.array_equal(reader.read_all("block_weights")[3], weights[3])
    assert not reader.read_all("blocks")[1, 2].any() and not reader.read_all("block_weights")[1, 2].any()


def test_a_share_of_zero_is_padding_and_integers_are_read() -> None:
    row = np.zeros((1, 1, 30), np.int64)
    row[..., 0], row[..., 15] = 255, 1
    numbers, shares = read_blocks(row)
    assert numbers[0, 0].tolist() == [256] + [0] * 14 and shares[0, 0].tolist() == [1.0] + [0.0] * 14


def test_blocks_of_one_split_and_boxes_of_another(tmp_path: Path) -> None:
    write_scan(tmp_path / "scan", extras=("boxes",), boxes=block_file())
    write_scan(tmp_path / "scan", "dev", extras=("boxes",))
    with pytest.raises(ItmkitError, match="train has blocks, dev has not"):
        import_scan(Workspace(tmp_path / "work"), tmp_path / "scan")


def test_boxes_beside_blocks_are_passed_over_with_a_note(tmp_path: Path) -> None:
    written = write_scan(tmp_path / "scan", extras=("boxes", "sizes"), boxes=block_file())
    np.save(tmp_path / "scan" / "train_ims_bbx.npy", np.tile(np.float32([0, 0, 9, 9]), (*written["ims"].shape[:2], 1)))
    result = import_scan(Workspace(tmp_path / "work"), tmp_path / "scan")
    assert "blocks" in result.extras
    assert "passed over: file train_ims_bbx.npy, since NAME_boxes.npy is there" in result.notes[0]


def test_matchers_that_need_polar_coordinates_say_so(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    write_scan(tmp_path / "scan", extras=("boxes",), boxes=block_file())
    import_scan(work, tmp_path / "scan")
    parse_text(work)
    build_graphs(work)
    images, vocabulary = work.dataset().images, Vocabulary.build({"dog": 9})
    with pytest.raises(ItmkitError, match="no polar coordinates.*block positions instead of boxes"):
        Inputs(work, images, vocabulary, GRAPHS)
    assert len(Inputs(work, images, vocabulary, Needs()).images) == 4

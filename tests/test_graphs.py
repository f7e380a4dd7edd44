"""Graphs against literal versions, loop by loop, in exact or double arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, text_key
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.graphs import block_positions, build_graphs, dependency_edges, polar_coordinates
from itmkit.import_features.scan import import_scan
from itmkit.status import status
from itmkit.workspace import Workspace
from tests.import_features.scan_folder import write_scan


def literal_blocks(
    box: list[Fraction], width: int, height: int, blocks: int, keep: int
) -> tuple[list[int], list[float]]:
    """One box, in pixels: the overlap with each block, exactly."""
    overlaps = []
    for row in range(blocks):
        for column in range(blocks):
            left, right = Fraction(column * width, blocks), Fraction((column + 1) * width, blocks)
            top, bottom = Fraction(row * height, blocks), Fraction((row + 1) * height, blocks)
            wide = max(Fraction(0), min(right, box[2]) - max(left, box[0]))
            high = max(Fraction(0), min(bottom, box[3]) - max(top, box[1]))
            overlaps.append((-wide * high, row * blocks + column + 1))
    best = [(-area, number) for area, number in sorted(overlaps)[:keep] if area < 0]
    total = sum((area for area, _ in best), Fraction(0))
    rest = keep - len(best)
    return [number for _, number in best] + [0] * rest, [float(area / total) for area, _ in best] + [0.0] * rest


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    corners=st.lists(st.tuples(*[st.integers(0, 2800)] * 4), min_size=1, max_size=3),
    blocks=st.sampled_from([2, 5, 16]),
    keep=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_block_positions_are_those_of_the_definition(
    width: int, height: int, corners: list[tuple[int, ...]], blocks: int, keep: int
) -> None:
    """Boxes on quarters of pixels, so that float32 holds them and ties are frequent."""
    boxes = [
        [
            min(Fraction(a, 4), Fraction(width)),
            min(Fraction(b, 4), Fraction(height)),
            min(max(Fraction(a, 4), Fraction(c, 4)), Fraction(width)),
            min(max(Fraction(b, 4), Fraction(d, 4)), Fraction(height)),
        ]
        for a, b, c, d in corners
    ]
    array = np.array([[[float(x) for x in box] for box in boxes]], np.float32)
    numbers, weights = block_positions(array, np.array([[width, height]]), blocks, keep)
    for r, box in enumerate(boxes):
        expected, shares = literal_blocks(box, width, height, blocks, keep)
        assert numbers[0, r].tolist() == expected
        np.testing.assert_allclose(weights[0, r], shares, atol=1e-6)


def test_block_positions_by_hand() -> None:
    """A picture of 160 x 320, so blocks of 10 x 20: a box over the corner of four blocks, the whole, and padding."""
    boxes = np.float32([[[5, 15, 15, 25], [0, 0, 160, 320], [0, 0, 0, 0]]])
    numbers, weights = block_positions(boxes, np.array([[160, 320]]))
    assert numbers.shape == weights.shape == (1, 3, 15)
    assert numbers.dtype == np.int16 and weights.dtype == np.float32
    assert numbers[0, 0].tolist() == [1, 2, 17, 18] + [0] * 11
    np.testing.assert_allclose(weights[0, 0, :4], [0.25] * 4)
    assert numbers[0, 1].tolist() == list(range(1, 16))  # all 256 tie: the lower numbers
    np.testing.assert_allclose(weights[0, 1], 1 / 15)
    assert not numbers[0, 2].any() and not weights[0, 2].any()
    numbers, weights = block_positions(np.float32([[[150, 300, 160, 320]]]), np.array([[160, 320]]))
    assert numbers[0, 0, 0] == 256 and weights[0, 0, 0] == 1
    numbers, _ = block_positions(np.float32([[[3, 0, 10, 20]]]), np.array([[160, 320]]), blocks=16, keep=256)
    assert numbers.shape == (1, 1, 256)
    with pytest.raises(ValueError, match="keep"):
        block_positions(boxes, np.array([[160, 320]]), blocks=3, keep=10)


def test_polar_coordinates_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 800, (3, 2))
    corners = rng.uniform(0, 1, (3, 5, 2, 2))
    boxes = (np.concatenate([corners.min(2), corners.max(2)], 2) * np.tile(sizes, 2)[:, None]).astype(np.float32)
    count = np.array([5, 3, 1])
    rho, theta = polar_coordinates(boxes, sizes, count)
    assert rho.shape == theta.shape == (3, 5, 5) and rho.dtype == theta.dtype == np.float16
    for n in range(3):
        diagonal = math.hypot(*sizes[n])
        for i in range(5):
            for j in range(5):
                if i >= count[n] or j >= count[n]:
                    assert rho[n, i, j] == theta[n, i, j] == 0
                    continue
                a, b = ([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] for box in boxes[n, [i, j]].astype(float))
                assert abs(rho[n, i, j] - math.dist(a, b) / diagonal) < 1e-3
                assert abs(theta[n, i, j] - math.atan2(b[1] - a[1], b[0] - a[0])) < 2e-3
    assert (rho <= 1).all() and not np.diagonal(rho, axis1=1, axis2=2).any()


def test_polar_directions() -> None:
    """To the right 0, below a quarter turn (y grows downwards), the way back half a turn further."""
    boxes = np.float32([[[0, 0, 2, 2], [8, 0, 10, 2], [0, 8, 2, 10]]])
    rho, theta = polar_coordinates(boxes, np.array([[30, 40]]))
    np.testing.assert_allclose(rho[0, 0], [0, 8 / 50, 8 / 50], atol=1e-3)
    np.testing.assert_allclose(theta[0, 0], [0, 0, math.pi / 2], atol=1e-2)
    np.testing.assert_allclose(abs(theta[0, 1, 0]), math.pi, atol=1e-2)


@given(st.lists(st.lists(st.integers(0, 10**6), max_size=6), max_size=6))
@settings(deadline=None)
def test_dependency_edges_are_those_of_the_definition(raw: list[list[int]]) -> None:
    captions = [[head % len(heads) for head in heads] for heads in raw]
    offsets = np.cumsum([0, *map(len, captions)])
    flat = np.array([head for heads in captions for head in heads], np.int32)
    edges, bounds = dependency_edges(flat, offsets)
    assert edges.dtype == np.int16 and edges.shape == (bounds[-1], 2) and len(bounds) == len(captions) + 1
    for k, heads in enumerate(captions):
        expected = {(min(i, head), max(i, head)) for i, head in enumerate(heads) if i != head}
        assert [tuple(edge) for edge in edges[bounds[k] : bounds[k + 1]].tolist()] == sorted(expected)


def test_a_head_outside_its_caption_is_an_error() -> None:
    with pytest.raises(ItmkitError, match="caption 1: the head of token 0 is 2, outside its 2 tokens"):
        dependency_edges(np.array([0, 0, 2, 0]), np.array([0, 2, 4]))


HEADS = {"a dog runs": [1, 2, 2], "run": [0], "two . sentences .": [0, 0, 2, 2]}


def write_text_cache(work: Workspace, heads: dict[str, list[int]] = HEADS) -> None:
    keys = [text_key(text) for text in heads]
    made_by = MadeBy("parse-text", {}, None, work.inputs("text", work.dataset()))
    with CacheWriter.open(
        work.cache("text"), made_by=made_by, columns={"heads": Column("int32", (), "ragged")}, keys=keys, shard_size=2
    ) as writer:
        for shard, part in writer.pending():
            rows = list(heads.values())[shard * 2 : shard * 2 + len(part)]
            with writer.shard(shard) as out:
                out.append(part, {"heads": np.concatenate(rows)}, lengths=np.array([len(row) for row in rows]))


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    work = Workspace(tmp_path / "work")
    write_scan(tmp_path / "scan", caps=(list(HEADS) * 7)[:20])
    import_scan(work, tmp_path / "scan")
    write_text_cache(work)
    return work


def test_stage(work: Workspace) -> None:
    result = build_graphs(work, shard_size=3)
    assert (result.images, result.texts, result.edges) == (4, 3, 4)
    regions = CacheReader.open(work.cache("regions"))
    images = CacheReader.open(work.cache("graphs/images"))
    assert images.ids == regions.ids and len(images.manifest.shards) == 2
    numbers, weights = block_positions(regions.read_all("boxes"), regions.read_all("size"))
    rho, theta = polar_coordinates(regions.read_all("boxes"), regions.read_all("size"))
    for name, expected in {"blocks": numbers, "block_weights": weights, "polar_rho": rho, "polar_theta": theta}.items():
        assert np.array_equal(images.read_all(name), expected), name
    texts = CacheReader.open(work.cache("graphs/texts"))
    rows = texts.rows([text_key(text) for text in reversed(HEADS)])
    flat, offsets = texts.read_ragged(["edges"], rows)
    assert flat["edges"].tolist() == [[0, 1], [2, 3], [0, 1], [1, 2]] and offsets.tolist() == [0, 2, 2, 4]
    assert {state.stage: state.state for state in status(work)}["graphs/images"] == "done"


def test_again_and_with_other_settings(work: Workspace) -> None:
    build_graphs(work)
    before = {path: path.stat().st_mtime_ns for path in work.cache("graphs").rglob("shard*")}
    build_graphs(work)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(ItmkitError, match=r"settings.blocks is 16 in the cache, 8 now.*--force"):
        build_graphs(work, blocks=8)
    (work.root / "workspace.toml").write_text("[build-graphs]\nblocks = 8\nkeep = 4\n")
    assert build_graphs(work, force=True).blocks == 8
    assert CacheReader.open(work.cache("graphs/images")).columns["blocks"].shape == (3, 4)
    (work.root / "workspace.toml").write_text("[build-graphs]\nblocks = 8\nkeep = 999\n")
    with pytest.raises(ItmkitError, match="keep is 999"):
        build_graphs(work)


def test_stale_and_missing_inputs(work: Workspace, tmp_path: Path) -> None:
    build_graphs(work)
    content = write_scan(tmp_path / "scan", caps=(list(HEADS) * 7)[:20])
    np.save(tmp_path / "scan" / "train_ims.npy", content["ims"] * 2)
    import_scan(work, tmp_path / "scan", force=True)
    states = {state.stage: state for state in status(work)}
    assert states["graphs/images"].state == "stale" and states["graphs/texts"].state == "done"
    with pytest.raises(ItmkitError, match=r"inputs\.regions changed"):
        build_graphs(work)
    write_dataset(work.dataset_path, [ImageRecord("a", "train", (Caption("a#0", "b"),))], kind="scan", settings={})
    with pytest.raises(ItmkitError) as caught:
        build_graphs(work)
    assert len(caught.value.problems) == 2 and "parse-text" in caught.value.problems[1]


def test_without_boxes_or_sizes(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    write_scan(tmp_path / "scan", extras=("tags",), caps=(list(HEADS) * 7)[:20])
    import_scan(work, tmp_path / "scan")
    write_text_cache(work)
    with pytest.raises(ItmkitError, match=r"imported without boxes and sizes.*--only texts"):
        build_graphs(work)
    assert not work.cache("graphs").exists()
    assert build_graphs(work, parts=["texts"]).edges == 4

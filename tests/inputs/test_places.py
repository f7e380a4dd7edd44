"""Where patches lie: read from their boxes, as build-graphs reads those of regions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itmkit.graphs import KEEP, block_positions, polar_coordinates
from itmkit.inputs import ImageBatch, Inputs, Needs
from itmkit.inputs.needs import missing
from itmkit.inputs.places import places_of_patches
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import as_matcher, build, method
from itmkit.runs.settings import resolve
from itmkit.trained.pictures import NewPictures, PictureRows
from itmkit.workspace import Workspace
from tests.training.tiny import CORNERS, FAST, REGIONS, THINGS, make_workspace

BOTH = Needs(images="dino", polar=True, blocks=True)
VOCABULARY = Vocabulary.build(["a", "left", "of", "there", *THINGS], minimum=1)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("places"), train=4, val=1, test=1, patches="dino")


def opened(workspace: Workspace, needs: Needs = BOTH) -> Inputs:
    return Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, needs)


def grid(side: int, width: int, height: int) -> np.ndarray:
    """(side^2, 4) boxes in pixels, row by row."""
    edges_x, edges_y = np.linspace(0, width, side + 1), np.linspace(0, height, side + 1)
    return np.array(
        [[edges_x[x], edges_y[y], edges_x[x + 1], edges_y[y + 1]] for y in range(side) for x in range(side)], np.float32
    )


def test_they_are_what_build_graphs_would_store() -> None:
    sizes = np.array([[640, 480], [333, 500], [640, 480]], np.int32)
    boxes = np.stack([grid(14, *size) for size in sizes.tolist()])
    found = places_of_patches(boxes, sizes, polar=True, blocks=True)
    for name, expected in zip(("polar_rho", "polar_theta"), polar_coordinates(boxes, sizes), strict=True):
        np.testing.assert_array_equal(found[name], expected)
    numbers, weights = block_positions(boxes.astype(np.float64), sizes)
    for picture in range(3):
        for patch in range(196):  # equal overlaps may come in another order
            mine = dict(zip(found["blocks"][picture, patch], found["block_weights"][picture, patch], strict=True))
            its = dict(zip(numbers[picture, patch], weights[picture, patch], strict=True))
            assert all(abs(mine.get(block, 0) - its.get(block, 0)) < 1e-4 for block in mine.keys() | its.keys())
    # A patch lies in the same blocks whatever size the picture has.
    assert (found["blocks"][0] == found["blocks"][1]).all()
    assert places_of_patches(boxes, sizes, polar=False, blocks=True).keys() == {"blocks", "block_weights"}


def test_they_are_read_with_the_patches_and_need_no_other_cache(workspace: Workspace) -> None:
    inputs = opened(workspace)
    assert "graphs/images" not in BOTH.caches and inputs.sizes.blocks == 256
    batch = inputs.image_batch(np.array([2, 0]))
    assert batch.rho is not None and batch.theta is not None and batch.blocks is not None
    right = float(batch.rho[0, 0, 1])
    assert right == pytest.approx(50 / np.hypot(100, 100), abs=1e-3) and float(batch.theta[0, 0, 1]) == 0
    assert float(batch.theta[0, 0, 2]) == pytest.approx(np.pi / 2, abs=1e-2)
    assert batch.blocks.shape == (2, REGIONS, KEEP) and batch.blocks[0, 3].min() > 128  # of the lower half


def test_new_pictures_have_the_same(workspace: Workspace) -> None:
    batch = opened(workspace).image_batch(np.array([1]))
    columns = {"count": np.array([REGIONS]), "boxes": CORNERS[None] * 3, "size": np.array([[300, 300]])}
    rows = PictureRows(batch.features.numpy().astype(np.float16), columns, [[""] * REGIONS])
    new = NewPictures(None, BOTH, "cpu").batch(rows)  # type: ignore[arg-type]
    for name in ("rho", "theta", "blocks", "block_weights"):
        assert torch.equal(getattr(new, name), getattr(batch, name)), name


def test_trees_alone_are_asked_for(workspace: Workspace, tmp_path: Path) -> None:
    """build-graphs as a whole would ask for regions, which a workspace of patches need not have."""
    bare = make_workspace(tmp_path, train=2, val=1, test=1, patches="dino")
    (bare.cache("graphs/texts") / "manifest.json").unlink()
    (told,) = missing(bare, Needs(images="dino", polar=True, edges=True), "mpsm")
    assert told.endswith("run `itmkit build-graphs --only texts`")


@pytest.mark.parametrize(
    ("name", "settings", "moved"),
    [
        ("mpsm", {"similarities": "direction"}, ("rho", "theta")),
        ("pfan", {}, ("blocks", "block_weights")),
        ("glfn", {"tags": False, "words": "gru"}, ("blocks", "block_weights")),
    ],
)
def test_where_patches_lie_has_a_say_in_scores(
    name: str, settings: dict[str, Any], moved: tuple[str, ...], workspace: Workspace
) -> None:
    config = resolve(name, settings={**FAST[name], "images": "dino", **settings}).matcher
    inputs = opened(workspace, method(name).needs(config))
    members = build(name, config, sizes=inputs.sizes, seed=0)
    images, texts = inputs.image_batch(np.arange(4)), inputs.text_batch(np.arange(8))
    order = torch.tensor([2, 0, 3, 1])
    torch.manual_seed(0)
    for matcher in members.values():
        with torch.no_grad():
            for parameter in matcher.parameters():  # as if it had learned something
                parameter.add_(torch.randn_like(parameter) * 0.3)
        before, after = (scores(matcher, batch, texts) for batch in (images, elsewhere(images, moved, order)))
        assert (after - before).std() > 0.02 * before.std()


def elsewhere(images: ImageBatch, moved: tuple[str, ...], order: torch.Tensor) -> ImageBatch:
    """The same patches in each other's places."""
    values = {name: getattr(images, name)[:, order] for name in moved}
    return replace(images, **{name: value[:, :, order] if "rho" in moved else value for name, value in values.items()})


@torch.no_grad()
def scores(matcher: torch.nn.Module, images: ImageBatch, texts: Any) -> torch.Tensor:
    parts = as_matcher(matcher.eval())
    return parts.score(parts.encode_images(images), parts.encode_texts(texts))

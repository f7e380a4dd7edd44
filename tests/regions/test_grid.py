from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from itmkit.errors import ItmkitError
from itmkit.machine.device import Precision
from itmkit.models.pixels import scaling
from itmkit.pictures.decode import squash
from itmkit.pictures.load import load_image
from itmkit.regions.grid import Grid, feature_map, load_grid
from itmkit.regions.windows import pooling_weights, windows
from tests.built import loaded_once
from tests.regions.tiny_models import KINDS, MEAN, STD, build, prepared


def pictures(count: int = 5) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shapes = [(40, 30), (64, 64), (31, 90), (200, 17), (50, 50)]
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)).resize((w, h)) for w, h in shapes[:count]]


grids = loaded_once(build, load_grid)  # of each family, not to be changed


@pytest.fixture
def mobilenet() -> Grid:
    found: Grid = grids("mobilenet")
    return found


def test_windows() -> None:
    boxes = windows(36)
    assert boxes.shape == (36, 4) and boxes.min() == 0 and boxes.max() <= 1
    assert boxes[0].tolist() == [0, 0, 1, 1]
    assert len(np.unique(boxes.round(6), axis=0)) == 36
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert set(areas.round(4)) == {1.0, 0.36, 0.5, 0.16, 0.09}
    for count in (1, 5, 11, 20, 61, 97):
        assert np.array_equal(windows(count), windows(97)[:count])
    with pytest.raises(ItmkitError, match="--regions 30.*1, 5, 11, 20, 36"):
        windows(30)


@pytest.mark.parametrize("side", [1, 4, 7])
def test_pooling_is_the_mean_over_the_window(side: int) -> None:
    boxes = windows(36)
    weights = pooling_weights(boxes, side)
    assert weights.shape == (36, side * side)
    for (x1, y1, x2, y2), found in zip(boxes * side, weights, strict=True):
        for cell in range(side * side):
            row, column = divmod(cell, side)
            wide = max(0, min(x2, column + 1) - max(x1, column))
            high = max(0, min(y2, row + 1) - max(y1, row))
            assert abs(found[cell] - wide * high / ((x2 - x1) * (y2 - y1))) < 1e-6


def literal(kind: str, folder: Path) -> np.ndarray:
    """(3, C): the mean of the last map of each picture, straight from transformers, on pixels scaled by hand."""
    from transformers import AutoModel

    side = 64 if kind in ("mobilenet", "resnet", "convnext") else 32
    squares = np.stack([np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for image in pictures(3)])
    values = torch.tensor((squares / 255 - np.array(MEAN)) / np.array(STD), dtype=torch.float32).permute(0, 3, 1, 2)
    network = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = getattr(network, "vision_model", network)(pixel_values=values).last_hidden_state
    if states.ndim == 4:
        return states.mean((2, 3)).numpy()
    return states[:, 0 if kind == "swin" else 1 :].mean(1).numpy()  # [CLS] stands before the patches


@pytest.mark.parametrize("kind", KINDS)
def test_families(tmp_path: Path, kind: str) -> None:
    build(kind, tmp_path)
    grid = grids(kind)
    found = grid.detect(prepared(grid, pictures(3)), regions=11)
    assert [len(one) for one in found] == [11] * 3
    for image, one in zip(pictures(3), found, strict=True):
        assert one.features.shape == (11, grid.dim) and one.features.dtype == np.float32
        assert one.boxes[0].tolist() == [0, 0, *image.size]
        assert (one.scores > 0).all() and (one.scores <= 1).all()
        assert one.features.std(0).max() > 0  # windows differ
    np.testing.assert_allclose([one.features[0] for one in found], literal(kind, tmp_path), atol=1e-4)
    if kind in ("dinov2", "clip"):
        assert grid.names == [] and found[0].tags == [""] * 11 and (found[0].scores == 1).all()
    else:
        assert grid.names == ["cat", "dog", "car", "cup", "tree"] and set(found[0].tags) <= set(grid.names)


@pytest.mark.parametrize("kind", ["mobilenet", "resnet", "convnext", "swin"])
def test_the_whole_picture_is_classified_as_by_the_model(tmp_path: Path, kind: str) -> None:
    """Where a model takes the mean of its map, the first window's tag and score are the model's own."""
    from transformers import AutoModelForImageClassification

    build(kind, tmp_path)
    grid = grids(kind)
    model = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    for image, one in zip(pictures(), grid.detect(prepared(grid, pictures()), regions=5), strict=True):
        with torch.no_grad():
            (ready,) = prepared(grid, [image])
            logits = model(pixel_values=grid.scaling.normalised([ready.inputs], grid.device)).logits[0]
        assert one.tags[0] == grid.names[int(logits.argmax())]
        assert abs(one.scores[0] - float(logits.softmax(0).max())) < 1e-4


def test_a_result_does_not_depend_on_the_others(mobilenet: Grid) -> None:
    together = mobilenet.detect(prepared(mobilenet, pictures()), batch=5)
    for batch in (1, 2, 3):
        for one, other in zip(together, mobilenet.detect(prepared(mobilenet, pictures()), batch=batch), strict=True):
            np.testing.assert_allclose(one.features, other.features, atol=1e-4)
            assert one.tags == other.tags
    backwards = mobilenet.detect(prepared(mobilenet, pictures()[::-1]), batch=2)[::-1]
    for one, other in zip(together, backwards, strict=True):
        np.testing.assert_allclose(one.features, other.features, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_halves_differ_by_rounding(tmp_path: Path, kind: str, precision: Precision) -> None:
    exact, halved = grids(kind), load_grid(build(kind, tmp_path), precision=precision)
    assert (exact.dim, exact.side, exact.names) == (halved.dim, halved.side, halved.names)
    for one, other in zip(
        exact.detect(prepared(exact, pictures())), halved.detect(prepared(halved, pictures())), strict=True
    ):
        assert other.features.dtype == np.float32
        difference = np.abs(one.features - other.features).max() / np.abs(one.features).max()
        deep = 8 if kind == "mobilenet" else 1  # rounding adds up over fifty layers
        assert 0 < difference < deep * (0.03 if precision == "bfloat16" else 0.004)
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_a_picture_squashed_before_gives_the_same(mobilenet: Grid) -> None:
    """As the decoders do it: boxes are in pixels of the square then."""
    squares = [squash(image, mobilenet.square) for image in pictures()]
    assert {image.size for image in squares} == {(mobilenet.size, mobilenet.size)}
    whole, squashed = (mobilenet.detect(prepared(mobilenet, images)) for images in (pictures(), squares))
    for image, one, other in zip(pictures(), whole, squashed, strict=True):
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_allclose(one.boxes / (image.size * 2), other.boxes / mobilenet.size, atol=1e-6)


def test_pixels_are_scaled_as_the_settings_say() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), np.uint8)
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "rescale_factor": 1 / 200}
    found = scaling(settings).normalised(list(squares), torch.device("cpu"))
    literal = (squares / 200.0 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.6, 0.7])
    assert found.shape == (2, 3, 6, 6) and found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), literal.transpose(0, 3, 1, 2), atol=1e-6)


def test_input_size(tmp_path: Path) -> None:
    """Convolutional models see twice the picture they were trained on; transformers their own size only."""
    folder = build("mobilenet", tmp_path / "m")
    assert load_grid(folder).size == 64 and load_grid(folder, size=96).side == 3
    vit = build("vit", tmp_path / "v")
    assert load_grid(vit).size == 32 and load_grid(vit).side == 4
    with pytest.raises(ItmkitError, match="no feature map of a 64 x 64 picture"):
        load_grid(vit, size=64)


def test_tokens_before_the_patches_are_left_out() -> None:
    class Body:
        def __call__(self, pixel_values: torch.Tensor) -> Body:
            self.last_hidden_state = torch.arange(5 * 9 + 0.0)[: 9 + 5][None, :, None]
            return self

    assert feature_map(Body(), torch.zeros(1), slice(5, 14))[0, :, 0].tolist() == list(range(5, 14))


def test_models_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(ItmkitError, match=r"safetensors"):
        load_grid(tmp_path)
    folder = build("resnet", tmp_path / "r")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ItmkitError, match=r"no preprocessor_config\.json"):
        load_grid(folder)
    with pytest.raises(ItmkitError, match="not in the local hub cache"):
        load_grid("nobody/nothing-of-this-name")


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = build("resnet", tmp_path)
    grid = load_grid(folder)
    grid.body.embedder.embedder.convolution.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ItmkitError, match=r"b\.jpg: the model .* features that are not finite"):
        grid.detect(prepared(grid, pictures(1)), labels=["b.jpg"])
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.endswith("embedder.convolution.weight"))
    weights[name][0, 0, 0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ItmkitError, match=r"slope of colours: the model .* features that are not finite"):
        load_grid(folder)


@pytest.mark.skipif("ITMKIT_TEST_DATA" not in os.environ, reason="needs ITMKIT_TEST_DATA")
def test_real_photograph() -> None:
    data = Path(os.environ["ITMKIT_TEST_DATA"])
    grid = load_grid(data / "models" / "mobilenet_v2")
    assert (grid.dim, grid.size, grid.side, len(grid.names)) == (1280, 448, 14, 1001)
    image = load_image(sorted((data / "flickr8k" / "images").glob("101669240_*.jpg"))[0])
    found = grid.detect(prepared(grid, [image]))[0]
    assert len(found) == 36 and sum("ski" in tag for tag in found.tags) > 10

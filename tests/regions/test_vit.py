"""Patch vectors against direct calls of transformers on the same pixels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from itmkit.errors import ItmkitError
from itmkit.machine.device import Precision
from itmkit.regions.vit import CLS, HEAD, load_patch_model
from tests.built import loaded_once
from tests.regions.tiny_models import build, prepared
from tests.regions.tiny_vits import EXTRA, MEAN, STD, build_vit

models = loaded_once(build_vit, partial(load_patch_model, attention=True))  # of each family, not to be changed


def pictures(count: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shapes = [(40, 30), (64, 64), (31, 90), (200, 17), (50, 50)]
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in shapes[:count]]


def pixels(images: list[Image.Image], size: int = 32) -> torch.Tensor:
    squares = np.stack([np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) for image in images])
    values = (squares / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(values.transpose(0, 3, 1, 2)).float()


def direct(folder: Path, images: list[Image.Image], size: int = 32, **options: Any) -> tuple[Any, Any]:
    """The body of the model, and its output with the attention of all layers."""
    from transformers import AutoModel

    network = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    body = getattr(network, "vision_model", network)
    with torch.no_grad():
        return body, body(pixel_values=pixels(images, size), output_attentions=True, **options)


@pytest.mark.parametrize("kind", [kind for kind in EXTRA if kind != "siglip"])
def test_features_and_attention_are_the_models_own(tmp_path: Path, kind: str) -> None:
    folder = build_vit(kind, tmp_path)
    model = models(kind)
    assert (model.side, model.patches, model.dim, model.size, model.whole) == (4, 16, 16, 32, CLS)
    features, cls, attention = model.describe(prepared(model, pictures()), batch=2)
    body, output = direct(folder, pictures())
    states = output.last_hidden_state
    with torch.no_grad():
        if kind.startswith("clip"):
            states = body.post_layernorm(states)
            np.testing.assert_allclose(cls, output.pooler_output.numpy(), atol=1e-4)
        if kind == "beit-mean":
            states = body.pooler.layernorm(states)
    extra = EXTRA[kind]
    assert states.shape[1] == 16 + extra
    np.testing.assert_allclose(features, states[:, extra:].numpy(), atol=1e-4)
    np.testing.assert_allclose(cls, states[:, 0].numpy(), atol=1e-4)
    assert features.dtype == cls.dtype == attention.dtype == np.float32
    last = output.attentions[-1].numpy()  # (3, 2 heads, T, T)
    for n in range(3):
        row = [sum(last[n, head, 0, extra + patch] for head in range(2)) / 2 for patch in range(16)]
        np.testing.assert_allclose(attention[n], np.array(row) / sum(row), atol=1e-5)
    np.testing.assert_allclose(attention.sum(1), 1, atol=1e-5)
    first = output.attentions[0].numpy()[:, :, 0, extra:].mean(1)
    assert np.abs(attention - first / first.sum(1, keepdims=True)).max() > 1e-3  # it is the last layer's


def test_siglip_takes_its_pooling_head_for_cls(tmp_path: Path) -> None:
    folder = build_vit("siglip", tmp_path)
    model = models("siglip")
    assert model.whole == HEAD and model.patches == 16
    features, cls, attention = model.describe(prepared(model, pictures()), batch=3)
    body, output = direct(folder, pictures())
    np.testing.assert_allclose(features, output.last_hidden_state.numpy(), atol=1e-4)
    np.testing.assert_allclose(cls, output.pooler_output.numpy(), atol=1e-4)
    with torch.no_grad():
        states = output.last_hidden_state
        probe = body.head.probe.repeat(3, 1, 1)
        weights = body.head.attention(probe, states, states)[1][:, 0].numpy()
    np.testing.assert_allclose(attention, weights, atol=1e-5)
    np.testing.assert_allclose(attention.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "registers", "siglip"])
def test_a_result_does_not_depend_on_the_others(kind: str) -> None:
    model = models(kind)
    together = model.describe(prepared(model, pictures(5)), batch=5)
    for batch in (1, 2, 3):
        for one, other in zip(together, model.describe(prepared(model, pictures(5)), batch=batch), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    for one, other in zip(together, model.describe(prepared(model, pictures(5)[::-1]), batch=2), strict=True):
        np.testing.assert_allclose(one, other[::-1], atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "registers", "beit", "clip", "siglip"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_halves_differ_by_rounding(tmp_path: Path, kind: str, precision: Precision) -> None:
    exact = models(kind)
    halved = load_patch_model(build_vit(kind, tmp_path), attention=True, precision=precision)
    assert (exact.dim, exact.patches, exact.whole) == (halved.dim, halved.patches, halved.whole)
    both = (model.describe(prepared(model, pictures()), batch=3) for model in (exact, halved))
    for one, other in zip(*both, strict=True):
        assert other.dtype == np.float32
        difference = np.abs(one - other).max() / np.abs(one).max()
        assert 0 < difference < (0.04 if precision == "bfloat16" else 0.005)


@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2", "beit", "clip", "siglip"])
def test_other_sizes_interpolate_positions(tmp_path: Path, kind: str) -> None:
    folder = build_vit(kind, tmp_path)
    model = load_patch_model(
        folder, attention=True, size=52
    )  # 6 patches of 8, and 4 pixels that the model does not see
    assert (model.side, model.patches, model.size) == (6, 36, 52)
    features, _, attention = model.describe(prepared(model, pictures()), batch=3)
    options = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
    body, output = direct(folder, pictures(), 52, **options)
    states = output.last_hidden_state
    with torch.no_grad():
        states = body.post_layernorm(states) if kind == "clip" else states
    np.testing.assert_allclose(features, states[:, -36:].numpy(), atol=1e-4)
    assert attention.shape == (3, 36)


def test_boxes_are_the_patches_in_pixels_of_the_picture(tmp_path: Path) -> None:
    model = load_patch_model(build_vit("vit", tmp_path))
    boxes = model.boxes((64, 16))
    assert boxes.shape == (16, 4) and boxes.dtype == np.float32
    assert boxes[0].tolist() == [0, 0, 16, 4] and boxes[1].tolist() == [16, 0, 32, 4]
    assert boxes[4].tolist() == [0, 4, 16, 8] and boxes[15].tolist() == [48, 12, 64, 16]
    odd = load_patch_model(tmp_path, size=40 + 5).boxes((450, 90))  # 5 x 5 patches see 40 of 45 pixels
    assert odd[-1].tolist() == pytest.approx([320, 64, 400, 80])


def test_the_size_is_the_one_the_models_preprocessing_ends_in(tmp_path: Path) -> None:
    folder = build_vit("dinov2", tmp_path)
    for settings, size in (
        ('{"size": {"shortest_edge": 64}, "crop_size": {"height": 48, "width": 48}}', 48),
        ('{"size": {"shortest_edge": 64}, "crop_size": {"height": 48, "width": 48}, "do_center_crop": false}', 64),
        ("{}", 32),
    ):
        (folder / "preprocessor_config.json").write_text(settings)
        assert load_patch_model(folder).size == size


def test_models_of_another_kind(tmp_path: Path) -> None:
    for kind in ("resnet", "mobilenet"):
        with pytest.raises(ItmkitError, match=r"ViT, DeiT, DINOv2") as caught:
            load_patch_model(build(kind, tmp_path / kind))
        assert str(tmp_path / kind) in caught.value.problems[0]
    folder = build_vit("vit", tmp_path / "vit")
    with pytest.raises(ItmkitError, match="gives no patches of a 4 x 4 picture"):
        load_patch_model(folder, size=4)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ItmkitError, match=r"no preprocessor_config\.json"):
        load_patch_model(folder)
    with pytest.raises(ItmkitError, match="not in the local hub cache"):
        load_patch_model("nobody/nothing-of-this-name")


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = build_vit("vit", tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({name: t for name, t in weights.items() if "layernorm" not in name}, folder / "model.safetensors")
    with pytest.raises(ItmkitError, match="the weights do not fit the model"):
        load_patch_model(folder)

"""Families of vision models, each against a literal call of transformers on pixels made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from PIL import Image
from safetensors.torch import load_file, save_file

from itmkit.errors import ItmkitError
from itmkit.regions.grid import load_grid
from itmkit.regions.vit import CLS, HEAD, MEAN, PatchModel, load_patch_model
from tests.regions.tiny_models import prepared
from tests.regions.tiny_vits import MEAN as BY_CHANNEL
from tests.regions.tiny_vits import STD, save_vit

NARROW: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9}
MERGING: dict[str, Any] = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2],
                           "window_size": 2}  # fmt: skip
BLIP: dict[str, Any] = {"text_config": TEXT, "vision_config": NARROW, "image_text_hidden_size": 8}

# model, the place of its first patch, the number of its patches, what stands for [CLS], whether it has attention
FAMILIES: dict[str, tuple[Callable[[], Any], int, int, str, bool]] = {
    "yolos": (lambda: t.YolosModel(t.YolosConfig(**NARROW | {"image_size": [32, 32]}, num_detection_tokens=9)),
              1, 16, CLS, True),
    "mae": (lambda: t.ViTMAEModel(t.ViTMAEConfig(**NARROW)), 1, 16, CLS, True),
    "msn": (lambda: t.ViTMSNModel(t.ViTMSNConfig(**NARROW)), 1, 16, CLS, True),
    "dinov3": (lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**NARROW, num_register_tokens=4)), 5, 16, CLS, True),
    "dinov3-convnext": (lambda: t.DINOv3ConvNextModel(t.DINOv3ConvNextConfig(
        image_size=32, hidden_sizes=[8, 16], depths=[1, 1])), 1, 16, CLS, False),
    "swin": (lambda: t.SwinModel(t.SwinConfig(**MERGING)), 0, 16, MEAN, False),
    "swinv2": (lambda: t.Swinv2Model(t.Swinv2Config(**MERGING)), 0, 16, MEAN, False),
    "aimv2": (lambda: t.Aimv2VisionModel(t.Aimv2VisionConfig(**NARROW)), 0, 16, HEAD, False),
    "aimv2-native": (lambda: t.Aimv2VisionModel(t.Aimv2VisionConfig(**NARROW, use_head=False)), 0, 16, MEAN, False),
    "ijepa": (lambda: t.IJepaModel(t.IJepaConfig(**NARROW), add_pooling_layer=False), 0, 16, MEAN, False),
    "blip": (lambda: t.BlipModel(t.BlipConfig(**BLIP)), 1, 16, CLS, True),
    "blip-itm": (lambda: t.BlipForImageTextRetrieval(t.BlipConfig(**BLIP)), 1, 16, CLS, True),
}  # fmt: skip


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in ((40, 30), (31, 90))]


def literal(kind: str, folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Patches and the attention of [CLS], straight from the class that was saved."""
    squares = np.stack([np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)) for image in pictures()])
    values = (squares / 255 - np.array(BY_CHANNEL)) / np.array(STD)
    pixels = torch.from_numpy(values.transpose(0, 3, 1, 2)).float()
    make, first, count, _, _ = FAMILIES[kind]
    model = type(make()).from_pretrained(folder, attn_implementation="eager").eval()
    options = {}
    if kind == "mae":
        model.config.mask_ratio = 0.0
        options = {"noise": torch.arange(16.0).expand(2, 16)}
    body = getattr(model, "vision_model", model)
    with torch.no_grad():
        output = body(pixel_values=pixels, output_attentions=True, **options)
        states = output.last_hidden_state
    found = output.attentions[-1].numpy() if first and getattr(output, "attentions", None) else None
    return states[:, first : first + count].numpy(), found


def described(model: PatchModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return model.describe(prepared(model, pictures()), batch=2)


@pytest.mark.parametrize("kind", FAMILIES)
def test_patches_are_the_models_own(tmp_path: Path, kind: str) -> None:
    make, first, count, whole, attentive = FAMILIES[kind]
    torch.manual_seed(0)
    folder = save_vit(make(), tmp_path)
    model = load_patch_model(folder, attention=attentive)
    features, cls, attention = described(model)
    assert (model.first, model.patches, model.whole, model.attention is not None) == (first, count, whole, attentive)
    expected, weights = literal(kind, folder)
    np.testing.assert_allclose(features, expected, atol=1e-4)
    if whole == MEAN:
        np.testing.assert_allclose(cls, expected.mean(1), atol=1e-4)
    if attentive:
        assert weights is not None
        row = weights[:, :, 0, first : first + count].mean(1)
        np.testing.assert_allclose(attention, row / row.sum(1, keepdims=True), atol=1e-5)
        fused, _, without = described(load_patch_model(folder))
        np.testing.assert_allclose(fused, features, atol=1e-4)
        assert without.shape == (2, 0)
    else:
        assert attention.shape == (2, 0)
        with pytest.raises(ItmkitError, match=r"neither a \[CLS\] token nor a pooling head.*without --attention"):
            load_patch_model(folder, attention=True)


@pytest.mark.parametrize("kind", ["yolos", "mae", "swin"])
def test_another_weight_or_preprocessor_gives_other_rows(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    folder = save_vit(FAMILIES[kind][0](), tmp_path)
    features, _, _ = described(load_patch_model(folder))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.4, 0.4, 0.3]}))
    assert np.abs(described(load_patch_model(folder))[0] - features).max() > 1e-3
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    np.testing.assert_array_equal(described(load_patch_model(folder))[0], features)
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if "patch_embeddings.projection.weight" in key)
    weights[name][0, 0] += 0.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert np.abs(described(load_patch_model(folder))[0] - features).max() > 1e-3


@pytest.mark.parametrize("kind", ["yolos", "mae", "dinov3"])
def test_windows_are_of_the_same_patches(tmp_path: Path, kind: str) -> None:
    """The first window of a grid is the mean over all patches."""
    torch.manual_seed(0)
    folder = save_vit(FAMILIES[kind][0](), tmp_path)
    grid = load_grid(folder)
    found = grid.detect(prepared(grid, pictures()), regions=5)
    np.testing.assert_allclose([one.features[0] for one in found], literal(kind, folder)[0].mean(1), atol=1e-4)


def test_models_whose_tokens_are_no_patches(tmp_path: Path) -> None:
    groups = {
        "hidden_size": 16, "depths": [1, 1, 1], "num_hidden_layers": 3, "num_group_tokens": [4, 2, 0],
        "num_output_groups": [4, 2, 0], "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
        "patch_size": 8, "assign_mlp_ratio": [0.5, 4],
    }  # fmt: skip
    model = t.GroupViTModel(t.GroupViTConfig(text_config=TEXT, vision_config=groups, projection_dim=12))
    folder = save_vit(model, tmp_path)
    with pytest.raises(ItmkitError, match="gives no patches of a 32 x 32 picture"):
        load_patch_model(folder)
    with pytest.raises(ItmkitError, match="gives no feature map of a 32 x 32 picture"):
        load_grid(folder)


def test_patches_of_naflex_are_refused(tmp_path: Path) -> None:
    vision = {key: value for key, value in NARROW.items() if key != "image_size"} | {"num_patches": 16}
    text = TEXT | {"projection_size": 16}
    folder = save_vit(t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=vision)), tmp_path)
    with pytest.raises(ItmkitError, match="gives no patches of a 32 x 32 picture"):
        load_patch_model(folder)


def test_a_model_that_answers_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a masked autoencoder of a family that is not known would."""
    torch.manual_seed(0)
    folder = save_vit(FAMILIES["mae"][0](), tmp_path)
    monkeypatch.setattr("itmkit.models.masked._in_order", lambda network, given, named: (given, named))
    with pytest.raises(ItmkitError, match=r"not one a patch|asked twice"):
        load_patch_model(folder)
    with pytest.raises(ItmkitError, match=r"not one a patch|asked twice"):
        load_grid(folder)


def test_a_dead_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = t.ViTModel(t.ViTConfig(**NARROW))
    folder = save_vit(model, tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({key: value * 0 for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ItmkitError, match=r"gives (vectors of zeros|the same vectors|no patches)"):
        load_patch_model(folder)

"""Builds tiny vision transformers with random weights, as folders that transformers can load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.built import built_once

# Tokens that stand before the patches in each family.
EXTRA = {"vit": 1, "vit-classifier": 1, "deit": 2, "dinov2": 1, "registers": 5, "beit": 1, "beit-mean": 1, "clip": 1,
         "clip-vision": 1, "siglip": 0}  # fmt: skip
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.5, 0.3]


@built_once
def build_vit(
    kind: str, folder: Path, *, size: int = 32, patch: int = 8, seed: int = 0, attentive: bool = True
) -> Path:
    """Saves a model of a family of `EXTRA`.

    Args:
        attentive: weights so large that attention is far from even, as that of trained models.
    """
    import transformers as t

    torch.manual_seed(seed)
    narrow: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "image_size": size, "patch_size": patch,
    }  # fmt: skip
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model: Any = {
        "vit": lambda: t.ViTModel(t.ViTConfig(**narrow)),
        "vit-classifier": lambda: t.ViTForImageClassification(t.ViTConfig(**narrow, num_labels=3)),
        "deit": lambda: t.DeiTModel(t.DeiTConfig(**narrow)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**narrow)),
        "registers": lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**narrow)),
        "beit": lambda: t.BeitModel(t.BeitConfig(**narrow, use_mean_pooling=False)),
        "beit-mean": lambda: t.BeitModel(t.BeitConfig(**narrow, use_mean_pooling=True)),
        "clip": lambda: t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=narrow, projection_dim=8)),
        "clip-vision": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**narrow)),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=narrow)),
    }[kind]()
    return save_vit(model, folder, size=size, attentive=attentive)


def save_vit(model: Any, folder: Path, *, size: int = 32, attentive: bool = True) -> Path:
    """Gives a vision model other random weights and saves it, with settings of pictures."""
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, 1.0, 0.3)  # final norms that do something
        elif attentive and weight.ndim > 1:
            torch.nn.init.normal_(weight, 0, 0.25)
    model.eval().save_pretrained(folder)
    processor = {
        "do_resize": True, "size": {"height": size, "width": size}, "resample": 2, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": MEAN, "image_std": STD,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder

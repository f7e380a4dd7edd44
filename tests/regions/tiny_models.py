"""Builds tiny vision models with random weights, as folders that transformers can load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.built import built_once


def prepared(model: Any, images: Sequence[Image.Image]) -> list[Any]:
    """Pictures through the model's own `prepare`."""
    return [model.prepare(image) for image in images]


MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.5, 0.3]
KINDS = ("mobilenet", "resnet", "convnext", "vit", "swin", "dinov2", "clip")


@built_once
def build(kind: str, folder: Path, *, size: int = 32, seed: int = 0) -> Path:
    """Saves a model of a family: classifiers of 5 classes, except dinov2 and clip."""
    import transformers as t

    torch.manual_seed(seed)
    labels: dict[str, Any] = {"num_labels": 5, "id2label": dict(enumerate(["cat, felis", "dog", "car", "cup", "tree"]))}
    narrow: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "image_size": size, "patch_size": 8,
    }  # fmt: skip
    model: Any
    if kind == "mobilenet":
        small = t.MobileNetV2Config(depth_multiplier=0.1, image_size=size, **labels)
        model = t.MobileNetV2ForImageClassification(small)
    elif kind == "resnet":
        model = t.ResNetForImageClassification(
            t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **labels)
        )
    elif kind == "convnext":
        model = t.ConvNextForImageClassification(
            t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=size, **labels)
        )
    elif kind == "vit":
        model = t.ViTForImageClassification(t.ViTConfig(**narrow, **labels))
    elif kind == "swin":
        model = t.SwinForImageClassification(
            t.SwinConfig(
                image_size=size, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=2, **labels
            )
        )
    elif kind == "dinov2":
        model = t.Dinov2Model(t.Dinov2Config(**narrow))
    else:
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        model = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=narrow, projection_dim=8))
    for module in model.modules():  # a random network in evaluation mode barely tells pictures apart otherwise
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
        elif isinstance(module, torch.nn.Conv2d) and kind == "mobilenet":
            torch.nn.init.kaiming_normal_(module.weight)  # else its many layers leave nothing of a picture
    model.eval().save_pretrained(folder)
    processor = {
        "do_resize": True, "size": {"height": size, "width": size}, "resample": 2, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": MEAN, "image_std": STD,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder

"""Builds tiny dual encoders with random weights, a tokeniser and picture settings, as folders for transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.built import built_once

DUALS = ("clip", "align", "altclip", "groupvit", "siglip")
LIMIT = 10  # tokens of a caption, special ones counted
WORDS = ["a", "picture", "of", "the", "red", "dog", "and", "blue", "ball", "cat", "runs"]
PAD, START, END, UNKNOWN = 0, 1, 2, 3
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.5, 0.3]


@built_once
def build_dual(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Saves a model of one of `DUALS` whose captions may have `LIMIT` tokens."""
    torch.manual_seed(seed)
    return save_dual(_model(kind), kind, folder)


def save_dual(model: Any, kind: str, folder: Path, *, lower: bool = True) -> Path:
    """Gives a model other random weights and saves it; `lower`: its tokeniser puts words in lower case."""
    for name, weight in model.named_parameters():
        if weight.ndim == 4:
            torch.nn.init.kaiming_normal_(weight)
        elif weight.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(weight, 0, 0.2)
    for module in model.modules():  # a random network in evaluation mode barely tells pictures apart otherwise
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    model.eval().save_pretrained(folder)
    _tokenizer(folder, mask=kind != "siglip", lower=lower)
    kinds = {"align": "EfficientNetImageProcessor", "siglip": "SiglipImageProcessor"}
    settings = {
        "image_processor_type": kinds.get(kind, "CLIPImageProcessor"),
        "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_center_crop": False,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": MEAN, "image_std": STD,
        "rescale_offset": False, "include_top": False,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def _model(kind: str) -> Any:
    import transformers as t

    words = {"vocab_size": len(WORDS) + 4, "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    layers: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    }  # fmt: skip
    text = {**words, **layers, "max_position_embeddings": LIMIT}
    vision = {**layers, "image_size": 32, "patch_size": 8}
    if kind == "clip":
        return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    if kind == "altclip":
        # RoBERTa's positions begin after that of the padding
        text = {**text, "max_position_embeddings": LIMIT + PAD + 1, "project_dim": 16}
        return t.AltCLIPModel(t.AltCLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    if kind == "siglip":
        return t.SiglipModel(t.SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=vision))
    if kind == "align":
        # EfficientNet at a hundredth of its width
        net = {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 16, "image_size": 32}
        return t.AlignModel(t.AlignConfig(text_config=text, vision_config=net, projection_dim=32))
    groups = {
        "hidden_size": 16, "depths": [1, 1, 1], "num_hidden_layers": 3, "num_group_tokens": [4, 2, 0],
        "num_output_groups": [4, 2, 0], "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
        "patch_size": 8, "assign_mlp_ratio": [0.5, 4],
    }  # fmt: skip
    return t.GroupViTModel(
        t.GroupViTConfig(text_config=text, vision_config=groups, projection_dim=12, projection_intermediate_dim=16)
    )


def _tokenizer(folder: Path, *, mask: bool, lower: bool) -> None:
    """Whole words, `<start>` before and `<end>` after; without a mask in its output where `mask` is off."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<start>", "<end>", "<unknown>"]
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*special, *WORDS])}, "<unknown>"))
    if lower:
        words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", START), ("<end>", END)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
        model_input_names=["input_ids", "attention_mask"] if mask else ["input_ids"],
    ).save_pretrained(folder)

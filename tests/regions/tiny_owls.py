"""Builds tiny OWLv2 and OWL-ViT detectors with random weights and tokenisers, as folders that transformers can load."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = ["a", "photo", "of", "cat", "dog", "red", "ball", "cube"]
START, UNKNOWN, END = 1, 2, 3 + len(WORDS)  # OWLv2 takes a text's vector where its highest number is
LIMIT = 8


def build_owl(folder: Path, *, kind: str = "Owlv2", seed: int = 0) -> Path:
    """Saves an OWLv2, or an OwlViT, of 8 x 8 patches; names may have three words."""
    import transformers as t

    torch.manual_seed(seed)
    layers = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    text = {
        **layers, "vocab_size": END + 1, "max_position_embeddings": LIMIT,
        "bos_token_id": START, "eos_token_id": END, "pad_token_id": 0,
    }  # fmt: skip
    vision = {**layers, "hidden_size": 24, "image_size": 64, "patch_size": 8}
    config = getattr(t, f"{kind}Config")(text_config=text, vision_config=vision, projection_dim=16)
    model = getattr(t, f"{kind}ForObjectDetection")(config)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(weight, 0, 0.2)
    model.eval().save_pretrained(folder)
    getattr(t, f"{kind}ImageProcessorPil")(size={"height": 64, "width": 64}).save_pretrained(folder)
    _tokenizer(folder)
    return folder


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate(["<pad>", "<start>", "<unknown>", *WORDS, "<end>"])}
    words = Tokenizer(models.WordLevel(numbers, "<unknown>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", START), ("<end>", END)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<start>", eos_token="<end>", unk_token="<unknown>",
        model_max_length=LIMIT,
    ).save_pretrained(folder)  # fmt: skip

"""Builds tiny Grounding DINOs with random weights and a tokeniser, as folders that transformers can load."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = ["cat", "dog", "red", "ball", "cube", "a", "sheep", "##dog", "tree", "house"]
LIMIT = 12  # tokens of a prompt
MEAN, STD = [0.3, 0.4, 0.5], [0.2, 0.25, 0.3]


def build_dino(folder: Path, *, kind: str = "grounding-dino", limit: int = LIMIT, seed: int = 7) -> Path:
    """Saves a (MM) Grounding DINO with 30 queries, whose prompts have up to `limit` tokens."""
    import transformers as t

    torch.manual_seed(seed)
    name = "MMGroundingDino" if kind == "mm-grounding-dino" else "GroundingDino"
    config = getattr(t, f"{name}Config")(
        backbone_config=t.SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, image_size=64,
            out_indices=[2, 3, 4],
        ),
        text_config=t.BertConfig(
            vocab_size=1030, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=32,
        ),
        num_queries=30, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=4, decoder_attention_heads=4, max_text_len=limit,
    )  # fmt: skip
    model = getattr(t, f"{name}ForObjectDetection")(config)
    for key, weight in model.named_parameters():
        if weight.ndim > 1 and "norm" not in key:
            torch.nn.init.normal_(weight, 0, 0.2)
        elif key.endswith(("vision_param", "text_param")):
            torch.nn.init.constant_(weight, 0.5)  # from 1e-4, at which picture and prompt hardly meet
    model.eval().save_pretrained(folder)
    t.GroundingDinoImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 96}, image_mean=MEAN, image_std=STD
    ).save_pretrained(folder)
    # The numbers of BERT's own tokens are built into the model.
    tokens = [f"[unused{number}]" for number in range(1030)]
    tokens[0], tokens[100:104], tokens[1012], tokens[1029] = "[PAD]", ["[UNK]", "[CLS]", "[SEP]", "[MASK]"], ".", "?"
    tokens[200 : 200 + len(WORDS)] = WORDS
    (folder / "vocab.txt").write_text("\n".join(tokens))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder

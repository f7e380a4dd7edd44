"""Dual encoders with ways of their own: SigLIP 2 NaFlex, and BLIP for retrieval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from PIL import Image
from safetensors.torch import load_file, save_file

from itmkit.embed.dual import load_dual
from itmkit.errors import ItmkitError
from tests.embed.test_dual import TEXTS, numbers, pictures, pixels
from tests.embed.tiny_duals import END, LIMIT, MEAN, PAD, START, STD, save_dual
from tests.regions.tiny_models import prepared

LAYERS: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXT: dict[str, Any] = {
    **LAYERS, "vocab_size": 15, "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD,
    "max_position_embeddings": LIMIT,
}  # fmt: skip


def siglip2(folder: Path) -> Path:
    torch.manual_seed(0)
    vision = {**LAYERS, "patch_size": 8, "num_patches": 16}
    config = t.Siglip2Config(text_config={**TEXT, "projection_size": 16}, vision_config=vision)
    save_dual(t.Siglip2Model(config), "siglip2", folder, lower=False)
    settings = {
        "image_processor_type": "Siglip2ImageProcessor", "patch_size": 8, "max_num_patches": 16, "resample": 2,
        "image_mean": MEAN, "image_std": STD,
    }  # fmt: skip
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    return folder


def blip(folder: Path) -> Path:
    torch.manual_seed(0)
    config = t.BlipConfig(
        text_config={**TEXT, "encoder_hidden_size": 16}, image_text_hidden_size=12,
        vision_config={**LAYERS, "image_size": 32, "patch_size": 8},
    )  # fmt: skip
    return save_dual(t.BlipForImageTextRetrieval(config), "blip", folder)


def test_naflex(tmp_path: Path) -> None:
    """Patches of the picture's own shape, filled up and masked; captions in lower case, padded to the limit."""
    dual = load_dual(siglip2(tmp_path))
    assert dual.lower and dual.pad_to_limit and not dual.masked and dual.limit == LIMIT
    network = t.Siglip2Model.from_pretrained(tmp_path).eval()
    images = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (16, wide, 3), np.uint8)) for n, wide in
              enumerate((32, 64, 16))]  # fmt: skip
    found = dual.image_vectors(prepared(dual, images), batch=3)
    for image, row in zip(images, found, strict=True):
        shape = prepared(dual, [image])[0]["spatial_shapes"][0].tolist()
        squashed = np.asarray(image.resize((shape[1] * 8, shape[0] * 8), Image.Resampling.BILINEAR))
        values = (squashed / 255 - np.array(MEAN)) / np.array(STD)
        patches = [values[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].reshape(-1) for r in range(shape[0]) for c in
                   range(shape[1])]  # fmt: skip
        count = len(patches)
        assert 0 < count <= 16
        with torch.no_grad():
            vector = network.get_image_features(
                pixel_values=torch.tensor(np.array(patches)).float()[None], spatial_shapes=torch.tensor([shape]),
                pixel_attention_mask=torch.ones(1, count),
            ).pooler_output[0]  # fmt: skip
        np.testing.assert_allclose(row, vector.numpy(), atol=1e-4)
    texts = ["A Dog", "THE red ball of a blue dog"]
    assert dual.tokenizer.padding_side == "right"
    # Gemma's tokeniser has no use for whole words: those of the tiny models, cased, take its place.
    words = t.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="<pad>")
    dual.tokenizer = words
    rows = dual.text_vectors(texts, dual.token_counts(texts), batch=2)
    for text, row in zip(texts, rows, strict=True):
        ids = numbers(text)
        with torch.no_grad():
            padded = torch.tensor([ids + [PAD] * (LIMIT - len(ids))])
            vector = network.get_text_features(input_ids=padded).pooler_output[0]
        np.testing.assert_allclose(row, vector.numpy(), atol=1e-4)
    cased = load_dual(tmp_path, lower=False)  # as a cache of an older version was made
    assert not cased.lower
    cased.tokenizer = words
    assert np.abs(cased.text_vectors(texts, cased.token_counts(texts), batch=2) - rows).max() > 1e-3


def test_blip_for_retrieval(tmp_path: Path) -> None:
    dual = load_dual(blip(tmp_path))
    assert dual.dim == 12 and dual.masked
    network = t.BlipForImageTextRetrieval.from_pretrained(tmp_path).eval()
    images = dual.image_vectors(prepared(dual, pictures()), batch=2)
    texts = dual.text_vectors(TEXTS, dual.token_counts(TEXTS), batch=4)
    for n, image in enumerate(pictures()):
        for m, text in enumerate(TEXTS):
            with torch.no_grad():
                cosine = network(
                    input_ids=torch.tensor([numbers(text)]), pixel_values=pixels([image]), use_itm_head=False
                ).itm_score.item()
            own = images[n] @ texts[m] / np.linalg.norm(images[n]) / np.linalg.norm(texts[m])
            assert own == pytest.approx(cosine, abs=1e-4)
    weights = load_file(tmp_path / "model.safetensors")
    weights["text_proj.weight"][0, 0] += 0.5
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    changed = load_dual(tmp_path)
    assert np.abs(changed.text_vectors(TEXTS, changed.token_counts(TEXTS), batch=4) - texts).max() > 1e-3
    np.testing.assert_array_equal(changed.image_vectors(prepared(changed, pictures()), batch=2), images)


def test_blip_2_is_refused_with_the_reason(tmp_path: Path) -> None:
    blip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "blip-2"}))
    with pytest.raises(ItmkitError, match="BLIP-2 gives 32 vectors a picture"):
        load_dual(tmp_path)


def test_a_gemma_tokeniser_of_siglip_gets_lower_case(tmp_path: Path) -> None:
    """SigLIP 2 with pictures of one size has the layers, and the name, of SigLIP."""
    torch.manual_seed(0)
    vision = {**LAYERS, "image_size": 32, "patch_size": 8}
    config = t.SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=vision)
    save_dual(t.SiglipModel(config), "siglip-mask", tmp_path, lower=False)
    assert not load_dual(tmp_path).lower
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "GemmaTokenizerFast"}))
    try:
        dual = load_dual(tmp_path)
    except ItmkitError:
        pytest.skip("this version of transformers checks the pieces of Gemma's tokeniser")
    assert dual.lower and dual.pad_to_limit
    made = dual._inputs(["A Dog"])
    assert list(made) == ["input_ids"] and made["input_ids"].shape == (1, LIMIT)

"""Vectors against direct calls of transformers on the same pixels and words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from itmkit.embed.dual import load_dual
from itmkit.errors import ItmkitError
from itmkit.machine.device import Precision
from tests.built import loaded_once
from tests.embed.tiny_duals import DUALS, END, LIMIT, MEAN, PAD, START, STD, WORDS, build_dual
from tests.regions.tiny_models import build, prepared
from tests.regions.tiny_vits import build_vit

LONG = "a red dog and a blue ball and the cat and a ball runs"
TEXTS = ["a dog", LONG, "the red ball of a blue dog", "zebra", "a dog runs", "of"]


duals = loaded_once(build_dual, load_dual)  # of each family, not to be changed


def pictures(count: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shapes = [(40, 30), (64, 64), (31, 90), (120, 17), (50, 50)]
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in shapes[:count]]


def pixels(images: list[Image.Image]) -> torch.Tensor:
    """The picture settings of the tiny models by hand: squashed to 32 x 32, normalised."""
    squares = np.stack([np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)) for image in images])
    values = (squares / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(values.transpose(0, 3, 1, 2)).float()


def numbers(text: str) -> list[int]:
    """Its tokens by hand, cut to LIMIT with the end token kept."""
    words = [WORDS.index(word) + 4 if word in WORDS else 3 for word in text.lower().split()]
    return [START, *words[: LIMIT - 2], END]


@pytest.mark.parametrize("kind", DUALS)
def test_vectors_are_the_models_own(tmp_path: Path, kind: str) -> None:
    """One picture and one caption at a time, without padding (SigLIP: padded as it was trained)."""
    from transformers import AutoModel

    folder = build_dual(kind, tmp_path)
    dual = duals(kind)
    assert dual.limit == LIMIT and dual.pad_to_limit == (kind == "siglip")
    images = dual.image_vectors(prepared(dual, pictures()), batch=2)
    counts = dual.token_counts(TEXTS)
    texts = dual.text_vectors(TEXTS, counts, batch=2)
    assert counts.tolist() == [len(text.split()) + 2 for text in TEXTS]
    assert images.shape == (3, dual.dim) and texts.shape == (6, dual.dim) and images.dtype == texts.dtype == np.float32
    network = AutoModel.from_pretrained(folder).eval()
    apart = np.abs(images - images[0]).max(1)[1:].min()  # ALIGN with random weights hardly tells pictures apart
    with torch.no_grad():
        for image, found in zip(pictures(), images, strict=True):
            vector = network.get_image_features(pixel_values=pixels([image])).pooler_output[0]
            np.testing.assert_allclose(found, vector.numpy(), rtol=0, atol=min(1e-4, 0.02 * apart))
        for text, found in zip(TEXTS, texts, strict=True):
            ids = numbers(text)
            if kind == "siglip":
                ids += [PAD] * (LIMIT - len(ids))
            vector = network.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0]
            np.testing.assert_allclose(found, vector.numpy(), atol=1e-4)
    assert np.abs(texts - texts[0]).max(1)[1:].min() > 1e-4  # captions differ
    assert apart > 1e-6


@pytest.mark.parametrize("kind", DUALS)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_halves_differ_by_rounding(tmp_path: Path, kind: str, precision: Precision) -> None:
    exact, halved = duals(kind), load_dual(build_dual(kind, tmp_path), precision=precision)
    counts = exact.token_counts(TEXTS)
    for one, other in (
        [dual.image_vectors(prepared(dual, pictures()), batch=2) for dual in (exact, halved)],
        [dual.text_vectors(TEXTS, counts, batch=2) for dual in (exact, halved)],
    ):
        assert other.dtype == np.float32
        difference = np.abs(one - other).max() / np.abs(one).max()
        most = 0.04 if precision == "bfloat16" else 0.005
        # GroupViT gives each patch to one group: rounding may choose another.
        assert 0 < difference < (0.2 if kind == "groupvit" else most)


@pytest.mark.parametrize("kind", DUALS)
def test_a_result_does_not_depend_on_the_others(kind: str) -> None:
    dual = duals(kind)
    counts = dual.token_counts(TEXTS)
    together = dual.text_vectors(TEXTS, counts, batch=6), dual.image_vectors(prepared(dual, pictures(5)), batch=5)
    for batch in (1, 2, 4):
        np.testing.assert_allclose(dual.text_vectors(TEXTS, counts, batch=batch), together[0], atol=1e-5)
        np.testing.assert_allclose(dual.image_vectors(prepared(dual, pictures(5)), batch=batch), together[1], atol=1e-5)
    np.testing.assert_allclose(dual.text_vectors(TEXTS[::-1], counts[::-1], batch=2)[::-1], together[0], atol=1e-5)


def test_a_real_tokeniser_of_clip(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    folder = build_dual("clip", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    letters = ["d", "o", "g</w>", "a</w>"]
    vocabulary = {"!": PAD, "<|startoftext|>": START, "<|endoftext|>": END, **{x: n for n, x in enumerate(letters, 3)}}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LIMIT).save_pretrained(folder)
    dual = load_dual(folder)
    assert dual._inputs(["A dog"])["input_ids"].tolist() == [[START, 6, 3, 4, 5, END]]
    assert dual.token_counts(["a " * 30]).tolist() == [32]
    assert dual._inputs(["a " * 30])["input_ids"].tolist() == [[START, *[6] * (LIMIT - 2), END]]


def test_the_limit_is_the_smaller_one(tmp_path: Path) -> None:
    folder = build_dual("clip", tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 5}))
    dual = load_dual(folder)
    assert dual.limit == 5 and dual._inputs([LONG])["input_ids"].shape == (1, 5)


def test_models_of_another_kind(tmp_path: Path) -> None:
    source = build_dual("clip", tmp_path / "clip")
    for name, folder in (("vit", build_vit("vit", tmp_path / "vit")), ("resnet", build("resnet", tmp_path / "resnet"))):
        with pytest.raises(ItmkitError, match=r"has no tokeniser \(tokenizer\.json"):
            load_dual(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).write_bytes((source / file).read_bytes())
        with pytest.raises(ItmkitError, match=rf"is no dual encoder .*'{name}'.*CLIP, ALIGN"):
            load_dual(folder)
    (source / "preprocessor_config.json").unlink()
    with pytest.raises(ItmkitError, match=r"no preprocessor_config\.json"):
        load_dual(source)
    with pytest.raises(ItmkitError, match="not in the local hub cache"):
        load_dual("nobody/nothing-of-this-name")


def test_damaged_parts(tmp_path: Path) -> None:
    folder = build_dual("clip", tmp_path)
    whole = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ItmkitError, match="its tokeniser fails"):
        load_dual(folder)
    (folder / "tokenizer.json").write_bytes(whole)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(ItmkitError, match="no model that transformers can load"):
        load_dual(folder)

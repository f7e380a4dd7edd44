"""LAPS against the literal version in `literal_laps`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.matchers import explain
from itmkit.runs.settings import resolve
from tests.matchers import literal_laps as literal
from tests.matchers.batches import image_batch, take_images, text_batch
from tests.matchers.literal_glfn import Text, encode_text
from tests.matchers.literal_mpsm import below, region_vectors, weights_of
from tests.matchers.settings import SETTINGS, Settings, config_of, named
from tests.matchers.test_chan import Largest
from tests.matchers.test_contract import matcher_of, scored, scores

COUNTS, LENGTHS = [4, 2, 3, 1], [3, 1, 5, 2]


def literal_text(place: int) -> Text:
    texts = text_batch(LENGTHS)
    assert texts.words is not None and texts.vectors is not None
    length = LENGTHS[place]
    return Text(texts.words[place, :length].tolist(), texts.vectors[place, :length].double().numpy())


@pytest.mark.parametrize("settings", SETTINGS["laps"], ids=named)
def test_scores_are_those_of_the_literal_version(settings: Settings) -> None:
    matcher, images = matcher_of(("laps", "local", settings)), image_batch(COUNTS)
    weights, config = weights_of(matcher), config_of("laps", settings)
    assert images.whole is not None
    found = scores(matcher, images, text_batch(LENGTHS))
    for i, count in enumerate(COUNTS):
        features, whole = images.features[i, :count].double().numpy(), images.whole[i].double().numpy()
        for t in range(len(LENGTHS)):
            expected = literal.score(weights, config, features, whole, literal_text(t))
            assert found[i, t] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("keep", "kept"), [(0.5, [2, 1, 2, 1]), (0.8, [4, 2, 3, 1]), (0.25, [1, 1, 1, 1]), (1e-9, [1] * 4), (1, COUNTS)]
)
def test_the_share_that_is_kept_is_rounded_up(keep: float, kept: list[int]) -> None:
    matcher, images = matcher_of(("laps", "local", {"keep": keep})), image_batch(COUNTS)
    relevance = torch.rand(4, 3, 4)
    found = matcher._kept(relevance, images.mask)  # type: ignore[operator]
    assert found.sum(dim=2).tolist() == [[count] * 3 for count in kept]
    assert not (found & ~images.mask.unsqueeze(1)).any()
    for i, count in enumerate(kept):
        best = relevance[i, :, : COUNTS[i]].topk(count, dim=1).indices
        assert found[i].gather(1, best).all()


def test_the_caption_changes_what_is_kept() -> None:
    images, texts = image_batch([4] * 12), text_batch(LENGTHS)
    for caption_chooses in (True, False):
        matcher = matcher_of(("laps", "local", {"caption_chooses": caption_chooses, "words": "gru"}))
        encoded, words = matcher.encode_images(images), matcher.encode_texts(texts)  # type: ignore[operator]
        cosine = torch.einsum("nrd,bld->nblr", encoded["nodes"], words["nodes"])
        shares, _ = matcher._tokens(encoded, cosine, words["inverse"])  # type: ignore[operator]
        kept = shares[:, :, 0] > 0  # (n, Bt, R)
        assert (kept != kept[:, :1]).any() == caption_chooses


def test_an_image_without_patches_scores_0() -> None:
    found = scores(matcher_of(("laps", "local", {})), image_batch([0, 4]), text_batch())
    assert not found[0].any() and found[1].all()


def test_of_patches_far_below_the_largest_something_is_left() -> None:
    """A token may be made of them alone, though its weight of a patch that is left out is e^1000 times as large."""
    matcher = matcher_of(("laps", "local", {"keep": 0.5, "aggregate": 1.0}))
    with torch.no_grad():
        matcher.tokens.scale.fill_(1e4)  # type: ignore[union-attr, operator]
    images, texts = image_batch([4] * 3), text_batch(LENGTHS)
    encoded = matcher.encode_images(images)  # type: ignore[operator]
    assert (encoded["shares"] > 0).all()
    assert np.isfinite(scores(matcher, images, texts)).all()


def test_no_token_is_formed() -> None:
    """What is computed of pairs has no dimension of size D."""
    matcher = matcher_of(("laps", "local", {"embed": 600, "words": "gru", "keep": 1.0, "aggregate": 1.0}))
    images, texts = image_batch([4] * 20), text_batch([5] * 20)
    with torch.no_grad():
        encoded, words = matcher.encode_images(images), matcher.encode_texts(texts)  # type: ignore[operator]
        with Largest() as largest:
            matcher.score(encoded, words)  # type: ignore[operator]
    assert largest.numbers <= max(20 * 20 * 5 * 5, 20 * 5 * 600)


def test_each_word_looks_at_the_patches_of_its_best_token() -> None:
    matcher, images = matcher_of(("laps", "local", {"keep": 0.5, "aggregate": 1.0})), image_batch(COUNTS)
    weights, config = weights_of(matcher), config_of("laps", {"keep": 0.5, "aggregate": 1.0})
    with torch.no_grad():
        image, text = (
            matcher.encode_images(take_images(images, [2])),  # type: ignore[operator]
            matcher.encode_texts(text_batch(LENGTHS).chosen(torch.tensor([0]), 3)),  # type: ignore[operator]
        )
        found = explain(matcher, image, text)["words_to_regions"][:, :3].double().numpy()
    patches = region_vectors(below(weights, "patches."), images.features[2, :3].double().numpy(), normalised=False)
    words = encode_text(weights, config, literal_text(0))
    tokens = literal.tokens_of(weights, config, patches, words)
    for row, word in zip(found, words, strict=True):
        best = max(tokens, key=lambda token: float(word @ token))
        token = sum(share * patch for share, patch in zip(row, patches, strict=True))
        assert token @ best / np.linalg.norm(token) == pytest.approx(1, abs=1e-5)


def test_selection_has_no_gradient_and_the_rest_has() -> None:
    matcher = matcher_of(("laps", "local", {}))
    images = image_batch([4] * 3)
    features = images.features.clone().requires_grad_()
    scored(matcher, replace(images, features=features), text_batch()).sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None and (features.grad.abs().amax(dim=2) > 0).all()  # kept and left out


def test_only_patches_have_a_class_token() -> None:
    with pytest.raises(ItmkitError) as error:
        resolve("laps", settings={"images": "regions", "class_vectors": "image"})
    assert "regions have no [CLS]" in str(error.value)
    with pytest.raises(ItmkitError, match="--images 'graphs/texts'"):
        resolve("laps", settings={"images": "graphs/texts"})

"""RCAR against the literal version in `literal_rcar`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itmkit.matchers import build, explain
from tests.matchers import literal_rcar as literal
from tests.matchers.batches import SIZES, image_batch, take_images, text_batch
from tests.matchers.literal_glfn import Text
from tests.matchers.literal_mpsm import weights_of
from tests.matchers.settings import SETTINGS, Settings, config_of, named
from tests.matchers.test_contract import matcher_of, scored, scores

COUNTS, LENGTHS = [4, 2, 3, 1], [3, 1, 5, 2]

every_member = pytest.mark.parametrize("member", ["t2i", "i2t"])


def literal_text(place: int) -> Text:
    texts = text_batch(LENGTHS)
    assert texts.words is not None and texts.vectors is not None
    length = LENGTHS[place]
    return Text(texts.words[place, :length].tolist(), texts.vectors[place, :length].double().numpy())


@every_member
@pytest.mark.parametrize("settings", SETTINGS["rcar"], ids=named)
def test_scores_are_those_of_the_literal_version(settings: Settings, member: str) -> None:
    matcher, images = matcher_of(("rcar", member, settings)), image_batch(COUNTS)
    weights, config = weights_of(matcher), config_of("rcar", settings)
    found = scores(matcher, images, text_batch(LENGTHS))
    for i, count in enumerate(COUNTS):
        features = images.features[i, :count].double().numpy()
        for t in range(len(LENGTHS)):
            expected = literal.pair(weights, config, member, features, literal_text(t)).score
            assert found[i, t] == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
@every_member
def test_what_it_explains_is_the_last_attention_and_the_last_weights(member: str) -> None:
    matcher, images = matcher_of(("rcar", member, {})), image_batch(COUNTS)
    image = matcher.encode_images(take_images(images, [2]))  # type: ignore[operator]
    found = explain(matcher, image, matcher.encode_texts(text_batch(LENGTHS).chosen(torch.tensor([0]), 3)))  # type: ignore[operator]
    features = images.features[2, :3].double().numpy()
    expected = literal.pair(weights_of(matcher), config_of("rcar"), member, features, literal_text(0))
    if member == "t2i":
        np.testing.assert_allclose(found["words_to_regions"][:, :3], expected.attention, atol=1e-5)
        np.testing.assert_allclose(found["nodes"], expected.weights, atol=1e-5)
    else:
        assert found.keys() == {"regions_to_words"}
        np.testing.assert_allclose(found["regions_to_words"][:, :3].T, expected.attention, atol=1e-5)


@every_member
def test_scores_are_the_same_with_gradients(member: str) -> None:
    """Without them tanh is computed in another way, and in place."""
    matcher, images, texts = matcher_of(("rcar", member, {"steps": 3})), image_batch(COUNTS), text_batch(LENGTHS)
    with_gradients = scored(matcher, images, texts).detach().numpy()
    np.testing.assert_allclose(scores(matcher, images, texts), with_gradients, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "alignments", "corrections"),
    [({}, 2, 1), ({"steps": 3}, 3, 2), ({"regulators": "rcr"}, 2, 2), ({"regulators": "rar", "steps": 3}, 1, 0)],
)
def test_only_what_takes_part_is_built(settings: Settings, alignments: int, corrections: int) -> None:
    for matcher in build("rcar", config_of("rcar", settings), sizes=SIZES, seed=0).values():
        assert len(matcher.alignments) == alignments and len(matcher.correspondence) == corrections  # type: ignore[arg-type]
        assert hasattr(matcher, "predict") == (settings.get("regulators") != "rcr")


@every_member
def test_a_sharpness_far_beyond_its_start_is_safe_in_float32(member: str) -> None:
    """It is learned, so that nothing bounds it."""
    matcher = matcher_of(("rcar", member, {}))
    with torch.no_grad():
        matcher.correspondence[0].sharpness[2].bias.fill_(1e4)  # type: ignore[index, union-attr, operator]
    assert np.isfinite(scores(matcher, image_batch(COUNTS), text_batch(LENGTHS))).all()

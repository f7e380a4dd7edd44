"""CHAN against the literal version in `literal_chan`."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.overrides import TorchFunctionMode

from itmkit.errors import ItmkitError
from itmkit.matchers import explain
from itmkit.matchers.chan import Config, hard_alignment
from itmkit.matchers.parts.attention import MAX_LSE, FlatWords
from itmkit.matchers.parts.norms import l2norm
from itmkit.runs.settings import resolve
from tests.matchers import literal_chan as literal
from tests.matchers.batches import image_batch, text_batch
from tests.matchers.literal_glfn import Text
from tests.matchers.literal_mpsm import weights_of
from tests.matchers.settings import SETTINGS, Settings, config_of, named
from tests.matchers.test_contract import matcher_of, scores

COUNTS, LENGTHS = [4, 2, 3, 1], [3, 1, 5, 2]


def literal_text(place: int) -> Text:
    texts = text_batch(LENGTHS)
    assert texts.words is not None and texts.vectors is not None
    length = LENGTHS[place]
    return Text(texts.words[place, :length].tolist(), texts.vectors[place, :length].double().numpy())


@pytest.mark.parametrize("settings", SETTINGS["chan"], ids=named)
def test_scores_are_those_of_the_literal_version(settings: Settings) -> None:
    matcher, images = matcher_of(("chan", "local", settings)), image_batch(COUNTS)
    weights, config = weights_of(matcher), config_of("chan", settings)
    found = scores(matcher, images, text_batch(LENGTHS))
    for i, count in enumerate(COUNTS):
        features = images.features[i, :count].double().numpy()
        for t in range(len(LENGTHS)):
            assert found[i, t] == pytest.approx(literal.score(weights, config, features, literal_text(t)), abs=1e-5)


def test_an_image_without_regions_scores_0() -> None:
    for settings in ({}, {"pool": "lse"}):
        found = scores(matcher_of(("chan", "local", settings)), image_batch([0, 4]), text_batch())
        assert not found[0].any() and found[1].all()


def test_the_best_region_of_each_word_explains_the_score() -> None:
    matcher, images = matcher_of(("chan", "local", {})), image_batch(COUNTS)
    weights, config = weights_of(matcher), config_of("chan")
    encoded = matcher.encode_images(images)  # type: ignore[operator]
    for i, count in enumerate(COUNTS):
        one = {name: value[i : i + 1] for name, value in encoded.items()}
        words = matcher.encode_texts(text_batch([LENGTHS[2]], longest=5))  # type: ignore[operator]
        found = explain(matcher, one, words)["words_to_regions"]
        text = text_batch([LENGTHS[2]], longest=5)
        assert text.words is not None and text.vectors is not None
        same = Text(text.words[0].tolist(), text.vectors[0].double().numpy())
        regions = literal.encode_image(weights, config, images.features[i, :count].double().numpy())
        expected = literal.alignment(regions, literal.encode_text(weights, config, same))
        assert found.shape == (5, 4) and torch.equal(found.sum(dim=1), torch.ones(5))
        assert found.argmax(dim=1).tolist() == [where for _, where in expected]


def test_the_sharpest_pooling_is_safe_in_float32() -> None:
    matcher = matcher_of(("chan", "local", {"pool": "lse", "lse_sharpness": MAX_LSE}))
    same = {"nodes": torch.ones(1, 100, 12) / 12**0.5, "mask": torch.ones(1, 100, dtype=torch.bool)}
    opposite = {**same, "nodes": -same["nodes"]}
    for texts, sign in ((same, 1), (opposite, -1)):
        found = matcher.score(same, texts)  # type: ignore[operator]
        assert float(found.detach()) == pytest.approx(sign * MAX_LSE + torch.tensor(100.0).log().item(), abs=1e-3)
    with pytest.raises(ValidationError, match="lse_sharpness"):
        Config(lse_sharpness=MAX_LSE + 1)


class Largest(TorchFunctionMode):
    """The most numbers of a tensor that is made."""

    numbers = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.numbers = max(self.numbers, found.numel())
        return found


def test_no_vector_of_a_pair_is_formed() -> None:
    """The largest tensor is the cosines: of images, regions and words, without D."""
    regions, mask = l2norm(torch.randn(6, 5, 64)), torch.ones(6, 5, dtype=torch.bool)
    words = FlatWords.of(l2norm(torch.randn(7, 4, 64)), torch.ones(7, 4, dtype=torch.bool))
    with Largest() as largest:
        assert hard_alignment(regions, mask, words).shape == (28, 6)
    assert largest.numbers <= max(6 * 5 * 28, 28 * 64, 6 * 5 * 64)


def test_heads_must_divide_the_space() -> None:
    with pytest.raises(ItmkitError, match="--heads 8: must divide --embed 100"):
        resolve("chan", settings={"embed": 100})
    assert resolve("chan", settings={"embed": 100, "self_attention": False}).matcher.embed == 100

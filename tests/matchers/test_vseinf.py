"""VSE-infinity against the literal version in `literal_vseinf`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.matchers.parts.pooling import GeneralizedPooling, descending
from itmkit.runs.settings import resolve
from tests.matchers import literal_vseinf as literal
from tests.matchers.batches import image_batch, text_batch
from tests.matchers.literal_glfn import Text
from tests.matchers.literal_mpsm import weights_of
from tests.matchers.settings import SETTINGS, Settings, config_of, named
from tests.matchers.test_contract import matcher_of, scores

COUNTS, LENGTHS = [4, 2, 3, 1], [3, 1, 5, 2]


@pytest.mark.parametrize("settings", SETTINGS["vseinf"], ids=named)
def test_scores_are_those_of_the_literal_version(settings: Settings) -> None:
    matcher, images, texts = matcher_of(("vseinf", "global", settings)), image_batch(COUNTS), text_batch(LENGTHS)
    weights, config = weights_of(matcher), config_of("vseinf", settings)
    assert texts.words is not None and texts.vectors is not None
    found = scores(matcher, images, texts)
    for i, count in enumerate(COUNTS):
        features = images.features[i, :count].double().numpy()
        for t, length in enumerate(LENGTHS):
            text = Text(texts.words[t, :length].tolist(), texts.vectors[t, :length].double().numpy())
            assert found[i, t] == pytest.approx(literal.score(weights, config, features, text), abs=1e-5)


def test_gpo_can_be_the_maximum_and_the_mean() -> None:
    """As figure 2 of the paper has it; its weights do not depend on the values."""
    x, mask = torch.randn(3, 4, 6), torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])
    pooling = GeneralizedPooling()
    with torch.no_grad():
        pooling.weigh.weight.zero_()
        torch.testing.assert_close(pooling(x, mask)[1], x[1, [0, 2]].mean(dim=0))
        torch.testing.assert_close(descending(x, mask)[0, 0], x[0].amax(dim=0))
        assert not pooling(x, mask)[2].any()  # an empty set
        torch.testing.assert_close(pooling.weights(torch.tensor([1, 3]), 4).sum(dim=1), torch.ones(2))


def test_a_dropped_region_leaves_the_statistics_alone() -> None:
    """The norm of the regions' MLP sees real regions only."""
    images, texts, case = image_batch(), text_batch(), ("vseinf", "global", {})
    after = []
    for features in (images.features, images.features.masked_fill(~images.mask.unsqueeze(-1), 0)):
        matcher = matcher_of(case, training=True)
        matcher.encode_images(type(images)(features, images.mask))  # type: ignore[operator]
        matcher.encode_texts(texts)  # type: ignore[operator]
        after.append(weights_of(matcher)["regions.norm.running_var"])
    np.testing.assert_array_equal(*after)


def test_heads_must_divide_the_space() -> None:
    with pytest.raises(ItmkitError, match="--heads 16: must divide --embed 100"):
        resolve("vseinf", settings={"pooling": "top2", "embed": 100})
    assert resolve("vseinf", settings={"embed": 100}).matcher.embed == 100

"""Vectors of zeros at a matcher's first weights: captions of masked words, regions without features, empty images.

Biases begin at zero, so what is zero in a cache is zero wherever something is divided by a length.
"""

from __future__ import annotations

import pytest
import torch

from itmkit.matchers import METHODS, build, method, stages
from itmkit.matchers.parts.norms import l2norm
from tests.matchers.batches import POOLED, SIZES, image_batch, pooled_images, pooled_texts, text_batch
from tests.matchers.settings import Settings, config_of
from tests.matchers.test_contract import Case, case_name, pooled, trained_with


def with_all_words() -> list[Case]:
    """Every member of every method, with each kind of words that it reads from caches or learns."""
    found = []
    for name in METHODS:
        kinds: list[Settings] = [{}]
        if "words" in method(name).Config.__dataclass_fields__ and name != "scl":
            kinds = [{"words": kind} for kind in ("gru", "bert", "bert+gru")]
        for settings in kinds:
            found += [(name, member, settings) for member in method(name).members(config_of(name, settings))]
    return found


@pytest.mark.parametrize("case", with_all_words(), ids=case_name)
def test_zeros_leave_first_gradients_of_moderate_size(case: Case) -> None:
    """A gradient of 1e10 or more is clipped to nothing but what the zeros say, and its square may be infinite."""
    name, member, settings = case
    config, own = config_of(name, settings), torch.tensor([0, 1, 1, 2, 3])
    images, texts, sizes = image_batch([4, 2, 3, 0]), text_batch([3, 1, 5, 2, 2]), SIZES
    if pooled(name, settings):
        images, texts, sizes = pooled_images(4), pooled_texts(5), POOLED
    assert texts.vectors is not None
    images.features[0, 0] = 0  # one region; below, all regions of an image
    images.features[1] = 0
    texts.vectors[0] = 0  # all words of a caption; below, one word
    texts.vectors[2, 0] = 0
    for stage in stages(name, config, 1):
        matcher = build(name, config, sizes=sizes, seed=0)[member]
        for part, gradient in trained_with(matcher, images, texts, own, stage.name).items():
            assert gradient is None or gradient.abs().max() < 1e4, part  # which NaN is not


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_vector_of_zeros_stays_zero_and_has_no_gradient(dtype: torch.dtype) -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    unit = l2norm(x)
    unit.backward(torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=dtype))  # type: ignore[no-untyped-call]
    assert x.grad is not None and not unit[1].any() and not x.grad[1].any()
    torch.testing.assert_close(unit[0], torch.tensor([0.6, 0.8], dtype=dtype))
    torch.testing.assert_close(x.grad[0], torch.tensor([0.128, -0.096], dtype=dtype), atol=1e-3, rtol=1e-2)

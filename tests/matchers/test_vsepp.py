from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from itmkit.inputs import ImageBatch, TextBatch
from itmkit.matchers.parts.losses import triplet_loss
from itmkit.matchers.vsepp import Config, Matcher, members
from tests.matchers import literal_mpsm as literal
from tests.matchers.batches import (
    SIZES,
    image_batch,
    pad_images,
    pad_texts,
    take_images,
    take_texts,
    text_batch,
)


def matcher() -> Matcher:
    torch.manual_seed(0)
    config = Config(embed=8, word=5)
    return Matcher(config, member="global", sizes=SIZES).eval()


def scores(built: Matcher, images: ImageBatch, texts: TextBatch) -> Tensor:
    with torch.no_grad():
        return built.score(built.encode_images(images), built.encode_texts(texts))


def test_scores_are_cosines_of_means() -> None:
    images, texts, built = image_batch(), text_batch(), matcher()
    found = scores(built, images, texts)
    weights = literal.weights_of(built)
    for i, count in enumerate([4, 2, 3]):
        features = images.features[i, :count].double().numpy()
        regions = literal.region_vectors(literal.below(weights, "regions."), features, normalised=False)
        image = literal.unit(sum(regions) / count)
        for t, length in enumerate([3, 1, 5, 2]):
            words = texts.words[t, :length].tolist()
            vectors = literal.word_vectors(literal.below(weights, "words."), words, normalised=False)
            expected = image @ literal.unit(sum(vectors) / length)
            assert abs(float(found[i, t]) - expected) < 1e-5


def test_scores_do_not_depend_on_padding_or_company() -> None:
    images, texts, built = image_batch(), text_batch(), matcher()
    plain = scores(built, images, texts)
    torch.testing.assert_close(scores(built, pad_images(images, 2), pad_texts(texts, 3)), plain, rtol=0, atol=1e-5)
    some = scores(built, take_images(images, [2, 0]), take_texts(texts, [3, 1]))
    torch.testing.assert_close(some, plain[[2, 0]][:, [3, 1]], rtol=0, atol=1e-5)


def test_it_needs_no_graphs() -> None:
    images, texts = image_batch(), text_batch()
    bare = scores(
        matcher(), ImageBatch(images.features, images.mask, None, None), TextBatch(texts.words, texts.mask, None)
    )
    assert torch.equal(bare, scores(matcher(), images, texts))


def test_gradients_reach_every_parameter() -> None:
    built = matcher().train()
    view = built.views(built.encode_images(image_batch()), built.encode_texts(text_batch()))[0]
    triplet_loss(view, torch.tensor([0, 1, 1, 2]), margin=0.2, negatives="all").backward()  # type: ignore[no-untyped-call]
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert members(Config()) == {"global": 1.0}


def test_dropout_acts_in_training_only() -> None:
    config = Config(embed=8, word=5, dropout=0.5)
    built = Matcher(config, member="global", sizes=SIZES)
    images, texts = image_batch(), text_batch()
    assert torch.equal(scores(built.eval(), images, texts), scores(built.eval(), images, texts))
    assert not np.allclose(scores(built.train(), images, texts), scores(built.train(), images, texts))

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from itmkit.inputs import ImageBatch, TextBatch
from itmkit.matchers.vsepp import Config, Matcher
from tests.matchers import literal_mpsm as literal
from tests.matchers.batches import (
    SIZES,
    image_batch,
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


def test_it_needs_no_graphs() -> None:
    images, texts = image_batch(), text_batch()
    bare = scores(
        matcher(), ImageBatch(images.features, images.mask, None, None), TextBatch(texts.words, texts.mask, None)
    )
    assert torch.equal(bare, scores(matcher(), images, texts))


def test_dropout_acts_in_training_only() -> None:
    config = Config(embed=8, word=5, dropout=0.5)
    built = Matcher(config, member="global", sizes=SIZES)
    images, texts = image_batch(), text_batch()
    assert torch.equal(scores(built.eval(), images, texts), scores(built.eval(), images, texts))
    assert not np.allclose(scores(built.train(), images, texts), scores(built.train(), images, texts))

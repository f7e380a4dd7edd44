from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.matchers import stages
from itmkit.matchers.dual import Config, Matcher, needs, problems
from tests.matchers import literal_mpsm as literal
from tests.matchers.batches import POOLED, pooled_images, pooled_texts, take_images, take_texts


def test_scores_are_the_cosines_of_the_vectors() -> None:
    matcher = Matcher(Config(), member="global", sizes=POOLED)
    images, texts = pooled_images(), pooled_texts()
    found = matcher.score(matcher.encode_images(images), matcher.encode_texts(texts))
    assert texts.vectors is not None
    for i in range(3):
        for t in range(4):
            image, text = images.features[i, 0].double().numpy(), texts.vectors[t, 0].double().numpy()
            assert abs(float(found[i, t]) - literal.unit(image) @ literal.unit(text)) < 1e-6
    one = matcher.score(matcher.encode_images(take_images(images, [2])), matcher.encode_texts(take_texts(texts, [1])))
    torch.testing.assert_close(one, found[2:, 1:2])


def test_nothing_is_trained() -> None:
    assert not list(Matcher(Config(), member="global", sizes=POOLED).parameters())
    assert stages("dual", Config(), 30) == ()
    read = needs(Config(vectors_cache="clip"))
    assert read.caches == ("vectors-clip/images", "vectors-clip/texts")


@pytest.mark.parametrize(
    ("images", "vectors_cache", "read"),
    [
        ("vectors-clip", "", ("vectors-clip/images", "vectors-clip/texts")),
        ("vectors-large", "clip", ("vectors-large/images", "vectors-clip/texts")),
        ("vectors", "", ("vectors-/images", "vectors-/texts")),  # open: the only one there is
    ],
)
def test_images_say_where_the_vectors_of_pictures_are(images: str, vectors_cache: str, read: tuple[str, ...]) -> None:
    config = Config(images=images, vectors_cache=vectors_cache)
    assert needs(config).caches == read and not problems(config, None)


@pytest.mark.parametrize("images", ["regions", "patches", "vectors-", "vectors-clip/images", "vectors-a/b"])
def test_regions_and_patches_are_in_no_space_of_captions(images: str) -> None:
    assert problems(Config(images=images), None)[0].startswith(f"--images {images!r}: ")


def test_vectors_of_two_sizes_have_no_cosine() -> None:
    with pytest.raises(
        ItmkitError,
        match=r"vectors-clip/images: a picture has 10 numbers, and in caches/vectors-clip/texts a caption 7",
    ):
        Matcher(Config(vectors_cache="clip"), member="global", sizes=replace(POOLED, word_vector=7))

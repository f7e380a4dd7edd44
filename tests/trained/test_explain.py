"""What is shown is what the score is made of."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import itmkit
from itmkit.errors import ItmkitError
from itmkit.matchers import as_matcher, build, explain, method, preset
from itmkit.matchers.parts.attention import FlatWords
from itmkit.matchers.parts.norms import l2norm
from itmkit.trained.explain import falls_without
from itmkit.workspace import Workspace
from tests.matchers.batches import SIZES, image_batch, text_batch
from tests.trained.small_runs import RUNS

TEXT = "a big red dog left of the car"


@pytest.mark.parametrize("name", ["mpsm", "glfn", "mefn"])
def test_every_word_looks_at_the_regions_that_are_there(trained: Workspace, name: str) -> None:
    image = trained.dataset().split("test")[0]
    found = itmkit.open(trained.run(name)).explain(image.id, TEXT)
    assert found.words.words == TEXT.split() and found.words.spans[2] == (6, 9)
    assert found.attention is not None and found.attention.shape == (8, len(found.boxes))
    np.testing.assert_allclose(found.attention.sum(axis=1), 1, atol=1e-5)
    assert found.size == (image.width, image.height)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all() and len(found.regions) == len(found.boxes)
    assert json.loads(json.dumps(found.to_json()))["words"][2]["word"] == "red"


@pytest.mark.parametrize("name", RUNS)
def test_importance_is_what_the_score_loses_without_the_word(trained: Workspace, name: str) -> None:
    matcher, image = itmkit.open(trained.run(name)), trained.dataset().split("test")[0].id
    found = matcher.explain(image, TEXT)
    whole, without = matcher.score([image], [TEXT, "a big dog left of the car"])[0]
    assert found.score == pytest.approx(whole, abs=1e-6)
    assert found.importance[2] == pytest.approx(whole - without, abs=1e-6)
    assert found.importance.shape == (8,)


def test_a_method_without_regions_shows_none(trained: Workspace) -> None:
    found = itmkit.open(trained.run("dual")).explain(trained.dataset().split("test")[0].id, TEXT)
    assert found.attention is None and found.quantities == {} and found.boxes.shape == (0, 4)
    assert np.abs(found.importance).max() > 0


@pytest.mark.parametrize("name", ["mpsm", "dual"])
def test_words_lie_in_the_caption_as_it_is_read(trained: Workspace, name: str) -> None:
    matcher, image = itmkit.open(trained.run(name)), trained.dataset().split("test")[0].id
    found, plain = matcher.explain(image, "a&nbsp;cafe\u0301 &amp; a car"), matcher.explain(image, "a\xa0café & a car")
    assert found.text == plain.text == "a\xa0café & a car"
    assert found.words == plain.words and found.score == plain.score
    assert [found.text[start:end] for start, end in found.words.spans] == ["a", "café", "&", "a", "car"]
    with pytest.raises(ItmkitError, match="holds no word"):
        matcher.explain(image, "&nbsp;")


def test_a_caption_of_one_word_keeps_it(trained: Workspace) -> None:
    found = itmkit.open(trained.run("mpsm")).explain(trained.dataset().split("test")[0].id, "dog")
    assert found.importance.tolist() == [0.0]


def test_a_word_that_is_all_of_a_caption_falls_by_nothing_whatever_is_rounded() -> None:
    scores = np.array([[0.5, 0.3, 0.5 + 1e-8], [0.25, 0.5, 0.25 - 1e-8]])
    assert falls_without(["a", "b", "a"], scores) == pytest.approx(np.array([[0.2, 0], [-0.25, 0]]), abs=0, rel=1e-12)


def test_scan_s_score_is_the_mean_cosine_with_what_the_words_look_at() -> None:
    config = method("scan").Config(**preset("scan") | {"embed": 8, "word": 6, "words": "gru"})
    members = build("scan", config, sizes=SIZES, seed=0)
    images, texts = image_batch([3]), text_batch([5])
    with torch.no_grad():
        for name, module in members.items():
            matcher = as_matcher(module.eval())
            image, text = matcher.encode_images(images), matcher.encode_texts(texts)
            shown, score = explain(module, image, text), matcher.score(image, text).item()
            regions, words = image["nodes"][0], FlatWords.of(text["nodes"], text["mask"]).vectors
            if name == "t2i":
                seen = l2norm(shown["words_to_regions"] @ regions)
                assert (seen * words).sum(1).mean().item() == pytest.approx(score, abs=1e-5)
            else:
                seen = l2norm(shown["regions_to_words"].T @ words)
                real = image["mask"][0]
                assert (seen * regions).sum(1)[real].mean().item() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("member", ["sgr", "saf"])
def test_the_weights_of_sgraf_s_nodes_sum_to_one(member: str) -> None:
    config = method("sgraf").Config(**preset("sgraf") | {"embed": 8, "word": 6, "similarity": 4})
    module = build("sgraf", config, sizes=SIZES, seed=0)[member].eval()
    with torch.no_grad():
        matcher = as_matcher(module)
        image, text = matcher.encode_images(image_batch([3])), matcher.encode_texts(text_batch([5]))
        shown = explain(module, image, text)
    assert shown["nodes"].shape == (6,)  # the global one first
    assert shown["nodes"].sum().item() == pytest.approx(1, abs=1e-5)

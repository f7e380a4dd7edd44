"""CMFG against the literal version in `literal_cmfg`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from itmkit.errors import ItmkitError
from itmkit.inputs import ImageBatch, Needs, TextBatch
from itmkit.matchers.cmfg import Config, Layer, Matcher, members, needs
from itmkit.matchers.parts import blocks
from itmkit.matchers.parts.encoders import most_attended
from itmkit.runs.settings import resolve
from tests.matchers import literal_cmfg as literal
from tests.matchers.batches import SIZES, image_batch, take_images, take_texts, text_batch
from tests.matchers.literal_mpsm import weights_of
from tests.matchers.settings import SETTINGS, named

TOLERANCE = 1e-5
D = 12


def matcher_of(settings: dict[str, Any]) -> Matcher:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        matcher = Matcher(Config(**{"embed": D, "query": 5, "word": 7, **settings}), member="graph", sizes=SIZES)
        with torch.no_grad():
            for parameter in matcher.parameters():  # queries that differ from keys, biases that are not zero
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return matcher.eval()


def scores(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> np.ndarray:
    with torch.no_grad():
        return matcher.score(matcher.encode_images(images), matcher.encode_texts(texts)).numpy()


def literally(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> np.ndarray:
    assert images.attention is not None and texts.words is not None and texts.vectors is not None
    weights = weights_of(matcher)
    every_image = [
        literal.Image(images.features[i, :count].double().numpy(), images.attention[i, :count].tolist())
        for i, count in enumerate(images.mask.sum(1).tolist())
    ]
    every_text = [
        literal.Text(texts.words[t, :length].tolist(), texts.vectors[t, :length].double().numpy())
        for t, length in enumerate(texts.mask.sum(1).tolist())
    ]
    return np.array([[literal.score(weights, matcher.config, i, t) for t in every_text] for i in every_image])


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("settings", SETTINGS["cmfg"], ids=named)
def test_scores_are_those_of_the_equations(settings: dict[str, Any]) -> None:
    """Among them an image of one region, one of none, a caption of one word."""
    images, texts, matcher = image_batch([4, 1, 2, 0, 3]), text_batch(), matcher_of(settings)
    expected = literally(matcher, images, texts)
    close(scores(matcher, images, texts), expected)
    assert expected[[0, 1, 2, 4]].std() > 1e-2  # not a comparison of constants
    close(scores(matcher, take_images(images, [1]), take_texts(texts, [1])), expected[1:2, 1:2])


def test_a_block_holds_no_more_pairs_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    real = Matcher._pairs

    def spy(self: Matcher, images: Any, texts: Any) -> Tensor:
        found = real(self, images, texts)
        seen.append((*found.shape, images["nodes"].shape[1], texts["nodes"].shape[1]))
        return found

    monkeypatch.setattr(Matcher, "_pairs", spy)
    monkeypatch.setattr(blocks, "BLOCK", 6 * 9 * D)
    scores(matcher_of({}), image_batch([4, 2, 0, 1, 4]), text_batch([3, 1, 5, 2, 2, 4]))
    assert all(images * texts <= 6 for images, texts, *_ in seen)
    assert sum(images * texts for images, texts, *_ in seen) == 30
    assert {regions for _, _, regions, _ in seen} == {1, 4} and {words for *_, words in seen} == {2, 5}


# --- the switches ---


def names_of(settings: dict[str, Any]) -> set[str]:
    return {name for name, _ in matcher_of(settings).named_parameters()}


def test_layers_and_their_edges_are_counted() -> None:
    for layers in range(4):
        assert len(matcher_of({"layers": layers}).layers) == layers
        plain, once = names_of({"layers": layers}), names_of({"layers": layers, "renew_edges": False})
        later = {f"layers.{k}.{part}.weight" for k in range(1, layers) for part in ("query", "key")}
        assert plain - once == later and once <= plain
    assert not any(name.startswith("layers") for name in names_of({"layers": 0}))


@pytest.mark.parametrize(
    "settings",
    [
        {"softmax": "apart"},
        *({"edges": "intra"}, {"edges": "cross"}),
        *({"residual": False}, {"unit_nodes": False}, {"image_nodes": 2}),
    ],
    ids=named,
)
def test_a_switch_without_parameters_changes_the_scores(settings: dict[str, Any]) -> None:
    assert names_of(settings) == names_of({})
    images, texts = image_batch(), text_batch()
    found = [scores(matcher_of(each), images, texts) for each in (settings, {})]
    assert abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize("edges", ["intra", "cross"])
def test_with_edges_of_one_kind_there_is_one_softmax_to_a_node(edges: str) -> None:
    images, texts = image_batch(), text_batch()
    joint, apart = (scores(matcher_of({"edges": edges, "softmax": way}), images, texts) for way in ("joint", "apart"))
    assert np.array_equal(joint, apart)


@pytest.mark.parametrize("renew_edges", [True, False])
def test_apart_each_side_has_half_of_what_a_node_receives(renew_edges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or all of it, where the other has no node: rows of edges sum to one, however many patches there are."""
    matcher = matcher_of({"softmax": "apart", "renew_edges": renew_edges, "layers": 3})
    seen: list[Tensor] = []
    real = Layer.forward

    def spy(self: Layer, edges: Tensor, sources: Tensor) -> Tensor:
        seen.append(edges.detach())
        return real(self, edges, sources)

    monkeypatch.setattr(Layer, "forward", spy)
    for regions, words, of_patch, of_word in ((4, 3, 0.5, 0.5), (4, 1, 0.5, 1.0), (1, 3, 0.0, 0.5)):
        seen.clear()
        images, texts = image_batch([regions], regions=regions), text_batch([words])
        matcher.score(matcher.encode_images(images), matcher.encode_texts(texts))
        assert len(seen) == 2
        for edges in seen:
            from_image = edges[0, 0, :, :regions].sum(-1)
            close(from_image, [of_patch] * regions + [of_word] * words)
            close(edges.sum(-1), np.ones((1, 1, regions + words)))


@pytest.mark.parametrize("settings", [{"edges": "intra"}, {"layers": 0}], ids=named)
def test_without_edges_across_an_image_is_one_vector(settings: dict[str, Any]) -> None:
    matcher = matcher_of(settings)
    images, texts = matcher.encode_images(image_batch()), matcher.encode_texts(text_batch())
    assert images.keys() == texts.keys() == {"vector"}
    close(images["vector"].norm(dim=1).detach(), np.ones(3))
    assert torch.equal(matcher.score(images, texts), images["vector"] @ texts["vector"].T)


def test_what_is_encoded_suffices_for_the_first_layer() -> None:
    """With edges across, the maps of the first layer are applied once an image and once a text, not once a pair."""
    matcher = matcher_of({"layers": 1})
    images, texts = matcher.encode_images(image_batch()), matcher.encode_texts(text_batch())
    whole = matcher.score(images, texts)
    with torch.no_grad():
        for parameter in matcher.parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(matcher.score(images, texts), whole)


def test_the_patches_that_cls_attends_to_are_kept_the_first_of_equals() -> None:
    attention = torch.tensor([[0.2, 0.5, 0.2, 0.5], [0.1, 0.3, 9.0, 9.0]])
    images = replace(image_batch([4, 2]), attention=attention)
    for count, kept in ((1, [[1], [1]]), (2, [[1, 3], [1, 0]]), (3, [[1, 3, 0], [1, 0]])):
        features, mask = most_attended(images, count)
        assert features.shape[1] == mask.shape[1] == count
        for image, patches in enumerate(kept):
            assert mask[image].sum() == len(patches)
            assert torch.equal(features[image][mask[image]], images.features[image, patches])
    matcher = matcher_of({"image_nodes": 1})
    close(scores(matcher, images, text_batch()), literally(matcher, images, text_batch()))


def test_edges_begin_as_likeness() -> None:
    """A random start with unit nodes gives all edges nearly one weight, and every node the same message."""
    torch.manual_seed(0)
    layer = Layer(64, 64, attends=True)
    nodes = torch.nn.functional.normalize(torch.randn(6, 64), dim=1)
    nodes[1] = nodes[0]
    edges = layer.edges(nodes, nodes, ~torch.eye(6, dtype=torch.bool))
    assert edges[0].argmax() == 1 and edges[0, 1] > 0.9
    assert torch.equal(layer.query.weight, layer.key.weight)


def test_needs() -> None:
    assert needs(Config()) == Needs(images="patches", words=False, vectors="words-/texts")
    assert needs(Config(image_nodes=49, images="dinov2", words_cache="bert")) == Needs(
        images="dinov2", attention=True, words=False, vectors="words-bert/texts"
    )
    assert needs(Config(images="regions", words="gru")) == Needs()
    assert members(Config()) == {"graph": 1.0}
    bare = scores(
        matcher_of({"words": "gru"}),
        ImageBatch(image_batch().features, image_batch().mask),
        TextBatch(text_batch().words, text_batch().mask),
    )
    assert np.array_equal(bare, scores(matcher_of({"words": "gru"}), image_batch(), text_batch()))


def test_other_caches_are_refused() -> None:
    for name in ("text", "graphs", "words-bert", "vectors-clip/images", "../patches", ""):
        with pytest.raises(ItmkitError, match="--images .*: regions, patches or another cache"):
            resolve("cmfg", settings={"images": name})
    assert resolve("cmfg", recipe="paper").matcher.images == "patches"
    for recipe in ("small", "scenes"):
        assert resolve("cmfg", recipe=recipe).matcher.images == "regions"

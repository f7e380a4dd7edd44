"""MEFN against the literal version in `literal_mefn`."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from itmkit.errors import ItmkitError
from itmkit.inputs import ImageBatch, TextBatch
from itmkit.matchers import loss
from itmkit.matchers.mefn import Config, Matcher, entropy_map, members, needs
from itmkit.matchers.parts.losses import triplet_loss
from itmkit.runs.settings import resolve
from tests.matchers import literal_mefn as literal
from tests.matchers.batches import (
    SIZES,
    image_batch,
    text_batch,
)
from tests.matchers.literal_mpsm import below, weights_of
from tests.matchers.settings import SETTINGS, named

TOLERANCE = 1e-5
D = 12
OWN = torch.tensor([0, 1, 1, 2])

every_setting = pytest.mark.parametrize("settings", SETTINGS["mefn"], ids=named)


def config_of(settings: dict[str, Any]) -> Config:
    return Config(**{"embed": D, "word": 7, **settings})


def matcher_of(settings: dict[str, Any], seed: int = 0) -> Matcher:
    """A matcher none of whose weights are at their tidy first values."""
    config = config_of(settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        matcher = Matcher(config, member="fusion", sizes=SIZES)
        with torch.no_grad():
            for name, parameter in matcher.named_parameters():
                parameter.add_(torch.randn_like(parameter) * (0.5 if "pooling" in name or "fusion" in name else 0.1))
            for name, parameter in matcher.named_parameters():
                if name == "entropy.log_tau":  # entropies that differ, though random vectors have large cosines here
                    parameter.fill_(math.log(0.4))
    return matcher.eval()


def scores(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> np.ndarray:
    with torch.no_grad():
        return matcher.score(matcher.encode_images(images), matcher.encode_texts(texts)).numpy()


def map_of(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> np.ndarray:
    with torch.no_grad():
        return entropy_map(matcher, matcher.encode_images(images), matcher.encode_texts(texts)).numpy()


def literal_batches(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> tuple[list[np.ndarray], list[Any]]:
    features = [images.features[i, :n].double().numpy() for i, n in enumerate(images.mask.sum(1).tolist())]
    assert texts.words is not None and texts.vectors is not None
    lengths = texts.mask.sum(1).tolist()
    if matcher.config.words == "gru":
        return features, [texts.words[t, :n].tolist() for t, n in enumerate(lengths)]
    return features, [texts.vectors[t, :n].double().numpy() for t, n in enumerate(lengths)]


def close(actual: Tensor | np.ndarray, expected: Any) -> None:
    actual = actual.detach().numpy() if isinstance(actual, Tensor) else actual
    np.testing.assert_allclose(actual, np.array(expected), rtol=0, atol=TOLERANCE)


# --- the whole ---


@every_setting
def test_scores_and_entropies_are_those_of_the_equations(settings: dict[str, Any]) -> None:
    matcher = matcher_of(settings)
    images, texts = image_batch([4, 1, 3]), text_batch()
    with torch.no_grad():
        found, entropy = matcher.pairs(matcher.encode_images(images), matcher.encode_texts(texts))
    assert images.whole is not None and texts.sentence is not None
    expected, mfe = literal.scores(
        weights_of(matcher),
        matcher.config,
        *literal_batches(matcher, images, texts),
        list(images.whole.double().numpy()),
        list(texts.sentence.double().numpy()),
    )
    close(found, expected)
    close(entropy, mfe)
    assert expected.std() > 1e-2  # not a comparison of constants
    assert not matcher.config.mfe or mfe.std() > 1e-3


@pytest.mark.parametrize(
    ("kind", "certainty"), [("pair", "either"), ("pair", "match"), ("conditional", "either")], ids=str
)
def test_the_map_is_that_of_the_equation(kind: str, certainty: str) -> None:
    matcher = matcher_of({"entropy": kind, "certainty": certainty})
    images, texts = image_batch([4, 1, 0]), text_batch()
    found = map_of(matcher, images, texts)
    assert found.shape == (3, 4, 4, 5)
    weights = weights_of(matcher)
    features, words = literal_batches(matcher, images, texts)
    for i in range(2):
        for t in range(4):
            regions = literal.image_nodes(weights, features[i])
            said = literal.text_nodes(weights, matcher.config, words[t])
            cells = literal.entropies(below(weights, "entropy."), kind, regions, said, certainty)[2]
            close(found[i, t, : len(regions), : len(said)], cells)
            assert np.isfinite(found[i, t]).sum() == cells.size  # padding is NaN
    assert np.isnan(found[2]).all()


def test_the_map_is_high_where_a_pair_is_undecided() -> None:
    """b is 0 at first: an unrelated region and word (cosine 0) have a whole bit, those that are alike next to none."""
    matcher = Matcher(config_of({"words": "bert"}), member="fusion", sizes=SIZES)
    nodes = torch.eye(D)[None, :2]
    images = {"nodes": nodes, "mask": torch.ones(1, 2, dtype=torch.bool)}
    cells = entropy_map(matcher, images, images)[0, 0]
    assert (cells.diagonal() < 1e-3).all()
    close(cells.flip(1).diagonal(), [1, 1])


@pytest.mark.parametrize(("certainty", "expected"), [("either", [0, 1, 0]), ("match", [0, 1, 1])])
def test_what_a_certain_mismatch_is_worth(certainty: str, expected: list[float]) -> None:
    """Of a region and a word that are alike, unrelated, opposite: section 3.4 wants low entropy for the first alone."""
    matcher = Matcher(config_of({"words": "bert", "certainty": certainty}), member="fusion", sizes=SIZES)
    region, other = torch.eye(D)[0], torch.eye(D)[1]
    images = {"nodes": region[None, None], "mask": torch.ones(1, 1, dtype=torch.bool)}
    texts = {"nodes": torch.stack([region, other, -region])[None], "mask": torch.ones(1, 3, dtype=torch.bool)}
    np.testing.assert_allclose(entropy_map(matcher, images, texts)[0, 0, 0], expected, atol=1e-3)


# --- what must not change a score ---


# --- gradients and the loss ---

triplet = partial(triplet_loss, image_of=OWN, margin=0.2, negatives="all")


@pytest.mark.parametrize("kind", ["pair", "conditional"])
def test_the_entropy_of_matching_pairs_enters_the_loss(kind: str) -> None:
    images, texts = image_batch(), text_batch()
    with torch.no_grad():
        plain, more = (
            loss(matcher_of({"entropy": kind, "mfe_weight": weight}), images, texts, OWN, triplet, "")
            for weight in (0.0, 0.5)
        )
    assert torch.equal(plain.views[0], more.views[0])
    cells = map_of(matcher_of({"entropy": kind}), images, texts)
    expected = sum(np.nanmean(cells[image, text]) for text, image in enumerate(OWN.tolist()))
    close(more.total - plain.total, 0.5 * expected)


def test_without_it_the_loss_is_the_triplet_loss_of_the_scores() -> None:
    matcher, images, texts = matcher_of({}), image_batch(), text_batch()
    found = loss(matcher, images, texts, OWN, triplet, "")
    close(found.total, float(triplet(torch.tensor(scores(matcher, images, texts)))))


# --- the switches ---

EVERY = {"entropy.", "image_pooling.", "consistency.", "image_fusion.gate.", "text_fusion.gate.", "image_fusion.norm."}
BOTH = {"class_vectors": "both", "images": "patches"}


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({}, set()),
        ({"mfe": False}, {"entropy."}),
        ({"local_attention": False}, {"consistency.", "image_fusion.gate.", "text_fusion.gate."}),
        ({"global_attention": False}, EVERY - {"entropy.", "image_fusion.norm."}),
        (BOTH, {"image_pooling."}),
    ],
    ids=["all", "mfe", "local", "global", "class"],  # the order of a set differs from process to process
)
def test_a_part_switched_off_is_not_there(settings: dict[str, Any], gone: set[str]) -> None:
    names = [name for name, _ in matcher_of(settings).named_parameters()]
    assert {part for part in EVERY if not any(name.startswith(part) for name in names)} == gone


def test_the_entropy_of_choices_has_no_threshold() -> None:
    assert hasattr(matcher_of({}).entropy, "threshold")
    assert not hasattr(matcher_of({"entropy": "conditional"}).entropy, "threshold")


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_temperature": 1.0},
        {"sharpness": 4.0},
        {"sharpness_i2t": 9.0},
        {"mfe": False},
        {"certainty": "match"},
        {"class_vectors": "text"},
        {"class_vectors": "image", "images": "patches"},
        BOTH,
    ],
    ids=named,
)
def test_a_switch_changes_the_scores(settings: dict[str, Any]) -> None:
    changed, plain = matcher_of(settings), matcher_of({})
    shared = changed.state_dict()
    own = plain.state_dict()
    plain.load_state_dict({**own, **{name: value for name, value in shared.items() if name in own}})
    images, texts = image_batch(), text_batch()
    assert abs(scores(changed, images, texts) - scores(plain, images, texts)).max() > 1e-3


def test_without_entropies_and_local_attention_an_image_has_one_vector_for_all_texts() -> None:
    """Then the score is -|f(v) - f(t)|^2 of vectors that do not know each other: of rank D + 2."""
    images, texts = image_batch([4] * 40, seed=3), text_batch([3] * 40, seed=3)
    apart = scores(matcher_of({"mfe": False, "local_attention": False}), images, texts)
    assert np.linalg.matrix_rank(apart, tol=1e-4) <= D + 2
    assert np.linalg.matrix_rank(scores(matcher_of({}), images, texts), tol=1e-4) > D + 2


def test_dropout_acts_in_training_only() -> None:
    images, texts = image_batch(), text_batch()
    built = matcher_of({"dropout": 0.5})
    close(scores(built, images, texts), scores(matcher_of({}), images, texts))
    assert not np.allclose(scores(built.train(), images, texts), scores(matcher_of({}), images, texts))


def test_what_it_reads() -> None:
    assert needs(Config()).caches == ("regions", "text", "words-/texts")
    assert needs(Config(words="gru")).caches == ("regions", "text")
    assert needs(Config(words="bert", words_cache="mini", images="patches")).caches == (
        "patches",
        "text",
        "words-mini/texts",
    )
    assert needs(Config(images="patches-dino")).caches[0] == "patches-dino"
    both = needs(Config(words="gru", images="patches", class_vectors="both"))
    assert both.caches == ("patches", "text", "words-/texts") and both.whole and both.vectors is None
    assert not needs(Config(class_vectors="text")).whole and needs(Config(class_vectors="image")).sentence is None
    assert members(Config()) == {"fusion": 1.0}


def test_scores_lie_between_minus_four_and_zero() -> None:
    found = scores(matcher_of({}), image_batch(), text_batch())
    assert (found <= 0).all() and (found >= -4).all()


def test_settings_that_contradict_each_other_are_told() -> None:
    with pytest.raises(ItmkitError, match="nothing is left to compare"):
        resolve("mefn", settings={"local_attention": False, "global_attention": False})
    with pytest.raises(ItmkitError, match="--mfe-weight: with --mfe false there is no entropy"):
        resolve("mefn", settings={"mfe": False, "mfe_weight": 0.1})
    for settings in ({"entropy": "conditional"}, {"mfe": False}):
        with pytest.raises(ItmkitError, match="--certainty match: is of --entropy pair, with --mfe true"):
            resolve("mefn", settings={**settings, "certainty": "match"})
    for switch in ("local_attention", "global_attention"):
        with pytest.raises(ItmkitError, match="--class-vectors text: .*needs --local-attention"):
            resolve("mefn", settings={switch: False, "class_vectors": "text"})
    with pytest.raises(ItmkitError, match="--class-vectors both: regions have no"):
        resolve("mefn", settings={"class_vectors": "both"})
    assert resolve("mefn", settings={**BOTH, "images": "patches-dino"}).matcher.images == "patches-dino"
    for name in ("a/b", "text", "vectors-clip/images"):
        with pytest.raises(ItmkitError, match="--images .*: regions, patches or another cache"):
            resolve("mefn", settings={"images": name})
    matcher = matcher_of({"mfe": False})
    with pytest.raises(ItmkitError, match="trained with --mfe false"):
        map_of(matcher, image_batch(), text_batch())


def test_the_papers_recipes() -> None:
    for recipe in ("paper", "coco"):
        config = resolve("mefn", recipe=recipe)
        assert asdict(config.matcher) == asdict(Config())
        assert (config.training.margin, config.training.negatives) == (0.2, "hardest")

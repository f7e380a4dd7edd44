"""GLFN, PFAN and SCAN against the literal version in `literal_glfn`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from itmkit.inputs import ImageBatch, Needs, TextBatch
from itmkit.matchers import method, preset
from itmkit.matchers.glfn import BlockPositions, Config, Matcher, members, needs
from itmkit.matchers.parts.attention import (
    MAX_LSE,
    MAX_SHARPNESS,
    FlatWords,
    cosines_of_any,
    gram,
    image_to_text,
    text_to_image,
    weigh_words,
)
from itmkit.matchers.parts.losses import triplet_loss
from itmkit.matchers.parts.norms import l2norm
from tests.matchers import literal_glfn as literal
from tests.matchers.batches import (
    BLOCKS,
    FEATURE,
    SIZES,
    VECTOR,
    image_batch,
    take_images,
    text_batch,
)
from tests.matchers.literal_mpsm import weights_of
from tests.matchers.settings import SETTINGS, named

D, P = 12, 6
COUNTS, LENGTHS = [4, 2, 3, 1], [3, 1, 5, 2]

every_setting = pytest.mark.parametrize("settings", SETTINGS["glfn"], ids=named)
every_member = pytest.mark.parametrize("member", ["t2i", "i2t"])


def config_of(settings: dict[str, Any]) -> Config:
    return Config(**{"embed": D, "word": 7, "position": P, **settings})


def matcher_of(settings: dict[str, Any], member: str) -> Matcher:
    """A matcher none of whose weights are at their tidy first values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        matcher = Matcher(config_of(settings), member=member, sizes=SIZES)
        with torch.no_grad():
            for name, parameter in matcher.named_parameters():
                if not name.endswith("embedding.weight"):  # whose row of padding is zero
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return matcher.eval()


def encoded_scores(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> Tensor:
    return matcher.score(matcher.encode_images(images), matcher.encode_texts(texts))


def scores(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> np.ndarray:
    with torch.no_grad():
        return encoded_scores(matcher, images, texts).numpy()


def literal_images(batch: ImageBatch) -> list[literal.Image]:
    found = []
    for image, count in enumerate(batch.mask.sum(1).tolist()):
        features, tags, shares = (
            value[image, :count].double().numpy()  # type: ignore[index]
            for value in (batch.features, batch.tags, batch.block_weights)
        )
        found.append(literal.Image(features, tags, batch.blocks[image, :count].numpy(), shares))  # type: ignore[index]
    return found


def literal_texts(batch: TextBatch) -> list[literal.Text]:
    assert batch.words is not None and batch.vectors is not None
    return [
        literal.Text(batch.words[text, :length].tolist(), batch.vectors[text, :length].double().numpy())
        for text, length in enumerate(batch.mask.sum(1).tolist())
    ]


def close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    actual = actual.detach().numpy() if isinstance(actual, Tensor) else actual
    np.testing.assert_allclose(actual, np.array(expected), rtol=0, atol=tolerance)


# --- the whole ---


@every_member
@every_setting
def test_scores_are_those_of_the_literal_version(settings: dict[str, Any], member: str) -> None:
    matcher, images, texts = matcher_of(settings, member), image_batch(COUNTS), text_batch(LENGTHS)
    expected = literal.scores(weights_of(matcher), matcher.config, member, literal_images(images), literal_texts(texts))
    assert expected.std() > 0.01
    close(scores(matcher, images, texts), expected)


@every_member
def test_an_image_without_regions_has_finite_scores_and_gradients(member: str) -> None:
    for settings in ({}, {"attention_bonus": 0.5}, {"pool_t2i": "lse", "pool_i2t": "lse", "attention_bonus": 0.5}):
        matcher, texts = matcher_of(settings, member), text_batch()
        images = image_batch([0, 4])
        found = encoded_scores(matcher, images, texts)
        assert not found[0].any() and found[1].all()
        close(found[1:], scores(matcher, take_images(images, [1]), texts))
        found.sum().backward()  # type: ignore[no-untyped-call]
        for name, parameter in matcher.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@every_member
def test_dropout_acts_in_training_only(member: str) -> None:
    matcher, images, texts = matcher_of({}, member), image_batch(), text_batch()
    assert np.array_equal(scores(matcher, images, texts), scores(matcher, images, texts))
    matcher.train()
    assert not np.allclose(scores(matcher, images, texts), scores(matcher, images, texts))


# --- stacked cross attention, section 3.4 ---


def leaky(x: float) -> float:
    return x if x > 0 else 0.1 * x


# Two regions, two words, all of length one; region 2 and word 2 point apart.
REGIONS = [[1.0, 0.0], [0.6, 0.8]]
WORDS = [[0.8, 0.6], [0.0, -1.0]]
S11, S12 = 0.8, 0.0  # cosines of region 1 with word 1 and word 2
S21, S22 = 0.96, -0.8


def by_hand(member: str, sharpness: float) -> float:
    """SCAN's published attention, worked out number by number."""
    if member == "t2i":
        norm1, norm2 = math.hypot(leaky(S11), leaky(S12)), math.hypot(leaky(S21), leaky(S22))  # of a region, over words
        word1 = math.exp(sharpness * leaky(S11) / norm1), math.exp(sharpness * leaky(S21) / norm2)
        word2 = math.exp(sharpness * leaky(S12) / norm1), math.exp(sharpness * leaky(S22) / norm2)
        queries = [(word1, WORDS[0], REGIONS), (word2, WORDS[1], REGIONS)]
    else:
        norm1, norm2 = math.hypot(leaky(S11), leaky(S21)), math.hypot(leaky(S12), leaky(S22))  # of a word, over regions
        region1 = math.exp(sharpness * leaky(S11) / norm1), math.exp(sharpness * leaky(S12) / norm2)
        region2 = math.exp(sharpness * leaky(S21) / norm1), math.exp(sharpness * leaky(S22) / norm2)
        queries = [(region1, REGIONS[0], WORDS), (region2, REGIONS[1], WORDS)]
    similarities = []
    for (power1, power2), query, (first, second) in queries:
        weight1, weight2 = power1 / (power1 + power2), power2 / (power1 + power2)
        x, y = weight1 * first[0] + weight2 * second[0], weight1 * first[1] + weight2 * second[1]
        similarities.append((x * query[0] + y * query[1]) / math.hypot(x, y))
    return sum(similarities) / 2


@every_member
@pytest.mark.parametrize("sharpness", [1.0, 4.0, 9.0])
def test_similarities_are_those_of_scan(member: str, sharpness: float) -> None:
    matcher = matcher_of(preset("scan") | {f"sharpness_{member}": sharpness}, member)
    real = torch.ones(1, 2, dtype=torch.bool)
    images, texts = ({"nodes": torch.tensor([x]), "mask": real} for x in (REGIONS, WORDS))
    images["gram"], texts["gram"] = gram(images["nodes"]), gram(texts["nodes"])
    close(matcher.score(images, texts), [[by_hand(member, sharpness)]])


def test_the_hand_made_case_in_figures() -> None:
    """SCAN's lambdas; so that a slip in `by_hand` shows as well."""
    assert by_hand("t2i", 9.0) == pytest.approx(0.34974, abs=1e-5)
    assert by_hand("i2t", 4.0) == pytest.approx(0.89847, abs=1e-5)


def vectors_of() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Regions and words of any length, with their masks; double precision."""
    random = torch.Generator().manual_seed(0)
    region_mask = torch.arange(4) < torch.tensor(COUNTS)[:, None]
    word_mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    regions = torch.randn(4, 4, 5, generator=random, dtype=torch.float64) * region_mask.unsqueeze(-1)
    words = torch.randn(4, 5, 5, generator=random, dtype=torch.float64) * word_mask.unsqueeze(-1)
    return regions, region_mask, words, word_mask


@pytest.mark.parametrize("lse", [None, 6.0])
@pytest.mark.parametrize(("member", "bonus"), [("t2i", 0.0), ("t2i", 0.5), ("i2t", 0.0)])
def test_gradients_are_those_of_attended_vectors_that_are_formed(member: str, bonus: float, lse: float | None) -> None:
    any_regions, region_mask, any_words, word_mask = vectors_of()
    any_regions.requires_grad_()
    any_words.requires_grad_()
    regions, words = l2norm(any_regions), l2norm(any_words)
    flat = FlatWords.of(words, word_mask)
    formed = []
    for i in range(4):
        for t in range(4):
            mine, yours = regions[i, : COUNTS[i]], words[t, : LENGTHS[t]]
            queries, context, sharpness = (yours, mine, 9.0) if member == "t2i" else (mine, yours, 4.0)
            raised = functional.leaky_relu(context @ queries.T, 0.1)
            weights = (sharpness * raised / raised.norm(dim=1, keepdim=True)).softmax(dim=0)
            cosine = torch.cosine_similarity(weights.T @ context, queries, dim=-1)
            each = cosine, weights.amax(dim=0)
            one, other = (x.mean() if lse is None else (lse * x).logsumexp(0) / lse for x in each)
            formed.append(one + bonus * other)
    if member == "t2i":
        found = text_to_image(regions, region_mask, gram(regions), flat, sharpness=9.0, lse=lse, attention_bonus=bonus)
    else:
        found = image_to_text(regions, region_mask, flat, gram(words), sharpness=4.0, lse=lse)
    expected = torch.stack(formed).view(4, 4)
    close(found, expected.detach().numpy(), 1e-12)
    scale = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for value, wanted in zip(
        torch.autograd.grad((found * scale).sum(), (any_regions, any_words), retain_graph=True),
        torch.autograd.grad((expected * scale).sum(), (any_regions, any_words)),
        strict=True,
    ):
        assert value.abs().max() > 0.1
        close(value, wanted.numpy(), 1e-9)


def test_attention_over_words() -> None:
    regions, region_mask, words, word_mask = vectors_of()
    flat = FlatWords.of(words, word_mask)
    weights = weigh_words(cosines_of_any(regions, flat), region_mask, flat, 4.0).transpose(0, 1)
    assert weights.shape == (4, 11, 4)
    sums = flat.sum(weights.transpose(0, 1)).transpose(0, 1)
    close(sums, region_mask[:, None].expand(4, 4, 4).double().numpy())


def test_the_sharpest_attention_is_safe_in_float32() -> None:
    """One region that no word is like: each normalised cosine is -1, the powers are as small as they get."""
    regions = torch.tensor([[[1.0, 0.0]]], requires_grad=True)
    words = l2norm(torch.tensor([[[-1.0, 0.1], [-1.0, -0.2], [-0.5, 0.4]]])).requires_grad_()
    flat = FlatWords.of(words, torch.ones(1, 3, dtype=torch.bool))
    one = torch.ones(1, 1, dtype=torch.bool)
    found = image_to_text(regions, one, flat, gram(words), sharpness=MAX_SHARPNESS)
    attended = words.detach()[0].mean(0)  # the powers are equal
    close(found, [[attended[0] / attended.norm()]])
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert regions.grad is not None and torch.isfinite(regions.grad).all()
    assert words.grad is not None and torch.isfinite(words.grad).all()
    with pytest.raises(ValidationError, match="sharpness_i2t"):
        Config(sharpness_i2t=MAX_SHARPNESS + 1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_sharpest_pooling_is_safe_in_float32(sign: float) -> None:
    """All words and regions the same or opposite, as many as there can be: every cosine is 1 or -1."""
    regions = torch.tensor([[sign, 0.0]]).expand(1, 100, 2).clone().requires_grad_()
    words = torch.tensor([[1.0, 0.0]]).expand(1, 100, 2).clone()
    flat, all_100 = FlatWords.of(words, torch.ones(1, 100, dtype=torch.bool)), torch.ones(1, 100, dtype=torch.bool)
    expected = [[sign + math.log(100) / MAX_LSE]]
    how = {"sharpness": MAX_SHARPNESS, "lse": MAX_LSE}
    one = text_to_image(regions, all_100, gram(regions), flat, **how)
    other = image_to_text(regions, all_100, flat, gram(words), **how)
    close(one, expected)
    close(other, expected)
    (one + other).sum().backward()  # type: ignore[no-untyped-call]
    assert regions.grad is not None and torch.isfinite(regions.grad).all()
    with pytest.raises(ValidationError, match="lse_sharpness_t2i"):
        Config(lse_sharpness_t2i=MAX_LSE + 1)


# --- block positions, eqs 6 to 12 ---


def positions_of(seed: int = 0) -> BlockPositions:
    torch.manual_seed(seed)
    built = BlockPositions(FEATURE, BLOCKS, P)
    with torch.no_grad():
        built.query.weight.mul_(10)  # attention far from uniform
    return built


def test_block_positions() -> None:
    batch, built = image_batch(), positions_of()
    assert batch.blocks is not None and batch.block_weights is not None
    found = built(batch.features, batch.blocks, batch.block_weights)
    assert found.shape == (3, 4, P)
    for i in range(3):
        for r in range(4):
            expected = literal.position(
                weights_of(built),
                batch.features[i, r].double().numpy(),
                batch.blocks[i, r].numpy(),
                batch.block_weights[i, r].double().numpy(),
            )
            close(found[i, r], expected)


def test_positions_that_are_not_learned_stay_as_they_began() -> None:
    """And all else learns: their values still reach the score."""
    images, texts, own = image_batch([4] * 4), text_batch([3] * 4), torch.arange(4)
    after = {}
    for learned in (True, False):
        matcher = matcher_of({"position_training": learned}, "t2i").train()
        optimizer = torch.optim.Adam(matcher.parameters(), lr=0.01)
        before = {name: value.clone() for name, value in matcher.state_dict().items()}
        for _ in range(3):
            optimizer.zero_grad()
            loss = triplet_loss(encoded_scores(matcher, images, texts), own, margin=0.2, negatives="soft")
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        changed = {name for name, value in matcher.state_dict().items() if not torch.equal(value, before[name])}
        assert {name for name in before if name not in changed} == (
            set() if learned else {"positions.embedding.weight", "positions.query.weight"}
        )
        after[learned] = scores(matcher.eval(), images, texts)
    assert abs(after[True] - after[False]).max() > 1e-4


def test_the_order_of_blocks_and_empty_slots_do_not_matter() -> None:
    batch, built = image_batch(), positions_of()
    assert batch.blocks is not None and batch.block_weights is not None
    plain = built(batch.features, batch.blocks, batch.block_weights)
    close(built(batch.features, batch.blocks.flip(-1), batch.block_weights.flip(-1)), plain.detach().numpy())
    more = [torch.cat([x, torch.zeros_like(x)], dim=-1) for x in (batch.blocks, batch.block_weights)]
    close(built(batch.features, *more), plain.detach().numpy())


def test_a_region_without_blocks_lies_nowhere() -> None:
    built = positions_of()
    found = built(torch.randn(1, 2, FEATURE), torch.zeros(1, 2, 3, dtype=torch.int64), torch.zeros(1, 2, 3))
    assert not found.any()
    found.sum().backward()
    assert torch.isfinite(built.embedding.weight.grad).all()  # type: ignore[arg-type]


# --- the switches ---


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, FEATURE + VECTOR + P),
        ({"tags": False}, FEATURE + P),
        ({"positions": False}, FEATURE + VECTOR),
        ({"tags": False, "positions": False}, FEATURE),
    ],
)
def test_parts_of_a_region(settings: dict[str, Any], size: int) -> None:
    shapes = {name: tuple(p.shape) for name, p in matcher_of(settings, "t2i").named_parameters()}
    assert shapes["regions.project.weight"] == (D, size)
    with_positions = settings.get("positions", True)
    assert ("positions.embedding.weight" in shapes) == ("positions.query.weight" in shapes) == with_positions
    if with_positions:
        assert shapes["positions.embedding.weight"] == (BLOCKS + 1, P)
        assert shapes["positions.query.weight"] == (P, size - P)


@pytest.mark.parametrize(
    ("words", "there", "gone"),
    [
        ("bert+gru", ("reduce", "gru"), ("embedding",)),
        ("gru", ("embedding", "gru"), ("reduce",)),
        ("bert", ("reduce",), ("gru", "embedding")),
    ],
)
def test_words(words: str, there: tuple[str, ...], gone: tuple[str, ...]) -> None:
    names = [name for name, _ in matcher_of({"words": words}, "t2i").named_parameters()]
    assert all(any(name.startswith(f"words.{part}.") for name in names) for part in there)
    assert not any(name.startswith(f"words.{part}.") for name in names for part in gone)


@every_member
def test_switches_without_parameters_change_the_scores_they_should(member: str) -> None:
    images, texts = image_batch(), text_batch()
    plain = scores(matcher_of({}, member), images, texts)
    other = "i2t" if member == "t2i" else "t2i"
    assert abs(scores(matcher_of({f"sharpness_{member}": 20.0}, member), images, texts) - plain).max() > 1e-3
    assert np.array_equal(scores(matcher_of({f"sharpness_{other}": 20.0}, member), images, texts), plain)
    raised = scores(matcher_of({"attention_bonus": 0.5}, member), images, texts) - plain
    if member == "t2i":
        assert raised.min() > 0.01 and raised.max() <= 0.5 + 1e-6
    else:  # as in the released code
        assert not raised.any()
    pooled = {way: {f"pool_{way}": "lse"} for way in ("t2i", "i2t")}
    summed = scores(matcher_of(pooled[member], member), images, texts)
    assert abs(summed - plain).max() > 1e-3
    assert np.array_equal(scores(matcher_of(pooled[other], member), images, texts), plain)
    sharper = scores(matcher_of(pooled[member] | {f"lse_sharpness_{member}": 20.0}, member), images, texts)
    assert abs(sharper - summed).max() > 1e-3
    for unused in ({f"lse_sharpness_{member}": 20.0}, pooled[member] | {f"lse_sharpness_{other}": 20.0}):
        assert np.array_equal(scores(matcher_of(unused, member), images, texts), summed if len(unused) > 1 else plain)
    for settings in ({"directions": member}, {"alpha": 0.2}):
        assert np.array_equal(scores(matcher_of(settings, member), images, texts), plain)


def test_members() -> None:
    assert members(Config()) == {"t2i": 0.5, "i2t": 0.5}
    assert members(Config(alpha=0.2)) == {"t2i": 0.8, "i2t": 0.2}
    assert members(Config(alpha=0)) == {"t2i": 1.0} and members(Config(alpha=1)) == {"i2t": 1.0}
    for direction in ("t2i", "i2t"):
        for alpha in (0.0, 0.2, 1.0):
            assert members(Config(directions=direction, alpha=alpha)) == {direction: 1.0}


def test_needs() -> None:
    named: dict[str, Any] = {"words_cache": "bert"}
    assert needs(Config(**named)) == Needs(words=False, vectors="words-bert/texts", tags="words-bert/tags", blocks=True)
    assert needs(Config(words="gru", **named)) == Needs(tags="words-bert/tags", blocks=True)
    assert needs(Config(tags=False, **named)) == Needs(words=False, vectors="words-bert/texts", blocks=True)
    assert needs(Config(positions=False, words="gru", **named)) == Needs(tags="words-bert/tags")
    assert needs(Config(**preset("pfan"))) == Needs(blocks=True)
    assert needs(Config(**preset("scan"))) == Needs()


def test_only_what_is_needed_is_read() -> None:
    images, texts = image_batch(), text_batch()
    bare = ImageBatch(images.features, images.mask), TextBatch(texts.words, texts.mask)
    matcher = matcher_of(preset("scan"), "t2i")
    assert np.array_equal(scores(matcher, *bare), scores(matcher, images, texts))


def test_the_presets_are_this_module() -> None:
    assert method("pfan") is method("scan") is method("glfn")
    assert preset("glfn") == {}

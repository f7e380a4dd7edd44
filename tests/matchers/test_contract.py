"""What training and scoring rely on, for every method and member there is, in the settings of `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from itmkit.errors import ItmkitError
from itmkit.inputs import ImageBatch, TextBatch
from itmkit.machine import precision
from itmkit.matchers import (
    METHODS,
    apart,
    as_matcher,
    begin,
    build,
    count_parameters,
    loss,
    method,
    pairs,
    preset,
    stages,
)
from itmkit.matchers.parts import blocks
from itmkit.matchers.parts.losses import triplet_loss
from itmkit.runs.settings import Training
from tests.matchers.batches import (
    POOLED,
    SIZES,
    image_batch,
    pad_images,
    pad_texts,
    pooled_images,
    pooled_texts,
    take_images,
    take_regions,
    take_texts,
    text_batch,
)
from tests.matchers.settings import HANDFUL, Settings, cases, config_of, named

OWN = torch.tensor([0, 1, 1, 2])
Case = tuple[str, str, Settings]

every_method = pytest.mark.parametrize("name", METHODS)


def case_name(case: Case) -> str:
    return f"{case[0]}/{case[1]}-{named(case[2])}"


every_case = pytest.mark.parametrize("case", cases(), ids=case_name)
handful = pytest.mark.parametrize("case", cases(HANDFUL), ids=case_name)


def built(name: str, seed: int = 0, **settings: Any) -> dict[str, nn.Module]:
    return build(name, config_of(name, settings), sizes=POOLED if pooled(name) else SIZES, seed=seed)


def pooled(name: str, settings: Settings | None = None) -> bool:
    """Whether a method reads one vector a picture and a caption."""
    return bool(method(name).needs(config_of(name, settings)).pooled)


def counts_places(case: Case) -> bool:
    """Whether it matters which of an image's regions is the first, the second..."""
    return case[0] == "scl" or case[2].get("pooling") == "positions"


def batches(name: str, settings: Settings | None = None) -> tuple[ImageBatch, TextBatch]:
    """Three images and four texts of the kind that a method reads."""
    return (pooled_images(), pooled_texts()) if pooled(name, settings) else (image_batch(), text_batch())


@dataclass
class Made:
    """A matcher none of whose weights and statistics are at their tidy first values, and whose dropout is off."""

    matcher: nn.Module
    learns: list[tuple[nn.Parameter, bool]]
    values: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, name: str, member: str, settings: Settings) -> Made:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(0)
            sizes = POOLED if pooled(name, settings) else SIZES
            matcher: nn.Module = method(name).Matcher(config_of(name, settings), member=member, sizes=sizes)
            for parameter in matcher.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.15)
            for part, buffer in matcher.named_buffers():
                if "running" in part:
                    buffer.add_(torch.rand_like(buffer) * 0.2)
            for module in matcher.modules():
                if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                    module.weight[module.padding_idx] = 0
                if isinstance(module, nn.Dropout):  # those whose share is no setting
                    module.p = 0.0
        learns = [(parameter, parameter.requires_grad) for parameter in matcher.parameters()]
        values = [(value, value.detach().clone()) for value in (*matcher.parameters(), *matcher.buffers())]
        return cls(matcher, learns, values)


MADE: dict[str, Made] = {}


def matcher_of(case: Case, *, training: bool = False) -> nn.Module:
    """The matcher of a case as it was made, made once for all tests: that takes longer than most of what they do."""
    key = case_name(case)
    if key not in MADE:
        MADE[key] = Made.of(*case)
    made = MADE[key]
    with torch.no_grad():
        for value, first in made.values:
            value.copy_(first)
    for parameter, learns in made.learns:
        parameter.requires_grad_(learns).grad = None
    return made.matcher.train(training)


def scored(matcher: nn.Module, images: ImageBatch, texts: TextBatch) -> Tensor:
    parts = as_matcher(matcher)
    return parts.score(parts.encode_images(images), parts.encode_texts(texts))


def scores(matcher: nn.Module, images: ImageBatch, texts: TextBatch) -> np.ndarray:
    with torch.no_grad():
        return scored(matcher, images, texts).numpy()


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def trained_with(
    matcher: nn.Module, images: ImageBatch, texts: TextBatch, own: Tensor, stage: str
) -> dict[str, Tensor | None]:
    """{name: gradient} after one batch of a stage."""
    begin(matcher, stage)
    matcher.train()
    matcher.zero_grad(set_to_none=True)
    triplet = partial(triplet_loss, image_of=own, margin=0.2, negatives="all")
    loss(matcher, images, texts, own, triplet, stage).total.backward()  # type: ignore[no-untyped-call]
    return {part: parameter.grad for part, parameter in matcher.named_parameters()}


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    mine, yours = a.state_dict(), b.state_dict()
    return mine.keys() == yours.keys() and all(torch.equal(mine[key], yours[key]) for key in mine)


def test_an_unknown_method_names_those_there_are() -> None:
    with pytest.raises(ItmkitError, match=r"--method 'scam': no such method; there are mpsm, "):
        method("scam")


@every_method
def test_a_method_module_has_what_the_contract_asks(name: str) -> None:
    module = method(name)
    assert module.needs(module.Config()).caches
    assert list(built(name)) == list(module.members(module.Config()))
    assert module.SUMMARY and "\n" not in module.SUMMARY and "|" not in module.SUMMARY
    for setting in module.Config.__dataclass_fields__.values():
        assert setting.default.description, f"{setting.name} is explained nowhere"


@every_method
def test_no_setting_has_the_name_of_a_training_setting(name: str) -> None:
    """An option of that name could only mean one of them."""
    assert not set(method(name).Config.__dataclass_fields__) & set(Training.__dataclass_fields__)


@every_method
def test_shapes(name: str) -> None:
    images, texts = batches(name)
    one_text = pooled_texts(1) if pooled(name) else text_batch([1])
    for matcher in built(name).values():
        parts = as_matcher(matcher.eval())
        encoded_images, encoded_texts = parts.encode_images(images), parts.encode_texts(texts)
        assert all(len(value) == 3 for value in encoded_images.values())
        assert all(len(value) == 4 for value in encoded_texts.values())
        views = parts.views(encoded_images, encoded_texts)
        assert isinstance(views, tuple) and all(view.shape == (3, 4) for view in views)
        score = parts.score(encoded_images, encoded_texts)
        assert score.shape == (3, 4) and score.dtype == torch.float32
        torch.testing.assert_close(score, torch.stack(views).mean(0))
        one = parts.score({k: v[:1] for k, v in encoded_images.items()}, parts.encode_texts(one_text))
        assert one.shape == (1, 1)


@every_method
def test_the_seed_decides_the_weights_and_nothing_else_does(name: str) -> None:
    torch.manual_seed(1)
    first = built(name, seed=3)
    after = torch.rand(2)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(2), after)  # building leaves the caller's random numbers alone
    again, other = built(name, seed=3), built(name, seed=4)
    for member in first:
        assert same(first[member], again[member])
        assert not list(first[member].parameters()) or not same(first[member], other[member])


def test_a_member_built_alone_is_the_one_built_beside_the_other() -> None:
    both = built("mpsm")
    for member in ("distance", "direction"):
        assert same(both[member], built("mpsm", similarities=member)[member])
    weights = [matcher.state_dict()["regions.project.weight"] for matcher in both.values()]
    assert not torch.equal(*weights)
    pointers = [{p.data_ptr() for p in matcher.parameters()} for matcher in both.values()]
    assert not pointers[0] & pointers[1]


@every_method
def test_every_parameter_is_trained_and_scores(name: str) -> None:
    """But for slow copies, which SCL has; its own test counts them."""
    run = stages(name, method(name).Config(**preset(name)), 1)
    for member in built(name).values():
        numbers = sum(p.numel() for p in member.parameters())
        counts = count_parameters(member, run)
        assert counts.trained == (0 if name == "dual" else counts.scoring)
        assert counts.scoring == numbers or (name == "scl" and counts.scoring < numbers)


# --- what a score depends on, and what not ---


@handful
def test_padding_does_not_change_scores(case: Case) -> None:
    """Nor, in training, the statistics of a batch, where a matcher keeps any."""
    if pooled(case[0], case[2]):
        pytest.skip("one vector has no padding")
    images, texts = image_batch(), text_batch()
    padded = pad_images(images, 3), pad_texts(texts, 4)
    for training in (False, True) if any(True for _ in matcher_of(case).buffers()) else (False,):
        plain = scores(matcher_of(case, training=training), images, texts)
        close(scores(matcher_of(case, training=training), *padded), plain)


@handful
def test_a_pair_scores_the_same_in_any_company_and_order(case: Case) -> None:
    images, texts = batches(case[0], case[2])
    matcher = matcher_of(case)
    together = scores(matcher, images, texts)
    for some, others in (([2, 0, 1], [1, 0, 3, 2]), ([1], [3, 1]), ([2, 2], [0]), ([0], [1])):
        found = scores(matcher, take_images(images, some), take_texts(texts, others))
        close(found, together[np.ix_(some, others)])


@handful
def test_a_method_says_whether_training_compares_a_pair_as_if_it_were_alone(case: Case) -> None:
    matcher = Made.of(*case).matcher.train()
    for module in matcher.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    images, texts = batches(case[0], case[2])
    with torch.no_grad():
        image, text = as_matcher(matcher).encode_images(images), as_matcher(matcher).encode_texts(texts)
        before, rows, columns = torch.get_rng_state(), [0, 2], [3, 1]
        whole = pairs(matcher, image, text)
        drawn = not torch.equal(torch.get_rng_state(), before)
        some = pairs(matcher, {k: v[rows] for k, v in image.items()}, {k: v[columns] for k, v in text.items()})
    alone = all(torch.allclose(a, b[rows][:, columns], rtol=0, atol=1e-5) for a, b in zip(some, whole, strict=True))
    # Where comparing costs nothing a method need not say so. MPSM's graph of one node has edges that change nothing.
    cheap = "vector" in image or case[0] in ("dual", "scl") or case[2].get("alignment") == "global"
    if cheap:
        assert not apart(matcher) or alone
    else:
        assert apart(matcher) == (alone and not drawn)


@handful
def test_the_order_of_regions_does_not_change_scores(case: Case) -> None:
    if counts_places(case):
        pytest.skip("every place among the regions has something of its own")
    if pooled(case[0], case[2]):
        pytest.skip("one vector has no order")
    images, texts, matcher = image_batch([4, 4, 4]), text_batch(), matcher_of(case)
    close(scores(matcher, take_regions(images, [2, 0, 3, 1]), texts), scores(matcher, images, texts))


@handful
def test_a_region_may_be_missing_in_the_middle(case: Case) -> None:
    """As training leaves them out (`--drop-regions`): it is as if it had never been there."""
    if counts_places(case):
        pytest.skip("every place among the regions has something of its own")
    if pooled(case[0], case[2]):
        pytest.skip("one vector has no middle")
    images, texts, matcher = image_batch([4, 4, 4]), text_batch(), matcher_of(case)
    hole = replace(images, mask=torch.tensor([[True, False, True, True]] * 3))
    last = replace(take_regions(images, [0, 2, 3, 1]), mask=torch.tensor([[True, True, True, False]] * 3))
    close(scores(matcher, hole, texts), scores(matcher, last, texts))


@handful
def test_blocks_and_what_is_computed_again_change_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a score nor a gradient, whatever the size of a block."""
    if pooled(case[0], case[2]):
        pytest.skip("pairs of one vector are not cut into blocks")
    images, texts = image_batch([4, 1, 3]), text_batch([3, 1, 5, 2])
    module = method(case[0])

    def found(block: int, keep: int) -> tuple[np.ndarray, list[Tensor]]:
        monkeypatch.setattr(blocks, "BLOCK", block)
        for place in (blocks, module):
            monkeypatch.setattr(place, "numbers_kept", lambda device: keep, raising=False)
        matcher = matcher_of(case)
        score = scored(matcher, images, texts)
        score.square().sum().backward()  # type: ignore[no-untyped-call]
        return score.detach().numpy(), [p.grad for p in matcher.parameters() if p.grad is not None]

    plain, gradients = found(1 << 21, 1 << 40)
    score, again = found(600, 0)  # some images a block, each computed again
    close(score, plain)
    for value, expected in zip(again, gradients, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6 + 1e-5 * float(expected.abs().max()))
    monkeypatch.setattr(blocks, "BLOCK", 1)
    close(scores(matcher_of(case), images, texts), plain)


@handful
@pytest.mark.parametrize("hardware", [False, True])
def test_what_is_computed_again_is_rounded_like_the_first_time(
    case: Case, hardware: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the backward pass is within `products_in`, as a training step has it."""
    if pooled(case[0], case[2]):
        pytest.skip("pairs of one vector are computed once")
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: hardware)
    images, texts = image_batch([4, 1, 3]), text_batch([3, 1, 5, 2])
    module = method(case[0])

    def gradients(keep: int) -> list[Tensor]:
        for place in (blocks, module):
            monkeypatch.setattr(place, "numbers_kept", lambda device: keep, raising=False)
        matcher = matcher_of(case)
        with precision.products_in("bfloat16", torch.device("cpu")):
            scored(matcher, images, texts).square().sum().backward()  # type: ignore[no-untyped-call]
        return [p.grad for p in matcher.parameters() if p.grad is not None]

    kept, again = gradients(1 << 40), gradients(0)
    assert kept and all(torch.equal(value, expected) for value, expected in zip(again, kept, strict=True))


# --- gradients ---


@every_case
def test_scores_depend_on_both_sides_and_gradients_reach_every_parameter_that_a_stage_trains(case: Case) -> None:
    """What the settings do not use is not built at all, so there is no parameter without use.

    The last image has no regions (but where one vector is all that is read): everything is finite nevertheless.
    """
    name, _, settings = case
    matcher, config, own = matcher_of(case), config_of(name, settings), torch.tensor([0, 1, 1, 2, 3])
    images, texts = image_batch([4, 2, 3, 0]), text_batch([3, 1, 5, 2, 2])
    if pooled(name, settings):
        images, texts = pooled_images(4), pooled_texts(5)
    every = scores(matcher, images, texts)
    assert np.isfinite(every).all()
    found = every[:3]  # which depends on both
    assert found.std(axis=0).max() > 1e-3 and found.std(axis=1).max() > 1e-3
    for stage in stages(name, config, 1):
        gradients = trained_with(matcher, images, texts, own, stage.name)
        for part, parameter in matcher.named_parameters():
            gradient = gradients[part]
            if not parameter.requires_grad:
                assert gradient is None, (stage.name, part)
            elif not without_say(name, config, part):
                assert gradient is not None, (stage.name, part)
                assert torch.isfinite(gradient).all() and gradient.abs().max() > 0, (stage.name, part)
        for module in matcher.modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None and module.weight.grad is not None:
                assert not module.weight.grad[module.padding_idx].any()


def without_say(name: str, config: Any, part: str) -> bool:
    """MPSM's graph of the global node alone has one edge, whose normalised weight is one whatever leads to it."""
    lonely = name == "mpsm" and config.alignment == "global"
    return lonely and ".relations." in part and (".outgoing" in part or ".incoming" in part)


@handful
def test_a_batch_without_any_region_has_finite_scores_and_gradients(case: Case) -> None:
    name, _, settings = case
    if pooled(name, settings):
        pytest.skip("there is one vector of every image")
    matcher, images, texts = matcher_of(case), image_batch([0, 0, 0]), text_batch()
    assert np.isfinite(scores(matcher, images, texts)).all()
    for stage in stages(name, config_of(name, settings), 1):
        for part, gradient in trained_with(matcher, images, texts, OWN, stage.name).items():
            assert gradient is None or torch.isfinite(gradient).all(), part

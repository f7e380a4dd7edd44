"""What training and scoring rely on, for every method there is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.inputs import ImageBatch, TextBatch
from itmkit.matchers import METHODS, as_matcher, build, count_parameters, method, preset, stages
from tests.matchers.batches import POOLED, SIZES, image_batch, pooled_images, pooled_texts, text_batch

SMALL = {"embed": 8, "word": 5, "width": 8, "layers": 2, "heads": 2}
every_method = pytest.mark.parametrize("name", METHODS)


def built(name: str, seed: int = 0, **settings: Any) -> dict[str, torch.nn.Module]:
    kind = method(name).Config
    small = {setting: value for setting, value in SMALL.items() if setting in kind.__dataclass_fields__}
    config = kind(**small, **preset(name), **settings)
    return build(name, config, sizes=POOLED if pooled(name) else SIZES, seed=seed)


def pooled(name: str) -> bool:
    """Whether a method reads one vector a picture and a caption."""
    module = method(name)
    return bool(module.needs(module.Config(**preset(name))).pooled)


def batches(name: str) -> tuple[ImageBatch, TextBatch]:
    """Three images and four texts of the kind that a method reads."""
    return (pooled_images(), pooled_texts()) if pooled(name) else (image_batch(), text_batch())


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
    for setting in module.Config.__dataclass_fields__.values():
        assert setting.default.description, f"{setting.name} is explained nowhere"


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

"""SCL against the literal version in `literal_scl`: scores, the losses of its stages, and what learns in each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from itmkit.errors import ItmkitError
from itmkit.inputs import ImageBatch, TextBatch
from itmkit.matchers import Parameters, Stage, count_parameters, scl
from itmkit.matchers import loss as matcher_loss
from itmkit.matchers.dual import Config as DualConfig
from itmkit.matchers.dual import Matcher as Dual
from itmkit.matchers.parts.losses import contrast
from itmkit.matchers.scl import Config, Matcher, like_labels, needs, problems, stages, within_modality
from itmkit.runs.settings import Training
from tests.matchers import literal_mpsm
from tests.matchers import literal_scl as literal
from tests.matchers.batches import (
    POOLED,
    SIZES,
    image_batch,
    pad_images,
    pad_texts,
    pooled_images,
    pooled_texts,
    take_images,
    take_texts,
    text_batch,
)
from tests.matchers.settings import HANDFUL, SETTINGS, named

IMAGE_OF = [0, 1, 1, 2, 0, 1]  # of six captions of three images; image 2 has one
STAGES = ("text", "image", "shared")
POOLS: dict[str, Any] = {"inputs": "pooled"}

every_setting = pytest.mark.parametrize("settings", SETTINGS["scl"], ids=named)


def config_of(settings: dict[str, Any]) -> Config:
    small = {"embed": 6, "width": 8, "layers": 2, "heads": 2, "dropout": 0.0, "region_dropout": 0.0}
    return Config(**{**small, **settings})


def matcher_of(settings: dict[str, Any]) -> Matcher:
    """A matcher none of whose weights is at its tidy first value; the backup models are not the encoders."""
    config = config_of(settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        matcher = Matcher(config, member="global", sizes=POOLED if config.inputs == "pooled" else SIZES)
        with torch.no_grad():
            for parameter in matcher.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return matcher.eval()


def batches(config: Config) -> tuple[ImageBatch, TextBatch]:
    """Three images of which the first and the last are of one type, six captions."""
    images, texts = image_batch(), text_batch([3, 1, 5, 2, 4, 2])
    if config.inputs == "pooled":
        images, texts = pooled_images(3), pooled_texts(6)
    labels = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    return replace(images, labels=labels), texts


def scores(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> Tensor:
    with torch.no_grad():
        return matcher.score(matcher.encode_images(images), matcher.encode_texts(texts))


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected).float(), rtol=1e-5, atol=1e-5)


def rows_of(values: Tensor, mask: Tensor) -> list[np.ndarray]:
    """The real rows of each item, in double precision where they are no numbers of words."""
    return [value[real].double().numpy() if value.is_floating_point() else value[real].numpy()
            for value, real in zip(values, mask, strict=True)]  # fmt: skip


def literal_inputs(config: Config, images: ImageBatch, texts: TextBatch) -> tuple[list[Any], list[Any]]:
    tokens = texts.words if config.inputs == "words" and config.words == "learned" else texts.vectors
    assert tokens is not None
    regions, words = rows_of(images.features, images.mask), rows_of(tokens, texts.mask)
    return (
        led(regions, images.whole if config.class_vectors in ("image", "both") else None),
        led(words, texts.sentence if config.class_vectors in ("text", "both") else None),
    )


def led(rows: list[np.ndarray], first: Tensor | None) -> list[Any]:
    """The tokens of each item, with its stored [CLS] vector where there is one."""
    return rows if first is None else list(zip(first.double().numpy(), rows, strict=True))


def loss_of(matcher: Matcher, stage: str, images: ImageBatch, texts: TextBatch, image_of: list[int]) -> Tensor:
    matcher.begin(stage)
    matcher.train()

    def unused(scores: Tensor) -> Tensor:
        raise AssertionError("SCL has no triplet loss")

    return matcher_loss(matcher, images, texts, torch.tensor(image_of), unused, stage).total


# --- scores ---


@every_setting
def test_scores_are_those_of_the_equations(settings: dict[str, Any]) -> None:
    matcher = matcher_of(settings)
    images, texts = batches(matcher.config)
    weights = literal_mpsm.weights_of(matcher)
    regions, words = literal_inputs(matcher.config, images, texts)
    expected = np.array([[literal.score(weights, matcher.config, image, text) for text in words] for image in regions])
    assert expected.std() > 1e-3  # not a comparison of constants
    close(scores(matcher, images, texts), expected)
    # With gradients torch takes another way through its layers.
    close(matcher.score(matcher.encode_images(images), matcher.encode_texts(texts)).detach(), expected)


@pytest.mark.parametrize("settings", [{}, {"words": "learned"}, {"class_vectors": "both"}], ids=named)
def test_padding_does_not_change_scores(settings: dict[str, Any]) -> None:
    matcher = matcher_of(settings)
    images, texts = batches(matcher.config)
    plain = scores(matcher, images, texts)
    for more in (1, 120):  # beyond the places that there are, too
        close(scores(matcher, pad_images(images, more), pad_texts(texts, more)), plain)


@pytest.mark.parametrize("settings", [{}, {"class_vectors": "image"}], ids=named)
def test_regions_without_a_place_are_told(settings: dict[str, Any]) -> None:
    matcher = matcher_of(settings)
    matcher.encode_images(image_batch([4, 1], regions=6))
    with pytest.raises(ItmkitError, match="has 5 regions or patches, and SCL was trained with places for 4: make"):
        matcher.encode_images(image_batch([4, 5], regions=6))


def test_images_without_regions_and_the_smallest_batches_have_finite_scores_and_losses() -> None:
    for settings in (*HANDFUL["scl"], {"backup": False}, {"loss": "printed"}, {"text_positives": "labels"}):
        matcher = matcher_of({**settings, "region_dropout": 0.5})
        images, texts = batches(matcher.config)
        if matcher.config.inputs == "words":
            images = replace(image_batch([0, 1, 4]), labels=images.labels)
        assert torch.isfinite(scores(matcher, images, texts)).all()
        for stage in STAGES:
            for some, others, image_of in (([0, 1], [0, 1, 2], [0, 0, 1]), ([0], [1], [0])):
                loss = loss_of(matcher, stage, take_images(images, some), take_texts(texts, others), image_of)
                loss.backward()  # type: ignore[no-untyped-call]
                gradients = [p.grad for p in matcher.parameters() if p.grad is not None]
                assert torch.isfinite(loss) and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_pooled_vectors_begin_with_their_own_cosines() -> None:
    """Before any training SCL scores what the vision-language model does."""
    matcher = Matcher(Config(inputs="pooled", embed=16), member="global", sizes=POOLED).eval()
    dual = Dual(DualConfig(), member="global", sizes=POOLED)
    images, texts = pooled_images(), pooled_texts()
    close(scores(matcher, images, texts), dual.score(dual.encode_images(images), dual.encode_texts(texts)))
    other = Matcher(Config(inputs="pooled"), member="global", sizes=replace(POOLED, word_vector=7))  # nothing to keep
    assert other.encode_texts(TextBatch(None, texts.mask, vectors=torch.randn(4, 1, 7)))["vector"].shape == (4, 512)


# --- the losses ---


# Not with the MLP of regions, which is normed by the statistics of its batch in training.
@pytest.mark.parametrize("settings", [s for s in SETTINGS["scl"] if "region_encoder" not in s], ids=named)
def test_losses_are_those_of_the_equations(settings: dict[str, Any]) -> None:
    matcher = matcher_of(settings)
    config = matcher.config
    images, texts = batches(config)
    assert images.labels is not None
    weights = literal_mpsm.weights_of(matcher)
    regions, words = literal_inputs(config, images, texts)
    labels = [set(row.nonzero().flatten().tolist()) for row in images.labels]

    def encoded(side: str, items: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """By the encoder, and by its backup model where the settings have one."""
        slow = "backups" if config.backup and getattr(config, f"{side}_epochs") else "encoders"
        return tuple(
            [literal.represent(literal_mpsm.below(weights, f"{kind}.{side}."), config, item) for item in items]
            for kind in ("encoders", slow)
        )  # type: ignore[return-value]

    groups = literal.like_captions(config, labels, IMAGE_OF)
    like = config.label_overlap <= 2 / 3  # images 0 and 2 have two of three labels in common
    assert groups[0] == ({0, 3, 4} if like and config.text_positives == "labels" else {0, 4}) and groups[1] == {1, 2, 5}
    expected = literal.within_modality(config, *encoded("text", words), groups)
    close(loss_of(matcher, "text", images, texts, IMAGE_OF).detach(), expected)

    twice = [*range(3), *range(3)]  # two views of each image, equal without dropout of regions
    views = [{b for b in range(6) if literal.alike(labels, config.label_overlap, twice[a], twice[b])} for a in range(6)]
    assert views[0] == ({0, 2, 3, 5} if like else {0, 3}) and views[1] == {1, 4}
    expected = literal.within_modality(config, *encoded("image", [regions[k] for k in twice]), views)
    # The distance of equal vectors is the root of a rounding error.
    slack = 2e-2 if config.loss == "printed" and "image" not in matcher.backups else 1e-4
    assert abs(float(loss_of(matcher, "image", images, texts, IMAGE_OF).detach()) - expected) < slack

    shared = [
        [literal.unit(weights[f"maps.{side}.weight"] @ vector) for vector in encoded(side, items)[0]]
        for side, items in (("image", regions), ("text", words))
    ]
    expected = literal.across(config, *shared, IMAGE_OF)
    close(loss_of(matcher, "shared", images, texts, IMAGE_OF).detach(), expected)


def test_an_anchor_without_a_positive_is_left_out() -> None:
    queries, keys = (torch.nn.functional.normalize(torch.randn(4, 3), dim=1) for _ in range(2))
    alike = torch.eye(4).bool()
    for form in ("infonce", "printed"):
        assert float(within_modality(queries, keys, alike, form, 0.1)) == 0  # type: ignore[arg-type]
    alike[0, 1] = True
    one = within_modality(queries, keys, alike, "infonce", 0.1)
    logits = queries[0] @ keys[1:].T / 0.1
    close(one, -logits.log_softmax(0)[0])
    assert float(contrast(torch.randn(2, 3), torch.zeros(2, 3).bool())) == 0


def test_the_printed_loss_does_not_pull_positives_together() -> None:
    """It is as small for opposite vectors as for equal ones, and largest between: why it is not the default."""
    one, alike = torch.tensor([[1.0, 0.0]]), torch.ones(2, 2).bool()

    def loss(cosine: float, form: Any) -> float:
        other = torch.tensor([[cosine, (1 - cosine**2) ** 0.5]])
        both = torch.cat([one, other])
        return float(within_modality(both, both, alike, form, 0.1)) / 2

    assert loss(-1, "printed") == pytest.approx(loss(1, "printed"), abs=1e-5) == pytest.approx(1, abs=1e-5)
    assert loss(0.5, "printed") == pytest.approx(1.5)


def test_images_with_like_labels_are_alike() -> None:
    rows = [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    labels = torch.tensor(rows).bool()
    images = replace(image_batch([1] * 5), labels=labels)
    sets = [set(row.nonzero().flatten().tolist()) for row in labels]
    for overlap in (0.2, 1 / 3, 0.5, 0.6, 1.0):
        found = like_labels(images, overlap)
        assert found.tolist() == [[literal.alike(sets, overlap, a, b) for b in range(5)] for a in range(5)]
    assert like_labels(images, 0.5).sum() == 7  # the first two: just half; no labels are no likeness
    assert torch.equal(like_labels(replace(images, labels=None), 0.5), torch.eye(5).bool())


@pytest.mark.parametrize("settings", [{}, POOLS], ids=named)
def test_captions_of_images_with_like_labels_are_alike_where_asked(settings: dict[str, Any]) -> None:
    wide, plain = matcher_of({**settings, "text_positives": "labels"}), matcher_of(settings)
    assert [n for n, _ in wide.named_parameters()] == [n for n, _ in plain.named_parameters()]
    images, texts = batches(plain.config)

    def losses(batch: ImageBatch, image_of: list[int]) -> list[float]:
        some = take_texts(texts, list(range(len(image_of))))
        return [float(loss_of(matcher, "text", batch, some, image_of).detach()) for matcher in (wide, plain)]

    with_labels = losses(images, IMAGE_OF)
    assert abs(with_labels[0] - with_labels[1]) > 1e-3
    # One caption an image, as on NUS-WIDE: labels alone say what is alike.
    one = losses(images, [0, 1, 2])
    assert one[0] > 1e-3 and one[1] == 0
    # Without labels captions of one image are alike, as in the image stage views of one image are.
    without = losses(replace(images, labels=None), IMAGE_OF)
    assert without[0] == without[1] == with_labels[1]


@pytest.mark.parametrize("settings", [{}, POOLS], ids=named)
def test_views_of_an_image_lack_different_parts(settings: dict[str, Any]) -> None:
    matcher = matcher_of({**settings, "region_dropout": 0.5})
    torch.manual_seed(0)
    if matcher.config.inputs == "words":
        images = image_batch([4] * 40 + [1, 0])
        features, kept = matcher._views(images)
        assert torch.equal(features, images.features.repeat(2, 1, 1))
        assert not (kept & ~images.mask.repeat(2, 1)).any()
        assert kept.sum(1).reshape(2, -1).bool().tolist() == [[True] * 41 + [False]] * 2  # one is left where one was
        assert 0.4 < kept[:40].float().mean() < 0.65 and not torch.equal(kept[:40], kept[42:82])
    else:
        images = pooled_images(40)
        features, kept = matcher._views(images)
        assert kept.all() and 0.4 < (features == 0).float().mean() < 0.6
        assert not torch.equal(features[:40], features[40:])


def test_the_two_views_are_what_the_image_loss_compares() -> None:
    matcher = matcher_of({"region_dropout": 0.5})
    images, texts = batches(matcher.config)
    torch.manual_seed(3)
    features, kept = matcher._views(images)
    places = [mask.nonzero().flatten().tolist() for mask in kept]
    assert any(len(some) > 1 and some != list(range(len(some))) for some in places)  # a region keeps its place
    weights = literal_mpsm.weights_of(matcher)
    views = list(zip(rows_of(features, kept), places, strict=True))
    both = [
        [literal.represent(literal_mpsm.below(weights, f"{kind}.image."), matcher.config, *view) for view in views]
        for kind in ("encoders", "backups")
    ]
    groups = [{k for k in range(6) if (k % 3 == 1) == (view % 3 == 1)} for view in range(6)]
    torch.manual_seed(3)
    close(
        loss_of(matcher, "image", images, texts, IMAGE_OF).detach(),
        literal.within_modality(matcher.config, *both, groups),
    )


# --- the stages ---


def parts_of(stage: str, config: Config) -> tuple[str, ...]:
    if stage == "shared":
        return ("maps.",) if config.freeze_encoders else ("maps.", "encoders.")
    return (f"encoders.{stage}.",)


@every_setting
def test_gradients_reach_what_a_stage_trains_and_nothing_else(settings: dict[str, Any]) -> None:
    matcher = matcher_of(settings)
    images, texts = batches(matcher.config)
    trained = set()
    for stage in stages(matcher.config, 1):
        if not stage.epochs:
            continue
        matcher.zero_grad(set_to_none=True)
        loss_of(matcher, stage.name, images, texts, IMAGE_OF).backward()  # type: ignore[no-untyped-call]
        for name, parameter in matcher.named_parameters():
            if name.startswith(parts_of(stage.name, matcher.config)):
                trained.add(name)
                assert parameter.grad is not None and parameter.grad.abs().max() > 0, (stage, name)
            else:
                assert parameter.grad is None, (stage, name)
    untrained = {name for name, _ in matcher.named_parameters() if not name.startswith("backups.")} - trained
    # Vectors of a vision-language model are of use as they are: their MLPs may stay what they begin as.
    lazy = matcher.config.inputs == "pooled" and not matcher.config.text_epochs
    assert all(name.startswith("encoders.") for name in untrained) if lazy else not untrained
    assert list(matcher.backups) == [
        side for side in ("text", "image") if matcher.config.backup and getattr(matcher.config, f"{side}_epochs")
    ]


@pytest.mark.parametrize("freeze", [True, False])
def test_dropout_acts_only_in_what_learns(freeze: bool) -> None:
    matcher = matcher_of({"dropout": 0.5, "freeze_encoders": freeze})
    for stage in STAGES:
        matcher.begin(stage)
        matcher.train()
        assert matcher.training
        active = {
            name for name, part in matcher.named_modules() if isinstance(part, torch.nn.Dropout) and part.training
        }
        every = {name for name, part in matcher.named_modules() if isinstance(part, torch.nn.Dropout)}
        assert active == {name for name in every if name.startswith(parts_of(stage, matcher.config))}
        assert bool(active) == (stage != "shared" or not freeze)
        assert not any(part.training for part in matcher.eval().modules())
    images, texts = batches(matcher.config)
    matcher.begin("shared")
    twice = [scores(matcher.train(), images, texts) for _ in range(2)]
    assert torch.equal(*twice) == freeze


def test_the_backup_model_follows_its_encoder_slowly() -> None:
    matcher = matcher_of({"backup_decay": 0.9})
    before = {name: value.clone() for name, value in matcher.state_dict().items()}
    matcher.after_step("shared")
    assert all(torch.equal(value, before[name]) for name, value in matcher.state_dict().items())
    matcher.after_step("text")
    for name, value in matcher.state_dict().items():
        if name.startswith("backups.text."):
            fast = before[name.replace("backups", "encoders")]
            torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * fast)
        else:
            assert torch.equal(value, before[name]), name
    fresh = Matcher(config_of({}), member="global", sizes=SIZES)
    for slow, fast in zip(fresh.backups.parameters(), fresh.encoders.parameters(), strict=True):
        assert torch.equal(slow, fast) and not slow.requires_grad and slow.data_ptr() != fast.data_ptr()
    normed = matcher_of({"region_encoder": "linear+mlp"})
    loss_of(normed, "image", *batches(normed.config), IMAGE_OF)  # gathers statistics of regions in the encoder
    assert normed.encoders.image.enter.norm.running_mean.any()
    normed.after_step("image")
    for side, mine in normed.backups.image.named_buffers():
        assert torch.equal(mine, normed.encoders.image.get_buffer(side))
    without = matcher_of({"backup": False})
    without.after_step("text")
    assert not list(without.backups.parameters())


def test_stages_and_their_epochs() -> None:
    assert stages(Config(), 7) == (Stage("text", 10), Stage("image", 10), Stage("shared", 7))
    assert [stage.epochs for stage in stages(Config(text_epochs=0, image_epochs=3), 7)] == [0, 3, 7]


def test_slow_copies_and_frozen_parts_are_not_counted() -> None:
    def numbers(*parts: torch.nn.Module) -> int:
        return sum(p.numel() for part in parts for p in part.parameters())

    for settings in SETTINGS["scl"]:
        matcher = matcher_of(settings)
        used = numbers(matcher.encoders, matcher.maps)
        # Of the encoders of pooled vectors none learns where their stages have no epochs.
        learns = matcher.config.text_epochs or not matcher.config.freeze_encoders
        trained = used if learns else numbers(matcher.maps)
        run = tuple(stage for stage in stages(matcher.config, 1) if stage.epochs)
        assert count_parameters(matcher, run) == Parameters(trained=trained, scoring=used)
        assert numbers(matcher) == used + numbers(matcher.backups)
    some = matcher_of({**POOLS, "text_epochs": 0})
    found = count_parameters(some, stages(some.config, 1)[1:])
    assert found.trained == numbers(some.maps, some.encoders["image"]) < found.scoring


# --- the switches ---


@pytest.mark.parametrize(
    "settings",
    [{"loss": "printed"}, {"contrast_temperature": 0.2}, {"label_overlap": 0.7}, {"region_dropout": 0.5}],
    ids=named,
)
def test_a_switch_without_parameters_changes_a_loss(settings: dict[str, Any]) -> None:
    changed, plain = matcher_of(settings), matcher_of({})
    assert [n for n, _ in changed.named_parameters()] == [n for n, _ in plain.named_parameters()]
    images, texts = batches(plain.config)
    losses = [float(loss_of(matcher, "image", images, texts, IMAGE_OF).detach()) for matcher in (changed, plain)]
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.parametrize("side", ["text", "image"])
def test_class_vectors_change_the_representations_of_their_side_alone(side: Any) -> None:
    changed, plain = matcher_of({"class_vectors": side}), matcher_of({})
    assert [n for n, _ in changed.named_parameters()] == [n for n, _ in plain.named_parameters()]
    images, texts = batches(plain.config)
    with torch.no_grad():
        for which, encode, batch in (("image", "encode_images", images), ("text", "encode_texts", texts)):
            one, other = (getattr(matcher, encode)(batch)["vector"] for matcher in (changed, plain))
            assert ((one - other).abs().max() > 1e-2) == (which == side)


def test_what_is_read() -> None:
    plain = needs(Config(words_cache="b"))
    assert (plain.images, plain.words, plain.vectors, plain.labels) == ("patches", False, "words-b/texts", True)
    learned = needs(Config(words="learned", images="regions", image_epochs=0))
    assert (learned.images, learned.words, learned.vectors, learned.labels) == ("regions", True, None, False)
    both = needs(Config(words_cache="b", images="dino", class_vectors="both"))
    assert both.caches == ("dino", "text", "words-b/texts") and both.whole and both.sentence == "words-b/texts"
    pooled = needs(Config(inputs="pooled", vectors_cache="clip"))
    by_label = {"text_positives": "labels", "image_epochs": 0}
    assert needs(Config(**by_label)).labels and not needs(Config(**by_label, text_epochs=0)).labels
    assert pooled.caches == ("vectors-clip/images", "vectors-clip/texts") and pooled.labels


@pytest.mark.parametrize(
    ("settings", "together", "told"),
    [
        ({}, 1, ["--captions-per-image 1: .* at least 2"]),
        ({"text_positives": "labels"}, 1, []),
        ({"text_epochs": 0}, 1, ["--text-epochs 0: .* --freeze-encoders false"]),
        ({"text_epochs": 0, "image_epochs": 0, "freeze_encoders": False}, 1, []),
        ({"image_epochs": 0}, 2, ["--image-epochs 0: the image encoder would stay random"]),
        ({**POOLS, "text_epochs": 0, "image_epochs": 0, "width": 5}, 1, []),
        ({**POOLS, "class_vectors": "text"}, 2, ["--class-vectors text: with --inputs pooled there is no class token"]),
        ({**POOLS, "region_encoder": "linear+mlp"}, 2, [r"--region-encoder linear\+mlp: .* there are no regions"]),
        ({"class_vectors": "text", "words": "learned"}, 2, ["--class-vectors text: .* goes with --words bert"]),
        ({"class_vectors": "image", "images": "regions"}, 2, [r"--class-vectors image: regions have no \[CLS\]"]),
        ({**POOLS}, 1, ["--captions-per-image 1"]),
        ({"width": 9}, 2, ["--width 9 cannot be divided among --heads 2"]),
        ({"images": "vectors-clip/images"}, 2, ["--images 'vectors-clip/images': regions, patches"]),
        ({"images": "regions"}, 2, []),
        ({"images": "dinov2"}, 5, []),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_told(settings: dict[str, Any], together: int, told: list[str]) -> None:
    import re

    found = problems(config_of(settings), Training(captions_per_image=together))
    assert len(found) == len(told) and all(map(re.search, told, found)), found


# --- learning ---


def test_it_learns_sixteen_random_pairs_of_pooled_vectors() -> None:
    """Words and regions learn scenes in `test_influence.py`."""
    torch.manual_seed(1)
    small = {"embed": 32, "width": 32, "backup_decay": 0.9, "dropout": 0.0, "region_dropout": 0.1}
    matcher = Matcher(config_of({**small, **POOLS}), member="global", sizes=POOLED)
    images, texts, image_of = replace(pooled_images(16), labels=None), pooled_texts(32), torch.arange(16).repeat(2)
    optimizer = torch.optim.Adam(matcher.parameters(), lr=3e-3, fused=True)
    for stage in STAGES:
        losses = []
        for _ in range(100):
            matcher.begin(stage)
            matcher.train()
            optimizer.zero_grad(set_to_none=True)
            loss = matcher_loss(matcher, images, texts, image_of, lambda x: x.sum(), stage).total
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            matcher.after_step(stage)
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0], stage  # pooled vectors tell the images apart from the start
    found = scores(matcher.eval(), images, texts)
    assert (found.argmax(0) == image_of).float().mean() > 0.9
    assert scl.members(matcher.config) == {"global": 1.0}

"""MPSM against the literal version in `literal_mpsm`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from itmkit.inputs import ImageBatch, Sizes, TextBatch
from itmkit.matchers.mpsm import Config, Matcher, members
from itmkit.matchers.mpsm import _edges as edges_of
from itmkit.matchers.mpsm import _kgid as kgid_of
from itmkit.matchers.parts.attention import FlatWords, attend_regions, gram, unit_attention
from itmkit.matchers.parts.pooling import MeanQueryPooling
from itmkit.matchers.parts.relations import RelationReconstruction
from itmkit.matchers.parts.similarity import SimilarityRepresentation
from itmkit.matchers.parts.spatial import SpatialKernels
from tests.matchers import literal_mpsm as literal
from tests.matchers.batches import (
    SIZES,
    image_batch,
    text_batch,
)
from tests.matchers.settings import SETTINGS, named

TOLERANCE = 1e-5
D, S, N = 12, 6, 4

every_setting = pytest.mark.parametrize("settings", SETTINGS["mpsm"], ids=named)


def config_of(settings: dict[str, Any]) -> Config:
    return Config(**{"embed": D, "word": 7, "similarity": S, **settings})


def matcher_of(settings: dict[str, Any], member: str | None = None, seed: int = 0) -> Matcher:
    """A matcher none of whose weights and statistics are at their tidy first values."""
    config = config_of(settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        matcher = Matcher(config, member=member or next(iter(members(config))), sizes=SIZES)
        with torch.no_grad():
            for parameter in matcher.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
            for perspective in matcher.perspectives.values():
                if not config.plain_start:  # scores that differ from pair to pair
                    perspective.get_parameter("predict.weight").mul_(10)
            for name, buffer in matcher.named_buffers():
                buffer.add_(torch.rand_like(buffer) * 0.2)
                assert "running" in name
    return matcher.eval()


def literal_images(batch: ImageBatch) -> list[literal.Image]:
    assert batch.rho is not None and batch.theta is not None
    found = []
    for image, count in enumerate(batch.mask.sum(1).tolist()):
        features = batch.features[image, :count].double().numpy()
        found.append(
            literal.Image(
                features,
                batch.rho[image, :count, :count].double().numpy(),
                batch.theta[image, :count, :count].double().numpy(),
            )
        )
    return found


def literal_texts(batch: TextBatch) -> list[literal.Text]:
    assert batch.edges is not None
    return [
        literal.Text(batch.words[text, :length].tolist(), batch.edges[text, :length, :length].numpy())
        for text, length in enumerate(batch.mask.sum(1).tolist())
    ]


def views(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> tuple[Tensor, ...]:
    return matcher.views(matcher.encode_images(images), matcher.encode_texts(texts))


def scores(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> np.ndarray:
    with torch.no_grad():
        return matcher.score(matcher.encode_images(images), matcher.encode_texts(texts)).numpy()


def close(actual: Tensor | np.ndarray, expected: Any) -> None:
    actual = actual.detach().numpy() if isinstance(actual, Tensor) else actual
    np.testing.assert_allclose(actual, np.array(expected), rtol=0, atol=TOLERANCE)


def nodes_of(count: int, size: int = D, seed: int = 3, spread: float = 1.0) -> Tensor:
    return torch.randn(1, count, size, generator=torch.Generator().manual_seed(seed)) * spread


def listed(nodes: Tensor) -> list[np.ndarray]:
    return list(nodes[0].double().numpy())


# --- the parts, equation by equation ---


def test_spatial_kernels() -> None:
    batch = image_batch()
    assert batch.rho is not None and batch.theta is not None
    kernels = SpatialKernels(5)
    with torch.no_grad():
        for parameter in kernels.parameters():
            parameter.add_(torch.rand(5, generator=torch.Generator().manual_seed(1)) * 0.3)
    weights = literal.weights_of(kernels)
    heads = SpatialKernels(5, heads=True)
    heads.load_state_dict(kernels.state_dict())
    found = kernels(batch.rho, batch.theta)
    for image in range(3):
        for i in range(N):
            for j in range(N):
                rho, theta = float(batch.rho[image, i, j]), float(batch.theta[image, i, j])
                apart = literal.spatial_dependence(weights, rho, theta)
                close(found[image, 0, i, j], sum(apart))
                close(heads(batch.rho, batch.theta)[image, :, i, j], apart)


def test_directions_that_differ_by_a_whole_turn_are_the_same() -> None:
    kernels = SpatialKernels(3)
    theta = torch.tensor([[[-3.1, 3.1, 0.4]]])
    close(kernels(torch.zeros(1, 1, 3), theta), kernels(torch.zeros(1, 1, 3), theta + 2 * torch.pi).detach().numpy())


@pytest.mark.parametrize("real", [1, 3, 5])
@pytest.mark.parametrize("affinity", ["all", "others", "none"])
def test_semantic_edges(real: int, affinity: Any) -> None:
    nodes, prior = nodes_of(5, spread=0.3), torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(4))
    mask, config = torch.arange(5)[None] < real, config_of({"affinity": affinity})
    found = edges_of(nodes, mask, prior, config)
    expected = literal.semantic_edges(listed(nodes)[:real], list(prior[0].double().numpy()), config)
    close(found[0, :, :real, :real], expected)
    length = float(real > 1 or affinity != "others")  # a node alone has no others
    close(found[0, :, :real, :real].square().sum((0, 1)), np.full(real, length))  # columns have unit length
    assert not found[0, :, real:].any() and not found[0, :, :, real:].any()


def test_among_unlike_nodes_a_softmax_over_all_leaves_little_for_the_others() -> None:
    """Why eqs 1 and 3 have a choice: different unit vectors are nearly orthogonal, and each is itself."""
    nodes = torch.nn.functional.normalize(nodes_of(12, size=256), dim=-1)
    mask, prior = torch.ones(1, 12, dtype=torch.bool), torch.ones(1, 1, 12, 12)
    off = {}
    for affinity in ("all", "others"):
        edges = edges_of(nodes, mask, prior, config_of({"affinity": affinity}))[0, 0]
        off[affinity] = float((edges - edges.diag().diag()).mean(0).sum())
    assert off["all"] < 0.02 and off["others"] > 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kgid_softmax": "node"},
        {"kgid_softmax": "node", "kgid_weight": "mean"},
        {"kgid_weight": "mean", "kgid_shortcut": "outside"},
        {"kgid_softmax": "none", "affinity": "others"},
    ],
    ids=named,
)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("with_support", [False, True])
@pytest.mark.parametrize("heads", [1, 3])
def test_kgid(settings: dict[str, Any], layers: int, with_support: bool, heads: int) -> None:
    config = config_of({**settings, "kgid_layers": layers})
    module = kgid_of(config)
    texts = text_batch([4], longest=6)
    nodes, mask, support = nodes_of(6, spread=0.4), texts.mask, texts.edges
    assert support is not None
    prior = support[:, None] * torch.rand(1, heads, 6, 6, generator=torch.Generator().manual_seed(7))
    edges = edges_of(nodes, mask, prior, config)
    found = module(nodes, mask, edges, support=support if with_support else None)
    expected = literal.disseminate(
        literal.weights_of(module),
        listed(nodes)[:4],
        [edges[0, head, :4, :4].double().numpy() for head in range(heads)],
        config,
        support=support[0, :4, :4].numpy() if with_support else None,
    )
    close(found[0, :4], expected)
    assert not found[0, 4:].any()


def test_the_logits_of_eq_5_start_with_the_size_that_is_asked_for() -> None:
    config = config_of({"embed": 256, "kgid_logits": 1.0})
    torch.manual_seed(0)
    module = kgid_of(config)
    message = torch.nn.functional.normalize(nodes_of(40, size=256), dim=-1)
    deviation = [module.spread[0](message).std().item()]
    module.start(size=0.1, logits=1.0)
    deviation += [module.spread[0](message).std().item()]
    assert deviation[0] < 0.05  # as torch starts, eq 5 is uniform
    assert 0.9 < deviation[1] < 1.1


def test_kgid_keeps_to_the_dependency_graph_in_one_layer_only() -> None:
    """A word far from another in the tree: out of reach of the first edges and the first updated ones, not later."""
    chain = torch.eye(4, dtype=torch.bool)[None]
    for word in range(3):
        chain[0, word, word + 1] = chain[0, word + 1, word] = True
    mask = torch.ones(1, 4, dtype=torch.bool)
    reached = []
    for layers in (1, 2, 3):
        torch.manual_seed(5)  # the first layers are the same
        config = config_of({"kgid_layers": layers})
        module = kgid_of(config)
        nodes = nodes_of(4, spread=0.4).requires_grad_()
        edges = edges_of(nodes, mask, chain[None].float(), config).detach()
        module(nodes, mask, edges, support=chain)[0, 0].sum().backward()  # type: ignore[no-untyped-call]
        assert nodes.grad is not None
        reached.append(bool(nodes.grad[0, 3].any()))
    assert reached == [False, False, True]


def test_mean_query_pooling() -> None:
    pooling, nodes = MeanQueryPooling(D), nodes_of(5)
    for real in (1, 4):
        mask = torch.arange(5)[None] < real
        close(pooling(nodes, mask)[0], literal.pool(literal.weights_of(pooling), listed(nodes)[:real]))


def test_cross_attention() -> None:
    regions, words = nodes_of(4, seed=1), nodes_of(5, seed=2)
    masks = torch.arange(4)[None] < 3, torch.arange(5)[None] < 4
    flat = FlatWords.of(words, masks[1])
    weights = attend_regions(regions, masks[0], flat, 9.0)
    assert weights.shape == (1, 4, 4) and not weights[:, :, 3].any()
    expected = literal.attend(listed(regions)[:3], listed(words)[:4], 9.0)
    close((weights @ regions)[0], expected)
    close((unit_attention(3 * weights, gram(regions)) @ regions)[0], [literal.unit(vector) for vector in expected])


@pytest.mark.parametrize("kind", ["distance", "direction"])
@pytest.mark.parametrize("bias", [False, True])
def test_similarity_representations(kind: Any, bias: bool) -> None:
    x, y = nodes_of(3, seed=1)[0], nodes_of(3, seed=2)[0]
    module = SimilarityRepresentation(kind, D, S, unit=False, bias=bias)
    weights = literal.weights_of(module)
    for a, b in zip(x, y, strict=True):
        close(module(a, b), literal.similarity(kind, a.double().numpy(), b.double().numpy(), weights))
    assert torch.isfinite(module(x[0], x[0])).all()  # no distance at all has no direction either


def test_with_a_bias_a_similarity_vector_shows_how_far_apart() -> None:
    torch.manual_seed(0)
    x, step = torch.randn(D), torch.randn(D)
    plain, biased = (SimilarityRepresentation("distance", D, S, unit=True, bias=bias) for bias in (False, True))
    close(plain(x, x + step), plain(x, x + 2 * step).detach().double().numpy())
    assert not torch.allclose(biased(x, x + step), biased(x, x + 2 * step), atol=1e-2)


@pytest.mark.parametrize("kind", ["distance", "direction"])
@pytest.mark.parametrize("alignment", ["both", "global", "local"])
def test_with_a_bias_the_first_scores_follow_the_cosine(kind: Any, alignment: str) -> None:
    """Before any training: vectors that are more alike score higher, as a plain cosine would have it."""
    torch.manual_seed(0)
    form = {"similarity_bias": True, "plain_start": True, "alignment": alignment}
    config = Config(embed=256, similarity=64, **form)  # type: ignore[arg-type]
    matcher = Matcher(config, member=kind, sizes=Sizes(feature=4, vocabulary=3)).eval()
    word = torch.nn.functional.normalize(torch.randn(256), dim=0)
    other = torch.nn.functional.normalize(torch.randn(20, 256), dim=-1)
    share = torch.linspace(0, 1, 20)[:, None]
    images = torch.nn.functional.normalize(share * word + (1 - share) * other, dim=-1)
    encoded = {"nodes": images[:, None], "mask": torch.ones(20, 1, dtype=torch.bool), "global": images}
    text = {"nodes": word[None, None], "mask": torch.ones(1, 1, dtype=torch.bool), "global": word[None]}
    scores = matcher.score(encoded, text)[:, 0]
    cosines = images @ word
    ranks = torch.stack([scores.argsort().argsort(), cosines.argsort().argsort()]).double()
    assert torch.corrcoef(ranks)[0, 1] > 0.95


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("only_first", [False, True])
@pytest.mark.parametrize("edges", ["sum", "product"])
def test_srgr(steps: int, training: bool, only_first: bool, edges: Any) -> None:
    torch.manual_seed(6)
    module = RelationReconstruction(S, steps, edges=edges).train(training)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.fill_(0.3 if name.endswith("mean") else 0.5)
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    weights = literal.weights_of(module)
    lengths = [4, 1, 3]
    nodes = torch.nn.functional.normalize(torch.randn(2, 3, 4, S), dim=-1)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    # Two blocks of images, which have to be normalised as one.
    found = torch.cat(module(list(nodes.split(1)), mask, only_first=only_first))

    graphs = {(i, t): list(nodes[i, t, : lengths[t]].double().numpy()) for i in range(2) for t in range(3)}
    for step in range(steps):
        statistics = literal.Statistics(training)
        last = only_first and step == steps - 1
        graphs = literal.reconstruct(literal.below(weights, f"steps.{step}."), graphs, statistics, only_first=last)
        for norm, (mean, variance) in statistics.running.items():
            close(module.state_dict()[f"steps.{step}.{norm}.running_mean"], mean)
            close(module.state_dict()[f"steps.{step}.{norm}.running_var"], variance)
    for (i, t), expected in graphs.items():
        close(found[i, t, : 1 if only_first else lengths[t]], expected[:1] if only_first else expected)


# --- the whole ---


@every_setting
def test_scores_are_those_of_the_equations(settings: dict[str, Any]) -> None:
    config, images, texts = config_of(settings), image_batch(), text_batch()
    for member in members(config):
        matcher = matcher_of(settings, member)
        weights = literal.weights_of(matcher)
        found = views(matcher, images, texts)
        kinds = list(matcher.perspectives)
        assert kinds == (
            [member] if member != "joint" else list(members(config_of({**settings, "training": "independent"})))
        )
        expected = [
            literal.scores(weights, config, kind, literal_images(images), literal_texts(texts), literal.Statistics())
            for kind in kinds
        ]
        for view, literally in zip(found, expected, strict=True):
            close(view, literally)
            assert literally.std() > 1e-3  # not a comparison of constants
        close(scores(matcher, images, texts), np.mean(expected, axis=0))


@pytest.mark.parametrize("settings", [{}, {"srgr_steps": 3}, {"alignment": "local"}], ids=named)
def test_training_scores_are_those_of_the_equations(settings: dict[str, Any]) -> None:
    """In training the normalisation of eq 16 takes its statistics from the batch."""
    images, texts, matcher = image_batch(), text_batch(), matcher_of(settings)
    weights = literal.weights_of(matcher)
    statistics = literal.Statistics(training=True)
    expected = literal.scores(
        weights, matcher.config, "distance", literal_images(images), literal_texts(texts), statistics
    )
    close(views(matcher.train(), images, texts)[0], expected)


# --- the switches ---


@pytest.mark.parametrize(
    ("settings", "gone", "kept"),
    [
        ({"kgid_layers": 0}, ("visual_kgid", "text_kgid", "spatial"), ("image_pooling",)),
        ({"visual_kgid": False}, ("visual_kgid", "spatial"), ("text_kgid",)),
        ({"text_kgid": False}, ("text_kgid",), ("visual_kgid", "spatial")),
        ({"srgr": False}, ("perspectives.distance.relations",), ("perspectives.distance.predict",)),
        (
            {"alignment": "global"},
            ("perspectives.distance.local_similarity",),
            ("perspectives.distance.global_similarity", "image_pooling"),
        ),
        (
            {"alignment": "local"},
            ("perspectives.distance.global_similarity", "image_pooling", "text_pooling"),
            ("perspectives.distance.local_similarity",),
        ),
    ],
    ids=str,
)
def test_a_part_switched_off_is_not_there(
    settings: dict[str, Any], gone: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    names = [name for name, _ in matcher_of(settings).named_parameters()]
    for part in gone:
        assert not any(name.startswith(part) for name in names), part
    for part in kept:
        assert any(name.startswith(part) for name in names), part


def test_kgid_layers_and_srgr_steps_are_counted() -> None:
    for layers in range(1, 5):
        matcher = matcher_of({"kgid_layers": layers, "srgr_steps": layers})
        assert matcher.visual_kgid is not None and matcher.text_kgid is not None
        assert len(matcher.visual_kgid.spread) == len(matcher.text_kgid.infer) == layers
        assert len(matcher.visual_kgid.outgoing) == len(matcher.text_kgid.incoming) == layers - 1
        perspective: Any = matcher.perspectives["distance"]
        assert len(perspective.relations.steps) == layers


@pytest.mark.parametrize(
    "settings",
    [
        {"kgid_softmax": "node"},
        {"kgid_softmax": "none"},
        {"kgid_weight": "mean"},
        {"kgid_shortcut": "outside"},
        {"affinity": "others", "kgid_softmax": "none"},
        {"affinity": "none", "kgid_softmax": "none"},
        {"unit_nodes": False},
        {"sharpness": 4.0},
    ],
    ids=named,
)
def test_a_switch_without_parameters_changes_the_scores(settings: dict[str, Any]) -> None:
    beside = {"kgid_softmax": "none"} if "affinity" in settings else {}  # with eq 5 as printed, no edge counts
    changed, plain = matcher_of(settings), matcher_of(beside)
    assert [n for n, _ in changed.named_parameters()] == [n for n, _ in plain.named_parameters()]
    images, texts = image_batch(), text_batch()
    assert abs(scores(changed, images, texts) - scores(plain, images, texts)).max() > 1e-3


def test_members() -> None:
    assert list(members(Config())) == ["distance", "direction"]
    assert list(members(Config(similarities="distance"))) == ["distance"]
    assert list(members(Config(similarities="direction"))) == ["direction"]
    assert list(members(Config(training="joint"))) == ["joint"]
    joint = matcher_of({"training": "joint"})
    assert len(views(joint, image_batch(), text_batch())) == 2
    two, one = (
        sum(p.numel() for p in matcher_of({"training": training}).parameters()) for training in ("joint", "independent")
    )
    assert one < two < 2 * one  # the encoders are shared

"""SGRAF against the literal version in `literal_sgraf`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from itmkit.errors import ItmkitError
from itmkit.inputs import ImageBatch, Sizes, TextBatch
from itmkit.matchers.parts.attention import FlatWords
from itmkit.matchers.parts.pooling import MeanQueryPooling
from itmkit.matchers.sgraf import (
    AttentionFiltration,
    Config,
    Graphs,
    Matcher,
    SimilarityReasoning,
    members,
    needs,
)
from itmkit.runs.settings import resolve
from tests.matchers import literal_mpsm, literal_sgraf
from tests.matchers.batches import (
    SIZES,
    image_batch,
    text_batch,
)
from tests.matchers.settings import HANDFUL, SETTINGS, named

TOLERANCE = 1e-5
D, S = 12, 10  # with a smaller S, a ReLU of SGR may leave nothing alive
MEMBERS = ("sgr", "saf")

every_setting = pytest.mark.parametrize("settings", SETTINGS["sgraf"], ids=named)
every_member = pytest.mark.parametrize("member", MEMBERS)


def config_of(settings: dict[str, Any]) -> Config:
    return Config(**{"embed": D, "word": 7, "similarity": S, "sgr_dropout": 0, "saf_dropout": 0, **settings})


def matcher_of(settings: dict[str, Any], member: str, seed: int = 0) -> Matcher:
    """A matcher none of whose weights and statistics are at their tidy first values."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        matcher = Matcher(config_of(settings), member=member, sizes=SIZES)
        for pooling in (module for module in matcher.modules() if isinstance(module, MeanQueryPooling)):
            if pooling.published:
                pooling.dropout.p = 0.0  # to compare in training; `test_parts` looks at the dropout
        with torch.no_grad():
            for name, parameter in matcher.named_parameters():
                parameter.add_(torch.randn_like(parameter) * (0.05 if "weight" in name else 0.2))
            if not matcher.config.plain_start:  # scores that differ from pair to pair
                matcher.predict.weight.mul_(10)
            for name, buffer in matcher.named_buffers():
                buffer.add_(torch.rand_like(buffer) * 0.2)
                assert "running" in name
    return matcher.eval()


def literal_scores(matcher: Matcher, member: str, images: ImageBatch, texts: TextBatch, training: bool) -> np.ndarray:
    assert texts.words is not None and texts.vectors is not None
    return literal_sgraf.scores(
        literal_mpsm.weights_of(matcher),
        matcher.config,
        member,
        [images.features[i, :n].double().numpy() for i, n in enumerate(images.mask.sum(1).tolist())],
        [
            literal_sgraf.Text(texts.words[t, :n].tolist(), texts.vectors[t, :n].double().numpy())
            for t, n in enumerate(texts.mask.sum(1).tolist())
        ],
        literal_mpsm.Statistics(training),
    )


def scores(matcher: Matcher, images: ImageBatch, texts: TextBatch) -> np.ndarray:
    with torch.no_grad():
        return matcher.score(matcher.encode_images(images), matcher.encode_texts(texts)).numpy()


def close(actual: Tensor | np.ndarray, expected: Any) -> None:
    actual = actual.detach().numpy() if isinstance(actual, Tensor) else actual
    np.testing.assert_allclose(actual, np.array(expected), rtol=0, atol=TOLERANCE)


# --- the parts ---


def graphs_of(lengths: list[int], *, with_global: bool, images: int = 2) -> tuple[Graphs, Tensor]:
    """The layout of graphs with so many words, and nodes (images, N, S) of unit length."""
    texts = text_batch(lengths)
    words = FlatWords.of(torch.zeros(*texts.mask.shape, 1), texts.mask)
    graphs = Graphs(words, with_global=with_global)
    random = torch.Generator().manual_seed(2)
    return graphs, normalize(torch.randn(images, int(graphs.mask.sum()), S, generator=random), dim=-1)


def listed(nodes: Tensor, lengths: list[int], *, with_global: bool) -> literal_mpsm.Graphs:
    """The nodes of each pair's graph, counted off one by one: all global ones come before the first word.

    With texts of equal length those of one text follow on those of another.
    """
    found: literal_mpsm.Graphs = {}
    for i, row in enumerate(nodes.detach().double().numpy()):
        if len(set(lengths)) == 1:
            found |= {(i, t): list(own) for t, own in enumerate(np.split(row, len(lengths)))}
            continue
        word = len(lengths) if with_global else 0
        for t, length in enumerate(lengths):
            found[i, t] = [row[t]] if with_global else []
            found[i, t] += list(row[word : word + length])
            word += length
    return found


@pytest.mark.parametrize("lengths", [[3, 1, 4], [3, 3, 3]])
@pytest.mark.parametrize("with_global", [True, False])
def test_graphs_lie_end_to_end_and_find_back(with_global: bool, lengths: list[int]) -> None:
    graphs, nodes = graphs_of(lengths, with_global=with_global)
    padded, sums = graphs.pad(nodes), graphs.sum(nodes)
    assert padded.shape == (2, 3, max(lengths) + with_global, S)
    for (i, t), own in listed(nodes, lengths, with_global=with_global).items():
        close(padded[i, t][graphs.mask[t]], own)
        close(sums[i, t], sum(own))
    assert torch.equal(graphs.unpad(padded), nodes)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("with_global", [True, False])
def test_reasoning(steps: int, with_global: bool) -> None:
    lengths = [3, 1, 4]
    graphs, nodes = graphs_of(lengths, with_global=with_global)
    torch.manual_seed(1)
    module = SimilarityReasoning(S, steps)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    found = module(nodes, graphs, with_global=with_global)
    assert found.shape == (2, 3, S)
    weights = literal_mpsm.weights_of(module)
    for (i, t), graph in listed(nodes, lengths, with_global=with_global).items():
        for step in range(steps):
            graph = literal_sgraf.reason(literal_mpsm.below(weights, f"steps.{step}."), graph)
        close(found[i, t], graph[0] if with_global else sum(graph) / len(graph))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_filtration(training: bool, unit: bool) -> None:
    lengths = [3, 1, 4]
    graphs, nodes = graphs_of(lengths, with_global=True)
    torch.manual_seed(1)
    module = AttentionFiltration(S, unit=unit).train(training)
    with torch.no_grad():
        module.norm.weight.fill_(1.7)
        module.norm.bias.fill_(-0.4)
        module.norm.running_mean.fill_(0.2)
    weights, statistics = literal_mpsm.weights_of(module), literal_mpsm.Statistics(training)
    found = module(nodes, graphs)
    expected = literal_sgraf.filter_graphs(weights, listed(nodes, lengths, with_global=True), statistics)
    for pair, vector in expected.items():
        close(found[pair], literal_mpsm.unit(vector) if unit else vector)
    if training:
        close(torch.stack([module.norm.running_mean, module.norm.running_var]), statistics.running["norm"])


# --- the whole ---


@every_member
@every_setting
def test_scores_are_those_of_the_equations(settings: dict[str, Any], member: str) -> None:
    images, texts, matcher = image_batch([4, 2, 1]), text_batch(), matcher_of(settings, member)
    expected = literal_scores(matcher, member, images, texts, training=False)
    close(scores(matcher, images, texts), expected)
    assert expected.std() > 1e-3  # not a comparison of constants


@every_member
@pytest.mark.parametrize("settings", HANDFUL["sgraf"], ids=named)
def test_training_scores_are_those_of_the_equations(settings: dict[str, Any], member: str) -> None:
    """In training SAF's normalisation takes its statistics from all nodes of the batch, pooling's from its images."""
    images, texts, matcher = image_batch(), text_batch(), matcher_of(settings, member)
    expected = literal_scores(matcher, member, images, texts, training=True)
    close(scores(matcher.train(), images, texts), expected)


# --- the switches ---


@pytest.mark.parametrize(
    ("settings", "gone", "kept"),
    [
        (
            {"alignment": "global"},
            ("local_similarity", "graph"),
            ("global_similarity", "image_pooling", "text_pooling"),
        ),
        ({"alignment": "local"}, ("global_similarity", "image_pooling", "text_pooling"), ("local_similarity", "graph")),
        ({"similarity_bias": False}, ("global_similarity.project.bias", "local_similarity.project.bias"), ("graph",)),
        ({"words": "bert"}, ("words.gru", "words.embedding"), ("words.reduce",)),
        ({"words": "bert+gru"}, ("words.embedding",), ("words.reduce", "words.gru")),
    ],
    ids=str,
)
@every_member
def test_a_part_switched_off_is_not_there(
    settings: dict[str, Any], gone: tuple[str, ...], kept: tuple[str, ...], member: str
) -> None:
    full, names = ([name for name, _ in matcher_of(each, member).named_parameters()] for each in ({}, settings))
    for part in gone:
        assert any(name.startswith(part) for name in full) and not any(name.startswith(part) for name in names), part
    for part in kept:
        assert any(name.startswith(part) for name in names), part


def test_members_differ_in_what_they_do_with_the_graph() -> None:
    assert members(Config()) == {"sgr": 1.0, "saf": 1.0}
    assert members(Config(modules="sgr")) == {"sgr": 1.0} and members(Config(modules="saf")) == {"saf": 1.0}
    sgr, saf = (set(matcher_of({}, member).state_dict()) for member in MEMBERS)
    assert {name for name in sgr ^ saf if not name.startswith("graph.")} == set()
    assert {name for name in saf if name.startswith("graph.")} == {
        "graph.weigh.weight",
        *(f"graph.norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
    }


def test_steps_are_counted() -> None:
    for steps in (1, 2, 4):
        graph = matcher_of({"steps": steps}, "sgr").graph
        assert isinstance(graph, SimilarityReasoning) and len(graph.steps) == steps


@pytest.mark.parametrize(
    ("settings", "member"),
    [
        ({"unit_nodes": False}, "sgr"),
        ({"unit_nodes": False}, "saf"),
        ({"unit_filtered": False}, "saf"),
        ({"sharpness": 4.0}, "sgr"),
        ({"sharpness": 4.0}, "saf"),
    ],
    ids=str,
)
def test_a_switch_without_parameters_changes_the_scores(settings: dict[str, Any], member: str) -> None:
    changed, plain = matcher_of(settings, member), matcher_of({}, member)
    assert [n for n, _ in changed.named_parameters()] == [n for n, _ in plain.named_parameters()]
    images, texts = image_batch(), text_batch()
    assert abs(scores(changed, images, texts) - scores(plain, images, texts)).max() > 1e-3


@every_member
def test_each_member_has_its_dropout_in_training_only(member: str) -> None:
    images, texts = image_batch(), text_batch()
    for other in MEMBERS:
        matcher = matcher_of({"sgr_dropout": 0.0, "saf_dropout": 0.0, f"{other}_dropout": 0.5}, member)
        resting = scores(matcher.eval(), images, texts)
        assert np.array_equal(resting, scores(matcher.eval(), images, texts))
        acts = not np.allclose(scores(matcher.train(), images, texts), scores(matcher.train(), images, texts))
        assert acts == (other == member)


@every_member
@pytest.mark.parametrize("alignment", ["both", "global", "local"])
def test_with_a_plain_start_the_first_scores_follow_the_cosine(member: str, alignment: str) -> None:
    """Before any training: vectors that are more alike score higher, as a plain cosine would have it."""
    torch.manual_seed(0)
    config = Config(embed=256, similarity=64, plain_start=True, alignment=alignment)  # type: ignore[arg-type]
    matcher = Matcher(config, member=member, sizes=Sizes(feature=4, vocabulary=3)).eval()
    word, other = normalize(torch.randn(256), dim=0), normalize(torch.randn(20, 256), dim=-1)
    share = torch.linspace(0, 1, 20)[:, None]
    images = normalize(share * word + (1 - share) * other, dim=-1)
    encoded = {"nodes": images[:, None], "mask": torch.ones(20, 1, dtype=torch.bool), "global": images}
    text = {"nodes": word[None, None], "mask": torch.ones(1, 1, dtype=torch.bool), "global": word[None]}
    found, cosines = matcher.score(encoded, text)[:, 0], images @ word
    ranks = torch.stack([found.argsort().argsort(), cosines.argsort().argsort()]).double()
    assert torch.corrcoef(ranks)[0, 1] > 0.95


@every_member
def test_with_a_plain_start_the_global_node_weighs_more_than_words(member: str) -> None:
    torch.manual_seed(0)
    config = Config(embed=64, word=8, similarity=32, plain_start=True, saf_dropout=0)
    matcher = Matcher(config, member=member, sizes=SIZES).train()  # SAF by the statistics of the batch
    images, texts = matcher.encode_images(image_batch()), matcher.encode_texts(text_batch([9] * 3))
    words = FlatWords.of(texts["nodes"], texts["mask"])
    graphs = Graphs(words, with_global=True)
    nodes = graphs.join(*matcher._similarities(images, texts, words)).detach().requires_grad_()
    assert matcher.graph is not None
    layout = {"with_global": True} if member == "sgr" else {}
    matcher.graph(nodes, graphs, **layout)[..., 0].sum().backward()
    assert nodes.grad is not None
    weights = graphs.pad(nodes.grad)[..., 0].abs()  # (Bi, 3, 1 + 9)
    assert weights[:, :, 0].sum() > weights[:, :, 1:].sum()


def test_a_plain_start_asks_for_the_bias() -> None:
    with pytest.raises(ItmkitError, match="--plain-start false"):
        resolve("sgraf", settings={"plain_start": True, "similarity_bias": False})


@pytest.mark.parametrize(("plain_start", "bias"), [(False, True), (False, False), (True, True)])
def test_the_bias_and_the_start_are_two_settings(plain_start: bool, bias: bool) -> None:
    settings = {"plain_start": plain_start, "similarity_bias": bias}
    assert resolve("sgraf", settings=settings).matcher.plain_start == plain_start
    matcher = matcher_of(settings, "sgr")
    assert ("global_similarity.project.bias" in matcher.state_dict()) == bias


@every_member
@pytest.mark.parametrize("alignment", ["both", "global"])
def test_published_pooling_changes_the_scores(member: str, alignment: str) -> None:
    """With the same weights of all that both have; one is larger than it begins, so that not all nodes weigh alike."""
    plain = matcher_of({"alignment": alignment}, member)
    with torch.no_grad():
        plain.image_pooling.weigh.weight.mul_(20)
        plain.text_pooling.weigh.weight.mul_(20)
    published = matcher_of({"alignment": alignment, "pooling": "published"}, member)
    published.load_state_dict(plain.state_dict(), strict=False)
    images, texts = image_batch(), text_batch()
    assert abs(scores(published, images, texts) - scores(plain, images, texts)).max() > 1e-3


def test_published_pooling_has_dropout_in_training_only() -> None:
    torch.manual_seed(0)
    matcher = Matcher(config_of({"pooling": "published"}), member="sgr", sizes=SIZES)
    images, texts = image_batch(), text_batch()
    assert np.array_equal(scores(matcher.eval(), images, texts), scores(matcher.eval(), images, texts))
    assert not np.allclose(scores(matcher.train(), images, texts), scores(matcher.train(), images, texts), atol=1e-7)


def test_it_needs_no_graphs() -> None:
    assert needs(Config()).caches == ("regions", "text")
    assert needs(Config(words="bert", words_cache="x")).caches == ("regions", "text", "words-x/texts")


def test_places_among_regions_are_normalised_each_by_itself() -> None:
    """As a batch normalisation over regions, whatever padding an image has; more regions than places are an error."""
    torch.manual_seed(0)
    pooling = MeanQueryPooling(D, form="published", side="image", places=4).eval()
    statistics = pooling.key_norm
    statistics.running_mean.copy_(torch.randn(4))
    statistics.running_var.copy_(torch.rand(4) + 0.5)
    plain = torch.nn.BatchNorm1d(4).eval()
    plain.load_state_dict({**statistics.state_dict(), "num_batches_tracked": torch.tensor(0)})
    x, mask = torch.randn(3, 4, D), torch.ones(3, 4, dtype=torch.bool)
    keys, queries = (
        torch.tanh(plain(pooling.key(x))),
        torch.tanh(pooling.query_norm(pooling.query(x.mean(1)), mask[:, :1])),
    )
    wanted = (pooling.weigh(keys * queries[:, None]).squeeze(-1)).softmax(dim=1)
    assert torch.allclose(pooling.weights(x, mask), wanted, atol=1e-6)
    padded = torch.cat([x, torch.full((3, 2, D), 9.0)], dim=1)
    more = torch.cat([mask, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    assert torch.allclose(pooling.weights(padded, more)[:, :4], wanted, atol=1e-6)
    fewer = mask & (torch.arange(4) < 3)
    assert torch.allclose(pooling.weights(x, fewer)[:, :3], pooling.weights(x[:, :3], fewer[:, :3]), atol=1e-6)
    with pytest.raises(ItmkitError, match="knows 4 places"):
        pooling.weights(padded, torch.ones(3, 6, dtype=torch.bool))
    pooling.train()
    before = statistics.running_mean.clone()
    pooling.weights(x, mask).sum().backward()
    assert statistics.running_mean.shape == (4,) and not torch.equal(before, statistics.running_mean)

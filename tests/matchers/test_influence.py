"""Every part of a method has a say in its scores.

A gradient that reaches a part does not show that: what MPSM gathered along its edges once changed no score by more than
0.002. Here each part is taken away from a trained matcher, without training again. Two figures tell what it did: the
change of the scores, in percent of their deviation, and what rsum loses on the scenes that were learned.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from itmkit.inputs import ImageBatch, Inputs, TextBatch
from itmkit.matchers import METHODS, as_matcher, build, method, preset
from itmkit.matchers.parts.norms import l2norm
from itmkit.matchers.parts.pooling import masked_mean
from itmkit.runs.settings import resolve
from itmkit.scoring.metrics import retrieval
from tests.matchers.learning import SMALL, learn, make_workspace
from tests.matchers.test_overfit import NO_TRAINING
from tests.matchers.test_overfit import SCENES as BY_HEART

# Scenes to learn. SGRAF needs more of them: of fewer it finds most by either of its parts alone.
SCENES = dict.fromkeys(METHODS, 20) | {"mpsm": 16, "sgraf": 32}

# Settings and epochs: enough for most scenes to be found.
RUNS: dict[str, tuple[dict[str, Any], int]] = {
    "mpsm": (vars(resolve("mpsm", recipe="scenes", settings={"similarities": "direction"}).matcher), 20),
    "glfn": (SMALL["glfn"], 50),
    "pfan": (SMALL["pfan"] | {"directions": "i2t"}, 40),  # one of two members; GLFN, whose module it is, trains both
    "scan": (SMALL["scan"] | {"directions": "t2i"}, 35),
    "sgraf": (SMALL["sgraf"] | {"modules": "both"}, 15),
    "mefn": (SMALL["mefn"], 20),
    "cmfg": (SMALL["cmfg"] | {"embed": 32, "query": 16, "region_encoder": "linear+mlp"}, 15),
    "scl": (SMALL["scl"] | {"region_encoder": "linear+mlp"}, 20),
    "chan": (SMALL["chan"], 15),
    "rcar": (SMALL["rcar"], 15),
    "laps": (SMALL["laps"] | {"region_encoder": "linear+mlp"}, 15),
    "vseinf": (SMALL["vseinf"], 15),
    "vsepp": (SMALL["vsepp"], 15),
}


@dataclass
class Trained:
    """A trained matcher and what it scores; the functions below take a part away from one of them."""

    matcher: Any
    begun: Any  # the same matcher before training
    images: ImageBatch
    texts: TextBatch
    image_of: np.ndarray

    @torch.no_grad()
    def scores(self) -> Tensor:
        parts = as_matcher(self.matcher)
        return parts.score(parts.encode_images(self.images), parts.encode_texts(self.texts))

    @cached_property
    def before(self) -> Tensor:
        """The scores of the whole matcher, which every test of it compares with."""
        return self.scores()

    def rsum(self, scores: Tensor) -> float:
        return retrieval(scores.numpy(), self.image_of).rsum

    def without(self, take_away: Take) -> Trained:
        changed = replace(self, matcher=copy.deepcopy(self.matcher))
        with torch.no_grad():
            take_away(changed)
        return changed


Take = Callable[[Trained], None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Trained]]:
    """The members of a method, trained when the first test asks for them."""
    workspace = make_workspace(tmp_path_factory.mktemp("influence"), scenes=max(SCENES.values()))

    @cache
    def members_of(name: str) -> dict[str, Trained]:
        settings, epochs = RUNS[name]
        config = method(name).Config(**preset(name) | settings)
        members, inputs = learn(name, config, workspace, epochs, SCENES[name])
        begun = build(name, config, sizes=inputs.sizes, seed=0)
        return {member: _of(matcher.eval(), begun[member].eval(), inputs) for member, matcher in members.items()}

    return members_of


def _of(matcher: nn.Module, begun: nn.Module, inputs: Inputs) -> Trained:
    images, texts = inputs.image_batch(np.arange(len(inputs.images))), inputs.text_batch(np.arange(len(inputs.lengths)))
    return Trained(matcher, begun, images, texts, inputs.image_of)


# Ways to take a part away.


def zero(*names: str) -> Take:
    """Zero weights: nothing is sent, all logits are equal."""

    def take(it: Trained) -> None:
        found = [p for name, p in it.matcher.named_parameters() if any(re.search(one, name) for one in names)]
        assert found, f"no parameter is named {names}"
        for parameter in found:
            parameter.zero_()

    return take


def settings(**changed: Any) -> Take:
    def take(it: Trained) -> None:
        it.matcher.config = replace(it.matcher.config, **changed)

    return take


def initial(part: str) -> Take:
    """The weights that training began with."""

    def take(it: Trained) -> None:
        it.matcher.get_submodule(part).load_state_dict(it.begun.get_submodule(part).state_dict())

    return take


def of_another_image(*keys: str) -> Take:
    def take(it: Trained) -> None:
        encode = it.matcher.encode_images
        it.matcher.encode_images = lambda batch: {
            key: value.roll(1, 0) if key in keys else value for key, value in encode(batch).items()
        }

    return take


def shuffled_places(mask: Tensor) -> Tensor:
    """(B, N) int64: another order of the real places of each row."""
    return (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) + ~mask).argsort(dim=1)


def shuffle_everywhere(values: Tensor, mask: Tensor) -> Tensor:
    """(B, N, ...) with the real rows of all images in another order."""
    order = torch.randperm(int(mask.sum()), generator=torch.Generator().manual_seed(0))
    values = values.clone()
    values[mask] = values[mask][order]
    return values


def shuffle_polar(it: Trained) -> None:
    order = shuffled_places(it.images.mask)
    polar = {
        name: getattr(it.images, name).take_along_dim(order[:, :, None], 1).take_along_dim(order[:, None], 2)
        for name in ("rho", "theta")
    }
    it.images = replace(it.images, **polar)


def dependencies_to_self_loops(it: Trained) -> None:
    edges = it.texts.edges
    assert edges is not None
    it.texts = replace(it.texts, edges=edges & torch.eye(edges.shape[1], dtype=torch.bool))


def shuffle_positions(it: Trained) -> None:
    order = shuffled_places(it.images.mask)[..., None]
    positions = {name: getattr(it.images, name).take_along_dim(order, 1) for name in ("blocks", "block_weights")}
    it.images = replace(it.images, **positions)


def permute_block_vectors(it: Trained) -> None:
    blocks = it.matcher.positions.embedding.weight[1:]
    blocks.copy_(blocks[torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0))])


def shuffle_tags(it: Trained) -> None:
    assert it.images.tags is not None
    it.images = replace(it.images, tags=shuffle_everywhere(it.images.tags, it.images.mask))


def shuffle_regions(it: Trained) -> None:
    it.images = replace(it.images, features=shuffle_everywhere(it.images.features, it.images.mask))


def shuffle_words(it: Trained) -> None:
    assert it.texts.words is not None
    it.texts = replace(it.texts, words=it.texts.words.take_along_dim(shuffled_places(it.texts.mask), 1))


def even_attention_of_mpsm(it: Trained) -> None:
    for view in it.matcher.perspectives.values():  # not of KGID, which has the same lambda
        view.config = replace(view.config, sharpness=1e-6)


def even_entropies(it: Trained) -> None:
    weights = it.matcher.entropy.weights

    def even(cosine: Tensor, mask: Tensor, words: Any) -> tuple[Tensor, Tensor, Tensor]:
        regions, of_words, mean = weights(cosine, mask, words)
        return mask.to(regions.dtype).expand_as(regions), words.mask.to(of_words.dtype).expand_as(of_words), mean

    it.matcher.entropy.weights = even


def gate(bias: float) -> Take:
    """The gate of weighted fusion, the same everywhere: 1/2 at 0, local only at 30, global only at -30."""

    def take(it: Trained) -> None:
        for fusion in (it.matcher.image_fusion, it.matcher.text_fusion):
            fusion.gate.weight.zero_()
            fusion.gate.bias.fill_(bias)

    return take


def mean_of_regions(it: Trained) -> None:
    """Every region of an image becomes their mean, so that no word has a best one."""
    encode = it.matcher.encode_images

    def even(batch: ImageBatch) -> dict[str, Tensor]:
        found = encode(batch)
        mean = l2norm(masked_mean(found["nodes"], found["mask"]))
        return {**found, "nodes": mean.unsqueeze(1) * found["mask"].unsqueeze(-1)}

    it.matcher.encode_images = even


def one_step(it: Trained) -> None:
    """The alignment of the second step is that of the first attention."""
    correct = it.matcher.correspondence[0]
    correct.forward = lambda aligned, gates, sharpness: (aligned.new_ones(()), sharpness)


def cut_cross_edges(it: Trained) -> None:
    settings(edges="intra")(it)
    it.matcher.pairwise = False


EVEN_SCAN = settings(sharpness_t2i=1e-6, sharpness_i2t=1e-6)
EVEN_POOLING = zero(r"(image|text)_pooling\.weigh")

# What parts claim. One that refines must change scores by more than rounding; without one that carries the method they
# must change a good deal, and fewer scenes be found.
REFINES, CARRIES = 2.0, 10.0

GATE_OF_HALF = "the gate of local and global stays near one half: fixed there, scores change by 1 to 2 %"
EVEN_WEIGHTS = "a product of three small factors: the weights of pooling begin equal and hardly learn"


def missing(why: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(reason=why, strict=False)


# (The tiny BERT of these tests tells little by its tags, and something else each time that it is built.)
PARTS = [
    pytest.param("mpsm", zero(r"kgid\.spread"), REFINES, id="mpsm: all edges zero"),
    pytest.param("mpsm", zero(r"visual_kgid\.spread"), REFINES, id="mpsm: image edges"),
    pytest.param("mpsm", zero(r"text_kgid\.spread"), REFINES, id="mpsm: text edges"),
    pytest.param("mpsm", zero(r"kgid\.outgoing"), REFINES, id="mpsm: eq 9 even"),
    pytest.param("mpsm", shuffle_polar, REFINES / 2, id="mpsm: polar coordinates"),
    pytest.param("mpsm", dependencies_to_self_loops, REFINES, id="mpsm: dependencies"),
    pytest.param("mpsm", EVEN_POOLING, REFINES, id="mpsm: pooling to mean", marks=missing(EVEN_WEIGHTS)),
    pytest.param("mpsm", of_another_image("global"), REFINES, id="mpsm: global vectors"),
    pytest.param("mpsm", zero(r"relations\..*\.(outgoing|incoming)\.weight"), REFINES, id="mpsm: SRGR edges even"),
    pytest.param("mpsm", zero(r"relations\..*\.refine"), REFINES, id="mpsm: eq 19"),
    pytest.param("mpsm", even_attention_of_mpsm, CARRIES, id="mpsm: cross attention even"),
    pytest.param("glfn", shuffle_tags, REFINES, id="glfn: tags"),
    pytest.param("glfn", shuffle_positions, REFINES, id="glfn: positions"),
    pytest.param("glfn", permute_block_vectors, REFINES, id="glfn: block vectors"),
    pytest.param("glfn", zero(r"positions\.query"), REFINES, id="glfn: block attention even"),
    pytest.param("glfn/t2i", settings(attention_bonus=0.5), REFINES, id="glfn: attention bonus"),
    pytest.param("glfn", EVEN_SCAN, CARRIES, id="glfn: attention even"),
    pytest.param("glfn", shuffle_words, CARRIES, id="glfn: order of words"),
    pytest.param("pfan", shuffle_positions, REFINES, id="pfan: positions"),
    pytest.param("pfan", permute_block_vectors, CARRIES, id="pfan: block vectors"),
    pytest.param("pfan", zero(r"positions\.query"), REFINES, id="pfan: block attention even"),
    pytest.param("pfan", EVEN_SCAN, CARRIES, id="pfan: attention even"),
    pytest.param("scan", EVEN_SCAN, CARRIES, id="scan: attention even"),
    pytest.param("sgraf/sgr", zero(r"graph\.steps\.\d+\.answer"), CARRIES, id="sgraf: SGR edges even"),
    pytest.param("sgraf/saf", zero(r"graph\.weigh"), REFINES, id="sgraf: SAF weights even"),
    pytest.param("sgraf", EVEN_POOLING, REFINES, id="sgraf: pooling to mean", marks=missing(EVEN_WEIGHTS)),
    pytest.param("sgraf", of_another_image("global"), CARRIES, id="sgraf: global vectors"),
    pytest.param("sgraf", settings(sharpness=1e-6), CARRIES, id="sgraf: cross attention even"),
    pytest.param("mefn", even_entropies, CARRIES, id="mefn: entropies even"),
    pytest.param("mefn", settings(sharpness=1e-6, sharpness_i2t=1e-6), CARRIES, id="mefn: local attention to means"),
    pytest.param("mefn", gate(30), REFINES, id="mefn: local only"),
    pytest.param("mefn", gate(-30), CARRIES, id="mefn: global only"),
    pytest.param("mefn", gate(0), REFINES, id="mefn: fusion gate fixed", marks=missing(GATE_OF_HALF)),
    pytest.param("mefn", zero(r"consistency\.scale"), REFINES, id="mefn: consistency fixed"),
    pytest.param("mefn", EVEN_POOLING, REFINES, id="mefn: pooling to mean", marks=missing(EVEN_WEIGHTS)),
    pytest.param("cmfg", cut_cross_edges, REFINES, id="cmfg: cross edges"),
    pytest.param("cmfg", settings(edges="cross"), CARRIES, id="cmfg: intra edges"),
    pytest.param("cmfg", zero(r"layers\.\d+\.query"), CARRIES, id="cmfg: edges even"),
    pytest.param("cmfg", zero(r"layers\.1\.spread"), REFINES, id="cmfg: second layer"),
    pytest.param("cmfg", zero(r"regions\.leave"), CARRIES, id="cmfg: MLP of regions"),
    pytest.param("scl", initial("encoders.text"), CARRIES, id="scl: text stage"),
    pytest.param("scl", initial("encoders.image"), CARRIES, id="scl: image stage"),
    pytest.param("scl", initial("maps"), CARRIES, id="scl: shared stage"),
    pytest.param("scl", zero(r"encoders\.\w+\.positions"), CARRIES, id="scl: positions"),
    pytest.param("scl", zero(r"encoders\.image\.enter\.leave"), CARRIES, id="scl: MLP of regions"),
    pytest.param("chan", zero(r"attention\.attention\.out_proj"), REFINES, id="chan: self-attention"),
    pytest.param("chan", mean_of_regions, CARRIES, id="chan: the mean region instead of the best"),
    pytest.param("chan", shuffle_words, REFINES, id="chan: order of words"),
    pytest.param("rcar", zero(r"correspondence\.0\.gates\.2"), REFINES, id="rcar: all numbers of a query count"),
    pytest.param("rcar", zero(r"correspondence\.0\.sharpness\.2"), REFINES / 2, id="rcar: sharpness as it begins"),
    pytest.param("rcar", zero(r"aggregation\.\d\.weigh"), REFINES, id="rcar: RAR to mean"),
    pytest.param("rcar", one_step, REFINES, id="rcar: the first step alone"),
    pytest.param("rcar", zero(r"regions\.leave"), CARRIES, id="rcar: MLP of regions"),
    pytest.param("rcar", shuffle_regions, CARRIES, id="rcar: regions"),
    pytest.param("laps", settings(keep=1.0), REFINES, id="laps: all kept"),
    pytest.param("laps", settings(caption_chooses=False), REFINES, id="laps: chosen by the image alone"),
    pytest.param("laps", zero(r"tokens\.logits\.3"), REFINES, id="laps: tokens to means"),
    pytest.param("laps", zero(r"patches\.leave"), CARRIES, id="laps: MLP of regions"),
    pytest.param("laps", shuffle_regions, CARRIES, id="laps: regions"),
    pytest.param("laps", shuffle_words, REFINES, id="laps: order of words"),
    pytest.param("vseinf", zero(r"image_pooling\.weigh"), CARRIES, id="vseinf: mean of regions"),
    pytest.param("vseinf", zero(r"text_pooling\.weigh"), REFINES, id="vseinf: mean of words"),
    pytest.param("vseinf", zero(r"regions\.leave"), CARRIES, id="vseinf: MLP of regions"),
    pytest.param("vseinf", shuffle_regions, CARRIES, id="vseinf: regions"),
    pytest.param("vsepp", shuffle_regions, CARRIES, id="vsepp: regions"),
    pytest.param("vsepp", shuffle_words, REFINES, id="vsepp: order of words"),
]


@pytest.mark.parametrize(("whose", "take_away", "claim"), PARTS)
def test_without_the_part_scores_change(
    whose: str, take_away: Take, claim: float, trained: Callable[[str], dict[str, Trained]]
) -> None:
    name, _, only = whose.partition("/")
    for member, whole in trained(name).items():
        if only in ("", member):
            before, after = whole.before, whole.without(take_away).scores()
            change = 100 * float((after - before).std() / before.std())
            lost = whole.rsum(before) - whole.rsum(after)
            told = f"{member}: scores change by {change:.2f} % of their deviation, rsum loses {lost:.1f}"
            print(told)
            assert change > claim and (claim < CARRIES or lost > 0), told


@pytest.mark.parametrize("name", RUNS)
def test_scenes_are_learned(name: str, trained: Callable[[str], dict[str, Trained]]) -> None:
    """Most of them where no other test has the method learn pairs by heart; elsewhere much more than by chance."""
    for member, whole in trained(name).items():
        found = retrieval(whole.before.numpy(), whole.image_of)
        assert min(found.i2t.r1, found.t2i.r1) > (70 if name in BY_HEART else 15), (member, found)  # by chance 3 to 5


def test_every_method_that_learns_is_here() -> None:
    assert {param.values[0].partition("/")[0] for param in PARTS} == set(RUNS) == set(METHODS) - set(NO_TRAINING)

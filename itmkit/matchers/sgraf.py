"""SGRAF: Similarity Reasoning and Filtration for Image-Text Matching (Diao, Zhang, Ma, Lu; AAAI 2021).

Read top to bottom like the paper, from its similarity vectors on:

    encoders            regions, words, one global vector of each   `itmkit.matchers.parts`
    similarity vectors  `s(x, y) = l2norm(W (x - y)^2)`             `itmkit.matchers.parts.similarity`
    similarity graphs   nodes: the global one and one a word        `Graphs`
    SGR                 reasoning: nodes gather from each other     `SimilarityReasoning`
    SAF                 filtration: nodes are weighed and added     `AttentionFiltration`
    objective           triplet loss, each member by itself         `itmkit.matchers.parts.losses`

Two members, `sgr` and `saf`, share this code and no parameter; the mean of their scores is SGRAF.
Where the paper is silent, or the published network differs from the print, the reading is said beside the line.
Shape letters: see `itmkit.inputs`. M is the most nodes of a graph, N the number of nodes of all texts.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded
from itmkit.matchers.parts.attention import MAX_SHARPNESS, FlatWords, attend_regions, gram
from itmkit.matchers.parts.blocks import in_blocks
from itmkit.matchers.parts.encoders import (
    TOKENS,
    Regions,
    Tokens,
    WordEncoder,
    Words,
    region_encoder,
    token_problems,
    word_needs,
)
from itmkit.matchers.parts.graphs import Graphs
from itmkit.matchers.parts.norms import MaskedBatchNorm, l2norm, masked_softmax
from itmkit.matchers.parts.pooling import MeanQueryPooling, Pooling
from itmkit.matchers.parts.similarity import SimilarityRepresentation, local_similarities, score_of

SUMMARY = "similarity vectors that reason as a graph and are filtered; MPSM extends it"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of SGRAF. Defaults are those of the published runs."""

    embed: int = Field(default=1024, ge=1, le=65_536, description="D, size of the common space")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    words: Words = Field(default="gru", description="learned words, or frozen vectors with or without a GRU")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    tokens: Tokens = Field(default="parsed", description=TOKENS)
    images: str = Field(default="regions", description=IMAGES)
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    similarity: int = Field(default=256, ge=3, le=65_536, description="S, size of a similarity vector")
    similarity_bias: bool = Field(default=True, description="a bias in the maps to similarity vectors (a reading)")
    sharpness: float = Field(default=9.0, gt=0, le=MAX_SHARPNESS, description="lambda of the cross attention")
    alignment: Literal["both", "global", "local"] = Field(default="both", description="nodes compared")
    pooling: Literal[Pooling, "positions"] = Field(
        default="print",
        description="global vectors as printed, or as published with normalisation, tanh and dropout; positions: each"
        " place among the regions is normalised by itself",
    )
    modules: Literal["both", "sgr", "saf"] = Field(default="both", description="members")
    steps: int = Field(default=3, ge=1, le=10_000, description="times that SGR reasons over the similarity graph")
    unit_nodes: bool = Field(default=True, description="compare unit vectors (a reading)")
    unit_filtered: bool = Field(default=True, description="SAF scales its sum to unit length (a reading)")
    sgr_dropout: float = Field(default=0.4, ge=0, lt=1, description="dropout on word vectors of the member sgr")
    saf_dropout: float = Field(default=0.4, ge=0, lt=1, description="dropout on word vectors of the member saf")
    plain_start: bool = Field(default=False, description="begin as a plain similarity")


def needs(config: Config) -> Needs:
    return Needs(images=config.images, **word_needs(config.words, config.words_cache, config.tokens))


def members(config: Config) -> dict[str, float]:
    return {"sgr": 1.0, "saf": 1.0} if config.modules == "both" else {config.modules: 1.0}


ABLATIONS: dict[str, dict[str, Any]] = {
    "SGR only": {"modules": "sgr"},
    "SAF only": {"modules": "saf"},
    "global only": {"alignment": "global"},
    "local only": {"alignment": "local"},
    **{f"{steps} step{'s' * (steps > 1)} of SGR": {"steps": steps} for steps in (1, 2, 3, 4)},
}


def problems(config: Config, training: object) -> list[str]:
    found = token_problems(config.words, config.tokens) + image_problems(config.images)
    if config.plain_start and not config.similarity_bias:
        found.append(
            "--plain-start true measures by the bias that --similarity-bias false leaves out: --plain-start false"
        )
    return found


class SimilarityReasoning(nn.Module):
    """SGR: a few steps in which nodes gather from each other. The global node then stands for its graph."""

    def __init__(self, size: int, steps: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(_ReasoningStep(size) for _ in range(steps))

    @torch.no_grad()
    def start_as_mean(self) -> None:
        """Begins as weighted means of the nodes. The one in which number 2 is large weighs many others."""
        for step in self.steps:
            assert isinstance(step, _ReasoningStep)
            step.ask.weight.mul_(0.1)
            step.ask.bias[0] = 6
            step.answer.weight[0] = functional.one_hot(torch.tensor(2), len(step.answer.weight))
            nn.init.eye_(step.infer.weight)

    def forward(self, nodes: Tensor, graphs: Graphs, *, with_global: bool) -> Tensor:
        """(Bi, N, S) -> (Bi, Bt, S), one vector a pair."""
        for number, step in enumerate(self.steps, 1):
            nodes = step(nodes, graphs, only_first=with_global and number == len(self.steps))
        # Without global nodes the mean of all stands for the graph: a reading, for the ablation.
        return nodes if with_global else graphs.sum(nodes) / graphs.mask.sum(dim=1, keepdim=True)

    def weights(self, nodes: Tensor, graphs: Graphs) -> Tensor:
        """(1, N, S) of one pair -> (N,): what its first node gathers of each in the first step."""
        first = self.steps[0]
        assert isinstance(first, _ReasoningStep)
        return first.edges(graphs.pad(nodes), graphs)[0, 0, 0]


class _ReasoningStep(nn.Module):
    """`s_p <- ReLU(W sum_q e(p, q) s_q)` with `e(p, q) = softmax_q((W_in s_p) . (W_out s_q))`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        # The print has no biases, the published network has them. One of W_out would fall out of the softmax.
        self.ask = nn.Linear(size, size)  # W_in
        self.answer = nn.Linear(size, size, bias=False)  # W_out
        self.infer = nn.Linear(size, size)  # W
        for linear in (self.ask, self.answer, self.infer):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, nodes: Tensor, graphs: Graphs, *, only_first: bool) -> Tensor:
        """-> (Bi, N, S), or (Bi, Bt, S) where only the first node of each graph is needed."""
        known = graphs.pad(nodes)  # (Bi, Bt, M, S)
        if only_first:
            gathered = self.edges(known, graphs) @ known
            return torch.relu(self.infer(gathered.squeeze(2)))
        weight, bias = self._map()
        asking = graphs.pad(functional.linear(nodes, weight, bias))  # (Bi, Bt, M, S)
        edges = masked_softmax(asking @ known.transpose(2, 3), graphs.mask[:, None, :])  # (Bi, Bt, M, M)
        return torch.relu(self.infer(graphs.unpad(edges @ known)))

    def edges(self, known: Tensor, graphs: Graphs) -> Tensor:
        """(Bi, Bt, M, S) -> (Bi, Bt, 1, M), those of the first node of each graph."""
        asking = functional.linear(known[:, :, :1], *self._map())  # (Bi, Bt, 1, S)
        return masked_softmax(asking @ known.transpose(2, 3), graphs.mask[:, None, :])

    def _map(self) -> tuple[Tensor, Tensor]:
        # (W_in x) . (W_out y) = (W_out^T W_in x) . y, which is one map a node instead of two.
        return self.answer.weight.T @ self.ask.weight, self.ask.bias @ self.answer.weight


class AttentionFiltration(nn.Module):
    """SAF: `sum_p b_p s_p` with `b = l1norm(sigmoid(BN(w . s)))`: words that tell nothing count for little.

    The published run takes the statistics of BN caption by caption. Here all nodes of the batch make them up.
    """

    def __init__(self, size: int, *, unit: bool) -> None:
        super().__init__()
        self.weigh = nn.Linear(size, 1, bias=False)  # BN would take a bias out again
        self.norm = MaskedBatchNorm()
        self.unit = unit
        nn.init.xavier_uniform_(self.weigh.weight)

    @torch.no_grad()
    def start_as_mean(self) -> None:
        """Begins as a weighted mean of the nodes. The one in which number 2 is large weighs many others."""
        self.weigh.weight.zero_()
        self.weigh.weight[0, 2] = 1
        self.norm.bias.fill_(-3.5)

    def forward(self, nodes: Tensor, graphs: Graphs) -> Tensor:
        """(Bi, N, S) -> (Bi, Bt, S), one vector a pair."""
        weights = self._weights(nodes)
        filtered = graphs.sum(weights * nodes) / graphs.sum(weights)
        return l2norm(filtered) if self.unit else filtered  # as the published network does; the print does not say so

    def _weights(self, nodes: Tensor) -> Tensor:
        """(Bi, N, S) -> (Bi, N, 1), before they are made to sum to one."""
        real = torch.ones((), dtype=torch.bool, device=nodes.device)  # end to end, there is no padding
        return torch.sigmoid(self.norm(self.weigh(nodes), real))

    def weights(self, nodes: Tensor, graphs: Graphs) -> Tensor:
        """(1, N, S) of one pair -> (N,) b of each node, summing to one."""
        found = self._weights(nodes)[0, :, 0]
        return found / found.sum()


class Matcher(nn.Module):
    """One member of SGRAF: "sgr" or "saf"."""

    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.has_global, self.has_local = config.alignment != "local", config.alignment != "global"
        self.regions = region_encoder(config.region_encoder, sizes.feature, config.embed)
        dropout = config.sgr_dropout if member == "sgr" else config.saf_dropout
        self.words = WordEncoder(sizes, config.words, word=config.word, embed=config.embed, dropout=dropout)
        self.words.start_apart()
        size, form = config.similarity, {"unit": config.unit_nodes, "bias": config.similarity_bias}
        if self.has_global:
            form_of: Pooling = "print" if config.pooling == "print" else "published"
            places = sizes.regions if config.pooling == "positions" else None
            self.image_pooling = MeanQueryPooling(config.embed, form=form_of, side="image", places=places)
            self.text_pooling = MeanQueryPooling(config.embed, form=form_of, side="text")
            self.global_similarity = SimilarityRepresentation("distance", config.embed, size, **form)
        self.graph: SimilarityReasoning | AttentionFiltration | None = None
        if self.has_local:  # the global node alone has nothing to gather and nothing to be weighed against
            self.local_similarity = SimilarityRepresentation("distance", config.embed, size, **form)
            self.graph = (
                SimilarityReasoning(size, config.steps)
                if member == "sgr"
                else AttentionFiltration(size, unit=config.unit_filtered)
            )
        self.predict = nn.Linear(size, 1)
        nn.init.xavier_uniform_(self.predict.weight)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):  # random ones would be a part that all nodes have in common
                nn.init.zeros_(parameter)
        if config.plain_start:
            self._start_as_plain_similarity()

    @torch.no_grad()
    def _start_as_plain_similarity(self) -> None:
        """Initial weights with which the score falls with the distance of mostly the global vectors.

        The first number of a similarity vector begins as the plain distance, the second as a constant to measure it by,
        the third marks the global node, which begins with about the weight of many words; the rest are random. All of
        it is learned from there.
        """
        if self.has_global:
            self.global_similarity.start_as_plain_similarity(mark=True)
        if self.has_local:
            self.local_similarity.start_as_plain_similarity(mark=False)
        if self.graph is not None:
            self.graph.start_as_mean()
        self.predict.weight[0, 0] = -4

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"nodes": (Bi, R, D), "mask": (Bi, R) bool, "gram": (Bi, R, R), "global": (Bi, D)}, last two as needed"""
        regions = self.regions(batch.features, batch.mask)
        encoded = self._with_global(regions, batch.mask, self.image_pooling if self.has_global else None)
        return encoded | {"gram": gram(regions)} if self.has_local and self.config.unit_nodes else encoded

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"nodes": (Bt, L, D), "mask": (Bt, L) bool, "global": (Bt, D) unless alignment is local}"""
        return self._with_global(self.words(batch), batch.mask, self.text_pooling if self.has_global else None)

    def _with_global(self, nodes: Tensor, mask: Tensor, pooling: MeanQueryPooling | None) -> Encoded:
        encoded = {"nodes": nodes, "mask": mask}
        if pooling is not None:
            pooled = pooling(nodes, mask)
            encoded["global"] = l2norm(pooled) if self.config.unit_nodes else pooled
        return encoded

    def apart(self) -> bool:
        """SAF normalises its weights over all pairs of a batch."""
        return not isinstance(self.graph, AttentionFiltration)

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt) scores in 0..1."""
        words = FlatWords.of(texts["nodes"], texts["mask"])
        graphs = Graphs(words, with_global=self.has_global)
        nodes = graphs.join(*self._similarities(images, texts, words))  # (Bi, N, S)
        if isinstance(self.graph, SimilarityReasoning):
            reason = partial(self.graph, graphs=graphs, with_global=self.has_global)
            pairs = in_blocks(reason, nodes, numbers=graphs.mask.numel() * nodes.shape[-1])
        elif isinstance(self.graph, AttentionFiltration):
            pairs = self.graph(nodes, graphs)
        else:
            pairs = nodes
        return score_of(self.predict, pairs)  # (Bi, Bt, S) -> (Bi, Bt)

    def explain(self, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        if not self.has_local:
            return {}
        words = FlatWords.of(texts["nodes"], texts["mask"])
        weights = attend_regions(images["nodes"], images["mask"], words, self.config.sharpness)
        graphs = Graphs(words, with_global=self.has_global)
        nodes = graphs.join(*self._similarities(images, texts, words))
        assert isinstance(self.graph, (SimilarityReasoning, AttentionFiltration))
        return {"words_to_regions": weights[0], "nodes": self.graph.weights(nodes, graphs)}

    def _similarities(self, images: Encoded, texts: Encoded, words: FlatWords) -> tuple[Tensor | None, Tensor | None]:
        """Every image with every text (Bi, Bt, S), and with every word (Bi, T, S)."""
        whole = local = None
        if self.has_global:
            sentences = texts["global"]

            def compare(image: Tensor) -> Tensor:
                return self.global_similarity(image[:, None], sentences)

            whole = in_blocks(compare, images["global"], numbers=sentences.numel())
        if self.has_local:
            compare_words = partial(local_similarities, self.local_similarity, sharpness=self.config.sharpness)
            local = torch.cat(compare_words(images, words))
        return whole, local

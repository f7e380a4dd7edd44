"""RCAR: Plug-and-Play Regulators for Image-Text Matching (Diao, Zhang, Liu, Ruan, Lu; TIP 2023).

Read top to bottom like section 3 of the paper. Cross attention finds for every query (a word, or a region) what it
means on the other side, its context; two regulators then correct what was found, step by step:

    cross attention      of queries and context, as SCAN's                     `attend`
    alignment vectors    `a = l2norm(W (q - c)^2 + b)` of a query and what it  `SimilarityRepresentation`
                         attends to, as SGRAF's
    RCR                  from them: which numbers of a query count in the      `CorrespondenceRegulator`
                         next attention, and how sharp it is
    RAR                  which of them count in the vector of the whole pair   `AggregationRegulator`
    cooperation          both, in turn                                         `Matcher._compare`

Two members share this code and no parameter: in `t2i` words are the queries and regions the context, in `i2t` regions
are the queries. Where the paper is silent, or the published network differs from the print, the reading is said beside
the line. Shape letters: see `itmkit.inputs`; but C contexts of K vectors, B sets of queries, N queries of all sets.
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
from itmkit.matchers.parts.attention import MAX_SHARPNESS, FlatWords, gram, unit_attention
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
from itmkit.matchers.parts.norms import l2norm, masked_softmax
from itmkit.matchers.parts.similarity import SimilarityRepresentation, score_of

SUMMARY = "RCAR: attention, and then pooling, corrected by what attention has found (which numbers count, how sharply)"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of RCAR. Defaults are those of the published runs."""

    embed: int = Field(default=1024, ge=1, le=65_536, description="D, size of the common space")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    words: Words = Field(default="gru", description="learned words, or frozen vectors with or without a GRU")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    tokens: Tokens = Field(default="parsed", description=TOKENS)
    images: str = Field(default="regions", description=IMAGES)
    region_encoder: Regions = Field(default="linear+mlp", description="of regions: a linear map, or an MLP beside it")
    similarity: int = Field(default=256, ge=2, le=65_536, description="S, size of an alignment vector")
    directions: Literal["both", "t2i", "i2t"] = Field(default="both", description="members")
    regulators: Literal["both", "rcr", "rar"] = Field(default="both", description="in turn, or only one of them")
    steps: int = Field(default=2, ge=1, le=100, description="times that they regulate")
    sharpness_t2i: float = Field(
        default=10.0, gt=0, le=MAX_SHARPNESS, description="lambda of a word's first attention over regions"
    )
    sharpness_i2t: float = Field(
        default=3.0, gt=0, le=MAX_SHARPNESS, description="lambda of a region's first attention over words"
    )
    dropout: float = Field(default=0.4, ge=0, lt=1, description="dropout on word vectors")
    rar_dropout: float = Field(default=0.4, ge=0, lt=1, description="dropout within RAR")


def needs(config: Config) -> Needs:
    return Needs(images=config.images, **word_needs(config.words, config.words_cache, config.tokens))


def members(config: Config) -> dict[str, float]:
    return {"t2i": 1.0, "i2t": 1.0} if config.directions == "both" else {config.directions: 1.0}


def problems(config: Config, training: Any) -> list[str]:
    return token_problems(config.words, config.tokens) + image_problems(config.images)


ABLATIONS: dict[str, dict[str, Any]] = {
    "RAR only": {"regulators": "rar"},
    "RCR only": {"regulators": "rcr"},
    "t2i only": {"directions": "t2i"},
    "i2t only": {"directions": "i2t"},
    "1 step": {"steps": 1},
    "3 steps": {"steps": 3},
}


def attend(queries: Tensor, contexts: Tensor, mask: Tensor, sharpness: Tensor | float, sets: Graphs) -> Tensor:
    """Weights of each query over the vectors of each context: SCAN's, with queries that may differ by context.

    Args:
        queries: (N, D), or (C, N, D); contexts: (C, K, D); mask: (C, K) bool.
        sharpness: of all, or (C, N, 1).

    Returns:
        (C, N, K), zero for what is missing, rows summing to one.
    """
    raised = functional.leaky_relu(queries @ contexts.transpose(1, 2), 0.1)
    # Each vector of a context is measured by all queries of a set.
    length = sets.sum(raised.square()).clamp_min(1e-16)  # (C, B, K)
    return masked_softmax(sets.scale(raised, length.rsqrt()) * sharpness, mask.unsqueeze(1))


class Tanh(nn.Module):
    """tanh; without gradients on a CPU in the place of its argument, as 2 sigmoid(2 x) - 1, in a third of the time."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return torch.tanh(x)
        return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class CorrespondenceRegulator(nn.Module):
    """RCR: from the alignment vector of a query, how it attends the next time."""

    def __init__(self, size: int, embed: int) -> None:
        super().__init__()
        self.gates = nn.Sequential(nn.Linear(size, 2 * size), Tanh(), nn.Linear(2 * size, embed), Tanh())
        self.sharpness = nn.Sequential(nn.Linear(size, size // 2), Tanh(), nn.Linear(size // 2, 1))

    def forward(self, aligned: Tensor, gates: Tensor | float, sharpness: Tensor | float) -> tuple[Tensor, Tensor]:
        """aligned (C, N, S) -> gates (C, N, D) from -1 to 1, sharpness (C, N, 1), changed from those there are."""
        change = self.gates(aligned)
        moved = (change + gates).clamp(-1, 1) if torch.is_grad_enabled() else change.add_(gates).clamp_(-1, 1)
        return moved, torch.relu(self.sharpness(aligned) + sharpness)


class AggregationRegulator(nn.Module):
    """RAR: the alignment vectors of a set, weighed by what the set has been taken for so far."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.key, self.query = nn.Linear(size, size), nn.Linear(size, size)
        self.weigh = nn.Linear(size, 1, bias=False)  # a bias would fall out of the softmax
        self.tanh, self.dropout = Tanh(), nn.Dropout(dropout)

    def forward(self, aligned: Tensor, whole: Tensor, sets: Graphs) -> tuple[Tensor, Tensor]:
        """aligned (C, N, S), whole (C, B, S) -> (C, B, S) of unit length, and weights (C, N), of a set with sum one."""
        keys = self.dropout(self.tanh(self.key(aligned)))
        asked = self.dropout(self.tanh(self.query(whole))) * self.weigh.weight  # (C, B, S)
        weights = sets.softmax(sets.scale(keys, asked).sum(dim=-1))
        return l2norm(sets.sum(weights.unsqueeze(-1) * aligned)), weights


class Matcher(nn.Module):
    """One member: words attend to regions ("t2i"), or regions to words ("i2t")."""

    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.member = config, member
        self.regions = region_encoder(config.region_encoder, sizes.feature, config.embed)
        self.words = WordEncoder(sizes, config.words, word=config.word, embed=config.embed, dropout=config.dropout)
        self.words.start_apart()
        size, steps = config.similarity, config.steps
        # Together the last step has no RCR, since no attention follows; RCR alone scores by one that follows.
        corrections = {"both": steps - 1, "rcr": steps, "rar": 0}[config.regulators]
        alignments = {"both": steps, "rcr": steps, "rar": 1}[config.regulators]
        self.alignments = nn.ModuleList(
            SimilarityRepresentation("distance", config.embed, size, unit=True, bias=True) for _ in range(alignments)
        )
        self.correspondence = nn.ModuleList(CorrespondenceRegulator(size, config.embed) for _ in range(corrections))
        if config.regulators != "rcr":
            self.aggregation = nn.ModuleList(AggregationRegulator(size, config.rar_dropout) for _ in range(steps))
            self.predict = nn.Linear(size, 1)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith(("regions", "words")):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"nodes": (Bi, R, D) unit length, "mask": (Bi, R) bool, for t2i "gram": (Bi, R, R)}"""
        return self._encoded(self.regions(batch.features, batch.mask), batch.mask, context=self.member == "t2i")

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"nodes": (Bt, L, D) unit length, "mask": (Bt, L) bool, for i2t "gram": (Bt, L, L)}"""
        return self._encoded(self.words(batch), batch.mask, context=self.member == "i2t")

    @staticmethod
    def _encoded(nodes: Tensor, mask: Tensor, *, context: bool) -> Encoded:
        encoded = {"nodes": nodes, "mask": mask}
        return encoded | {"gram": gram(nodes)} if context else encoded

    def apart(self) -> bool:
        """RAR's dropout is drawn pair by pair."""
        return not any(isinstance(part, AggregationRegulator) and part.dropout.p for part in self.modules())

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt), in 0..1; with RCR alone, means of cosines."""
        contexts, sets = self._roles(images, texts)
        parts = contexts["nodes"], contexts["mask"], contexts["gram"]
        # Three of D numbers a query: its gates, the gated query, what it attends to.
        found = in_blocks(partial(self._compare, sets=sets), *parts, numbers=3 * sets.words.vectors.numel())
        return found if self.member == "t2i" else found.T

    def explain(self, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        """The last attention; in t2i also what RAR weighs each word with at the end."""
        contexts, sets = self._roles(images, texts)
        attention, weights, _ = self._regulated(contexts["nodes"], contexts["mask"], contexts["gram"], sets)
        if self.member == "i2t":
            every = attention.new_zeros(images["mask"].shape[1], attention.shape[2])
            every[images["mask"][0]] = attention[0]
            return {"regions_to_words": every.T}
        found = {"words_to_regions": attention[0]}
        return found if weights is None else found | {"nodes": weights[0]}

    def _roles(self, images: Encoded, texts: Encoded) -> tuple[Encoded, Graphs]:
        """The contexts, and the sets of queries."""
        contexts, queries = (images, texts) if self.member == "t2i" else (texts, images)
        return contexts, Graphs(FlatWords.of(queries["nodes"], queries["mask"]), with_global=False)

    def _compare(self, contexts: Tensor, mask: Tensor, grams: Tensor, sets: Graphs) -> Tensor:
        """(C, K, D), (C, K) bool, (C, K, K) -> (C, B) scores."""
        attention, _, whole = self._regulated(contexts, mask, grams, sets)
        if self.config.regulators != "rcr":
            return score_of(self.predict, whole)
        cosine = sets.words.vectors @ contexts.transpose(1, 2)
        similar = (unit_attention(attention, grams) * cosine).sum(dim=-1, keepdim=True)  # (C, N, 1)
        return sets.mean(similar).squeeze(-1)

    def _regulated(
        self, contexts: Tensor, mask: Tensor, grams: Tensor, sets: Graphs
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """The last attention (C, N, K), RAR's last weights (C, N) and the vector of each pair (C, B, S)."""
        queries, gates, weights = sets.words.vectors, 1.0, None
        sharpness = self.config.sharpness_t2i if self.member == "t2i" else self.config.sharpness_i2t
        attention = attend(queries, contexts, mask, sharpness, sets)
        aligned = self._aligned(0, attention, contexts, grams, queries)
        whole = sets.mean(aligned)
        for step in range(self.config.steps):
            if self.config.regulators != "rcr":
                whole, weights = self.aggregation[step](aligned, whole, sets)
            if step < len(self.correspondence):  # from the same alignment vectors as RAR
                gates, sharpness = self.correspondence[step](aligned, gates, sharpness)
                attention = attend(queries * gates, contexts, mask, sharpness, sets)
            if step + 1 < len(self.alignments):
                aligned = self._aligned(step + 1, attention, contexts, grams, queries)
        return attention, weights, whole

    def _aligned(self, step: int, attention: Tensor, contexts: Tensor, grams: Tensor, queries: Tensor) -> Tensor:
        """(C, N, S): every query beside what it attends to, of unit length."""
        compare = self.alignments[step]
        assert isinstance(compare, SimilarityRepresentation)
        return compare.attended(unit_attention(attention, grams), contexts, queries)

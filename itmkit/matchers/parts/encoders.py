"""What the caches hold, into vectors that learn: regions and words of D numbers, pooled vectors of their own size."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from itmkit.cache.name import PIECES_TEXT, SCAN_TEXT, vectors_cache, words_cache
from itmkit.inputs.batch import ImageBatch, Sizes, TextBatch
from itmkit.matchers.parts.bert import Bert
from itmkit.matchers.parts.norms import MaskedBatchNorm, l2norm
from itmkit.matchers.parts.recurrent import both_directions

Words = Literal["gru", "bert+gru", "bert"]
WordsOrBert = Literal["gru", "bert+gru", "bert", "own-bert"]
WORDS = (  # of methods that may have a BERT of their own
    "learned words; frozen vectors with or without a GRU; own-bert: the BERT of published weights (import-checkpoint)"
)
Tokens = Literal["parsed", "scan"]  # of a parser of `itmkit parse-text`, or those of published code
TOKENS = "words of parse-text, or of published code with `<start>` and `<end>` (parse-text --parser scan)"
Regions = Literal["linear", "linear+mlp"]
ClassVectors = Literal["none", "text", "image", "both"]  # whose stored [CLS] vectors are read


def word_needs(kind: WordsOrBert, cache: str, tokens: Tokens = "parsed") -> dict[str, Any]:
    """What `WordEncoder` reads, as arguments of `Needs`."""
    if kind == "own-bert":
        return {"words": True, "text": PIECES_TEXT}
    vectors = None if kind == "gru" else words_cache(cache, "texts")
    return {"words": kind == "gru", "vectors": vectors, "text": SCAN_TEXT if tokens == "scan" else "text"}


def token_problems(kind: WordsOrBert, tokens: Tokens) -> list[str]:
    if tokens == "scan" and kind == "own-bert":
        return ["--tokens scan: BERT reads its own pieces of words; with --words own-bert, --tokens parsed"]
    if tokens == "scan" and kind != "gru":
        return [f"--tokens scan: frozen vectors are of the words of parse-text; with --words {kind}, --tokens parsed"]
    return []


def class_needs(kind: ClassVectors, cache: str) -> dict[str, Any]:
    """What reads the [CLS] vectors that the caches of words and patches hold, as arguments of `Needs`."""
    return {
        "whole": kind in ("image", "both"),
        "sentence": words_cache(cache, "texts") if kind in ("text", "both") else None,
    }


def class_problems(kind: ClassVectors, images: str) -> list[str]:
    if kind in ("image", "both") and images == "regions":
        return [f"--class-vectors {kind}: regions have no [CLS]; train with --images patches, or --class-vectors text"]
    return []


def vector_needs(cache: str, images: str) -> dict[str, Any]:
    """What reads one pooled vector a picture and one a caption, as arguments of `Needs`.

    Args:
        cache: the name in vectors-NAME; of captions, and of pictures where `images` names no cache of vectors.
        images: vectors-NAME, the cache of pictures, and of captions where `cache` is left open.
    """
    pictures = images.removeprefix("vectors-") if images.startswith("vectors-") else cache
    return {
        "images": vectors_cache(pictures, "images"),
        "vectors": vectors_cache(cache or pictures, "texts"),
        "words": False,
    }


class RegionEncoder(nn.Module):
    """Linear(F -> D), L2-normalised (methods: "region encoder")."""

    def __init__(self, feature_size: int, embed: int, *, unit: bool = True) -> None:
        super().__init__()
        self.project = nn.Linear(feature_size, embed)
        self.unit = unit
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (Bi, R, F), mask (Bi, R) -> (Bi, R, D); rows of missing regions are zero."""
        regions = self.project(features)
        if self.unit:
            regions = l2norm(regions)
        return regions * mask.unsqueeze(-1)


class ResidualRegionEncoder(nn.Module):
    """`W x + MLP(x)`, the MLP with D/2 hidden numbers and batch normalisation: the region encoder since VSE-infinity.

    In the published code rows of padding take part in the statistics once regions are dropped; here they do not.
    """

    def __init__(self, feature_size: int, embed: int, *, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit
        self.project = nn.Linear(feature_size, embed)
        hidden = max(1, embed // 2)
        self.enter = nn.Linear(feature_size, hidden, bias=False)  # the norm would take a bias out again
        self.norm = MaskedBatchNorm(hidden)
        self.leave = nn.Linear(hidden, embed, bias=False)  # `project` has one
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (Bi, R, F), mask (Bi, R) -> (Bi, R, D); rows of missing regions are zero."""
        hidden = torch.relu(self.norm(self.enter(features), mask.unsqueeze(-1)))
        regions = self.project(features) + self.leave(hidden)
        if self.unit:
            regions = l2norm(regions)
        return regions * mask.unsqueeze(-1)


def region_encoder(kind: Regions, feature_size: int, embed: int, *, unit: bool = True) -> nn.Module:
    """A module (features (Bi, R, F), mask (Bi, R)) -> (Bi, R, D): a linear map, or one with an MLP beside it."""
    encoder = RegionEncoder if kind == "linear" else ResidualRegionEncoder
    return encoder(feature_size, embed, unit=unit)


class WordEncoder(nn.Module):
    """Words of D numbers, L2-normalised. By `kind`:

    "gru"       a learned embedding -> dropout -> bidirectional GRU, mean of the directions
    "bert+gru"  frozen word vectors -> Linear(V -> word) -> dropout -> the same GRU (GLFN eqs 15-27); without the linear
                map where `compress` is false
    "bert"      frozen word vectors -> dropout -> Linear(V -> D)
    "own-bert"  word pieces -> a BERT that is part of the matcher -> dropout -> Linear(V -> D)
    """

    def __init__(
        self,
        sizes: Sizes,
        kind: WordsOrBert,
        *,
        word: int,
        embed: int,
        dropout: float = 0.0,
        unit: bool = True,
        compress: bool = True,
    ) -> None:
        super().__init__()
        self.kind, self.unit = kind, unit
        self.dropout = nn.Dropout(dropout)
        if kind == "own-bert":
            self.bert = Bert(sizes)
        if kind == "gru":
            self.embedding = nn.Embedding(sizes.vocabulary, word, padding_idx=0)
        elif kind == "bert+gru" and not compress:
            self.reduce: nn.Module = nn.Identity()
            word = sizes.word_vector
        else:
            width = sizes.bert_width if kind == "own-bert" else sizes.word_vector
            self.reduce = nn.Linear(width, word if kind == "bert+gru" else embed)
            nn.init.xavier_uniform_(self.reduce.weight)
            nn.init.zeros_(self.reduce.bias)
        if kind in ("gru", "bert+gru"):
            self.gru = nn.GRU(word, embed, batch_first=True, bidirectional=True)
        if kind == "gru":
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
            with torch.no_grad():
                self.embedding.weight[0].zero_()

    @torch.no_grad()
    def start_apart(self) -> None:
        """Initial weights with which words begin different from each other.

        With PyTorch's random biases every word begins with one large common part: different words have a cosine of
        0.95, cross attention sees no difference between them and stays uniform.
        """
        for name, parameter in self.named_parameters():
            if "bias" in name:
                parameter.zero_()
        if self.kind == "gru":
            self.embedding.weight.mul_(3)

    def forward(self, batch: TextBatch) -> Tensor:
        """-> (Bt, L, D); rows of padding are zero."""
        if self.kind in ("bert", "own-bert"):
            tokens = self.bert(batch.words, batch.mask) if self.kind == "own-bert" else batch.vectors
            vectors = self.reduce(self.dropout(tokens))
        else:
            vectors = both_directions(self.gru, self.dropout(self._inputs(batch)), batch.mask)
        if self.unit:
            vectors = l2norm(vectors)
        return vectors * batch.mask.unsqueeze(-1)

    def _inputs(self, batch: TextBatch) -> Tensor:
        if self.kind == "gru":
            assert batch.words is not None
            return self.embedding(batch.words)  # type: ignore[no-any-return]
        assert batch.vectors is not None
        return self.reduce(batch.vectors)  # type: ignore[no-any-return]


class ResidualMLPs(nn.Module):
    """A pooled vector through MLPs that add to it.

    It begins as the vector itself, so that training starts from what the vision-language model knows.
    """

    def __init__(self, size: int, *, hidden: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(size),
                nn.Linear(size, hidden),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, size),
            )
            for _ in range(blocks)
        )
        for block in self.blocks:
            nn.init.zeros_(block[-1].weight)  # type: ignore[index, arg-type]
            nn.init.zeros_(block[-1].bias)  # type: ignore[index, arg-type]

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """vectors (B, 1, V), mask (B, 1) -> (B, V), unit length."""
        # Numbers of about one, beside which the first steps of the MLPs are small.
        x = l2norm(vectors[:, 0] * mask[:, :1]) * math.sqrt(vectors.shape[-1])
        for block in self.blocks:
            x = x + block(x)
        return l2norm(x)


def led(tokens: Tensor, mask: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """(B', 1 + N, V), (B', 1 + N): the vectors `first` (B, V) before the tokens; B' is B, or 2 B views."""
    assert first is not None
    first = first.repeat(len(tokens) // len(first), 1)
    return torch.cat([first[:, None], tokens], dim=1), functional.pad(mask, (1, 0), value=True)


def most_attended(batch: ImageBatch, count: int) -> tuple[Tensor, Tensor]:
    """Features (Bi, count, F) and mask (Bi, count) of the patches [CLS] attends to most; of equals the first."""
    assert batch.attention is not None
    order = batch.attention.masked_fill(~batch.mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    kept = order[:, :count]  # real patches come before missing ones
    return batch.features.take_along_dim(kept.unsqueeze(-1), dim=1), batch.mask.take_along_dim(kept, dim=1)

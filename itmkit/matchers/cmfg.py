"""CMFG: Attention-Guided Multimodal Graph Networks for Cross-Modal Image-Text Matching (Mounika, Yadav).

One graph per image-text pair. Its nodes are the patches of the image and the words of the text, and every node is
linked with every other one, of its own modality and of the other. Section 3 of the paper, whose equations have no
numbers:

    e_uv = softmax_v(Q_u . K_v / sqrt(d_k)),  Q_u = W_Q h_u,  K_v = W_K h_v,  v != u     `Layer.edges`
    h_u <- ReLU(sum_v e_uv W^k h_v)                                     k = 1..K         `Layer.forward`

The paper stops at the nodes of the last layer, H_I and H_T. Readings: each side is pooled by its mean, the score is
the cosine of the two, the loss the triplet loss. The others are said beside their line.

Scoring follows the same two lines in the order that costs least:

    `_encode`   what the first layer can do without a partner: queries, keys, values, and within a modality the messages
    `_pairs`    the rest of the first layer and all later ones, a block of images x texts at a time

Shape letters: see `itmkit.inputs`. N stands for R or L where a line serves both modalities, or for both together.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from itmkit.inputs import ImageBatch, Needs, Sizes, TextBatch
from itmkit.matchers import Encoded
from itmkit.matchers.parts.blocks import computed_again, numbers_kept, numbers_of_a_block
from itmkit.matchers.parts.encoders import RegionEncoder, WordEncoder, Words, word_needs
from itmkit.matchers.parts.norms import barrier, l2norm, masked_softmax
from itmkit.matchers.parts.pooling import masked_mean
from itmkit.workspace import named

TENSORS = 5  # times as much as other methods keep of each number for gradients: the nodes change in every layer


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of CMFG. The paper gives no sizes and no ablations: numbers and switches are itmkit's."""

    images: str = Field(default="patches", description="cache of image vectors: patches, or regions")
    image_nodes: int = Field(default=0, ge=0, description="patches kept, those [CLS] attends to most; 0 = all")
    embed: int = Field(default=512, ge=1, description="d, size of a node")
    query: int = Field(default=64, ge=1, description="d_k, size of a query and of a key")
    words: Words = Field(default="bert", description="learned words, or frozen vectors with or without a GRU")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    word: int = Field(default=300, ge=1, description="size of a word vector that the GRU reads")
    layers: int = Field(default=2, ge=0, description="K, layers of message passing; 0 = without the graph")
    edges: Literal["both", "intra", "cross"] = Field(
        default="both", description="edges within a modality and across, or only one kind"
    )
    renew_edges: bool = Field(default=True, description="edges computed in each layer, or once from the first nodes")
    residual: bool = Field(default=True, description="a node is added to what it receives (a reading)")
    unit_nodes: bool = Field(default=True, description="nodes begin with unit length (a reading)")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on word vectors")


def needs(config: Config) -> Needs:
    words = word_needs(config.words, config.words_cache)
    return Needs(images=config.images, attention=config.image_nodes > 0, **words)


def members(config: Config) -> dict[str, float]:
    return {"graph": 1.0}


ABLATIONS: dict[str, dict[str, Any]] = {  # the paper has none
    "without the graph": {"layers": 0},
    "1 layer": {"layers": 1},
    "edges within a modality": {"edges": "intra"},
    "edges across": {"edges": "cross"},
    "edges computed once": {"renew_edges": False},
    "without residual": {"residual": False},
}


def problems(config: Config, training: Any) -> list[str]:
    if config.images == "regions" or named(config.images):
        return []
    return [f"setting 'images' = {config.images!r}: neither regions nor a name of a cache of extract-patches"]


class Layer(nn.Module):
    """Message passing from the nodes v (sources) to the nodes u (targets)."""

    def __init__(self, embed: int, query: int, *, attends: bool) -> None:
        super().__init__()
        self.spread = nn.Linear(embed, embed, bias=False)  # W^k
        self.attends = attends
        if attends:
            self.query = nn.Linear(embed, query, bias=False)  # W_Q
            self.key = nn.Linear(embed, query, bias=False)  # W_K
            self._start_as_likeness()

    @torch.no_grad()
    def _start_as_likeness(self) -> None:
        """Edges begin as a softmax of sqrt(d_k) h_u . h_v (the paper does not say how they begin).

        Random queries and keys of unit vectors give logits near 0 and all edges the same weight, so that every node
        receives the same message.
        """
        nn.init.normal_(self.key.weight)
        self.query.weight.copy_(self.key.weight)

    def queries(self, nodes: Tensor) -> Tensor:
        """W_Q h_u / sqrt(d_k)"""
        return self.query(nodes) / math.sqrt(self.query.out_features)

    def edges(self, targets: Tensor, sources: Tensor, allowed: Tensor) -> Tensor:
        """e_uv from targets (..., U, D), sources (..., V, D), allowed (..., U, V) bool; zero where none is allowed."""
        return masked_softmax(self.queries(targets) @ self.key(sources).transpose(-1, -2), allowed)

    def forward(self, edges: Tensor, sources: Tensor) -> Tensor:
        """Messages ReLU(sum_v e_uv W h_v) (..., U, D) from edges (..., U, V), sources (..., V, D)."""
        # W may come before or after the sum: where there are fewer vectors to multiply.
        if sources.shape[-2] < edges.shape[-2]:
            return torch.relu(edges @ self.spread(sources))
        return torch.relu(self.spread(edges @ sources))


class Matcher(nn.Module):
    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.regions = RegionEncoder(sizes.feature, config.embed, unit=config.unit_nodes)
        form = {"word": config.word, "embed": config.embed, "dropout": config.dropout, "unit": config.unit_nodes}
        self.words = WordEncoder(sizes, config.words, **form)  # type: ignore[arg-type]
        # The print writes W^k, but W_Q, W_K and e_uv without a k, after which "features of each node are updated".
        # Edges of the layer's own nodes is the reading; renew_edges = False takes the print by the letter.
        self.layers = nn.ModuleList(
            Layer(config.embed, config.query, attends=config.renew_edges or layer == 0)
            for layer in range(config.layers)
        )
        # Without edges across, or without layers, an image is one vector whatever text it is compared with.
        self.pairwise = config.layers > 0 and config.edges != "intra"
        self.keeps_edges = config.layers > 1 and not config.renew_edges

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"vector": (Bi, D)}, or with edges across the dictionary of `_encode`."""
        features, mask = batch.features, batch.mask
        if self.config.image_nodes:
            features, mask = most_attended(batch, self.config.image_nodes)
        return self._encode(self.regions(features, mask), mask)

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"vector": (Bt, D)}, or with edges across the dictionary of `_encode`."""
        return self._encode(self.words(batch), batch.mask)

    def _encode(self, nodes: Tensor, mask: Tensor) -> Encoded:
        """nodes (B, N, D), mask (B, N) bool -> what the graph of any pair needs of this side, of the first layer:

        "nodes" and "value" (B, N, D), "query" and "key" (B, N, d_k), "mask"; and with edges within the modality
        "message" (B, N, D) along them, as if there were no other nodes, "total" (B, N, 1), the logarithm of the sum in
        their softmax, and, where later layers keep the edges, "within" (B, N, N), their weights.
        """
        if not self.pairwise:
            return {"vector": l2norm(self._alone(nodes, mask))}
        first: Layer = self.layers[0]  # type: ignore[assignment]
        encoded = {"nodes": nodes, "mask": mask, "value": first.spread(nodes)}
        encoded |= {"query": first.queries(nodes), "key": first.key(nodes)}
        if self.config.edges == "both":
            logits = encoded["query"] @ encoded["key"].transpose(1, 2)
            within, total = softmax_and_total(logits, others(mask))
            encoded |= {"total": total, "message": within @ encoded["value"]}
            if self.keeps_edges:
                encoded["within"] = within
        return encoded

    def _alone(self, nodes: Tensor, mask: Tensor) -> Tensor:
        """The whole graph of one modality, pooled: nodes (B, N, D), mask (B, N) -> (B, D)."""
        for layer in self.layers:
            if layer.attends:
                edges = layer.edges(nodes, nodes, others(mask))  # type: ignore[operator]
            messages = layer(edges, nodes)
            nodes = nodes + messages if self.config.residual else messages
        return masked_mean(nodes, mask)

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt) cosines of the two sides of each pair's graph.

        A D-vector per pair and node is what costs memory. Blocks keep it inside the processor's caches; a large
        training batch computes its blocks again in the backward pass instead of keeping them. A block is
        padded to its own longest image and text, so that no time goes into padding.
        """
        if not self.pairwise:
            return images["vector"] @ texts["vector"].T
        numbers = (images["nodes"].shape[1] + texts["nodes"].shape[1]) * self.config.embed  # of a pair
        count = max(1, numbers_of_a_block(images["nodes"].device) // numbers)  # pairs of a block
        size = min(len(images["mask"]), math.isqrt(count))
        every = len(images["mask"]) * len(texts["mask"]) * numbers
        again = torch.is_grad_enabled() and every * TENSORS > numbers_kept(images["nodes"].device)
        image_order, image_blocks = blocks(images, size)
        text_order, text_blocks = blocks(texts, count // size)
        rows = []
        for image in image_blocks:
            if again:
                row = [computed_again(self._pairs, image, text) for text in text_blocks]
            else:
                row = [self._pairs(image, text) for text in text_blocks]
            rows.append(torch.cat(row, dim=1))
        return torch.cat(rows)[image_order.argsort()][:, text_order.argsort()]

    def _pairs(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt) scores of a block, the graph of each pair passed through all layers."""
        both = self.config.edges == "both"
        masks = [images["mask"][:, None], texts["mask"][None]]  # (Bi, 1, R), (1, Bt, L)
        nodes = [images["nodes"][:, None], texts["nodes"][None]]  # of a side, the same whatever the other is
        image_messages, image_edges = self._first(images, texts)
        text_messages, text_edges = (x.transpose(0, 1) for x in self._first(texts, images))
        messages = [image_messages, text_messages]  # (Bi, Bt, R, D), (Bi, Bt, L, D)
        edges = [image_edges, text_edges]
        if both and self.keeps_edges:  # of one graph, in which a text's own nodes come last
            edges = [torch.cat([image_edges, text_edges.roll(nodes[0].shape[2], dims=3)], dim=2)]
        # Later layers see one graph of N = R + L nodes, or, with edges across only, two sides that are each other's
        # sources: `nodes` has one member or two, and reversed it holds the sources of each.
        for number, layer in enumerate(self.layers[1:]):
            nodes = self._after(nodes, messages)
            if both and number == 0:
                nodes = [torch.cat(nodes, dim=2)]
            if layer.attends:
                links = zip(nodes, nodes[::-1], _allowed(masks, both=both), strict=True)
                edges = [layer.edges(*link) for link in links]  # type: ignore[operator]
            messages = [layer(*each) for each in zip(edges, nodes[::-1], strict=True)]
        image, text = _means(messages, masks)
        if self.config.residual:  # the mean of a sum, without forming the sum
            image, text = (x + y for x, y in zip((image, text), _means(nodes, masks), strict=True))
        return (l2norm(image) * l2norm(text)).sum(dim=-1)

    def _after(self, nodes: list[Tensor], messages: list[Tensor]) -> list[Tensor]:
        """The nodes of the next layer."""
        return [x + y for x, y in zip(nodes, messages, strict=True)] if self.config.residual else messages

    def _first(self, mine: Encoded, other: Encoded) -> tuple[Tensor, Tensor]:
        """The first layer: messages (A, B, N, D) to A images or texts from their own nodes and from B texts or images.

        The softmax over both sides is a softmax over each, of which a side's own nodes have `share`. The second
        result is the edges, from the M nodes of the other side (A, B, N, M); where later layers keep them, those from
        the own nodes come before (A, B, N, N + M).
        """
        logits = torch.einsum("and,bmd->abnm", mine["query"], other["key"])
        across, total = softmax_and_total(logits, other["mask"][:, None])
        if self.config.edges == "cross":
            return torch.relu(torch.einsum("abnm,bmd->abnd", across, other["value"])), across
        share = torch.sigmoid(mine["total"][:, None] - total)  # (A, B, N, 1)
        across = across * (1 - share)
        messages = torch.einsum("abnm,bmd->abnd", across, other["value"])
        messages = torch.relu(torch.addcmul(messages, share, mine["message"][:, None]))
        return messages, torch.cat([share * mine["within"][:, None], across], dim=3) if self.keeps_edges else across


def others(mask: Tensor) -> Tensor:
    """mask (..., N) -> (..., N, N), true where v is a real node and not u itself."""
    return mask.unsqueeze(-2) & ~torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)


def softmax_and_total(logits: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """`masked_softmax` (..., U, V) and the logarithm of the sum it divides by (..., U, 1).

    Where nothing is allowed the weights are 0 and the logarithm is about half the least number there is.
    """
    barred = logits + barrier(allowed, logits.dtype)
    return barred.softmax(dim=-1) * allowed, barred.logsumexp(dim=-1, keepdim=True)


def most_attended(batch: ImageBatch, count: int) -> tuple[Tensor, Tensor]:
    """Features (Bi, count, F) and mask (Bi, count) of the patches [CLS] attends to most; of equals the first."""
    assert batch.attention is not None
    order = batch.attention.masked_fill(~batch.mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    kept = order[:, :count]  # real patches come before missing ones
    return batch.features.take_along_dim(kept.unsqueeze(-1), dim=1), batch.mask.take_along_dim(kept, dim=1)


def blocks(encoded: Encoded, size: int) -> tuple[Tensor, list[Encoded]]:
    """The order by number of nodes, and blocks of `size` images or texts in it, each padded to its own longest."""
    mask = encoded["mask"]  # (B, N)
    lengths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(dim=1)  # up to the last real node
    order = lengths.argsort(stable=True)
    sorted_lengths = lengths[order].tolist()
    found = []
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        longest = max(1, sorted_lengths[start + len(rows) - 1])
        block = {name: value[rows, :longest] for name, value in encoded.items()}
        if "within" in block:
            block["within"] = block["within"][..., :longest]
        found.append(block)
    return order, found


def _allowed(masks: list[Tensor], *, both: bool) -> list[Tensor]:
    """Which edges there are among the nodes of a pair: (Bi, Bt, N, N) of one graph, or those from each side's other."""
    image, text = masks
    if not both:
        return [text.unsqueeze(2), image.unsqueeze(2)]
    every = torch.cat([image.expand(-1, text.shape[1], -1), text.expand(len(image), -1, -1)], dim=2)  # (Bi, Bt, N)
    return [others(every)]


def _means(nodes: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
    """The mean of the image's and of the text's nodes, (Bi, Bt, D) each, from one graph or two sides."""
    if len(nodes) == 1:
        regions = masks[0].shape[2]
        nodes = [nodes[0][:, :, :regions], nodes[0][:, :, regions:]]
    real = [mask.to(nodes[0].dtype) for mask in masks]
    weights = [(mask / mask.sum(dim=2, keepdim=True).clamp_min(1)).unsqueeze(2) for mask in real]
    return [(weight @ side).squeeze(2) for weight, side in zip(weights, nodes, strict=True)]

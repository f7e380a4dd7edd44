"""CMFG: Attention-Guided Multimodal Graph Networks for Cross-Modal Image-Text Matching (Mounika, Yadav).

One graph per image-text pair. Its nodes are the patches of the image and the words of the text, and every node is
linked with every other one, of its own modality and of the other. Section 3 of the paper, whose equations have no
numbers:

    e_uv = softmax_v(Q_u . K_v / sqrt(d_k)),  Q_u = W_Q h_u,  K_v = W_K h_v,  v != u     `Layer.logits`, `_softmax`
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
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded
from itmkit.matchers.parts.blocks import blocks_by_length, computed_again, numbers_kept, numbers_of_a_block
from itmkit.matchers.parts.encoders import Regions, WordEncoder, Words, most_attended, region_encoder, word_needs
from itmkit.matchers.parts.norms import barrier, l2norm, masked_softmax
from itmkit.matchers.parts.pooling import masked_mean

TENSORS = 5  # times as much as other methods keep of each number for gradients: the nodes change in every layer
SUMMARY = "one graph of the patches and words of a pair, with edges within and across"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of CMFG. The paper gives no sizes and no ablations: numbers and switches are itmkit's."""

    images: str = Field(default="patches", description=IMAGES)
    image_nodes: int = Field(
        default=0, ge=0, le=65_536, description="patches kept, those [CLS] attends to most; 0 = all"
    )
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    embed: int = Field(default=512, ge=1, le=65_536, description="d, size of a node")
    query: int = Field(default=64, ge=1, le=65_536, description="d_k, size of a query and of a key")
    words: Words = Field(default="bert", description="learned words, or frozen vectors with or without a GRU")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    layers: int = Field(default=2, ge=0, le=10_000, description="K, layers of message passing; 0 = without the graph")
    edges: Literal["both", "intra", "cross"] = Field(
        default="both", description="edges within a modality and across, or only one kind"
    )
    softmax: Literal["joint", "apart"] = Field(
        default="joint", description="of the edges: one over all neighbours, or one over each modality, halved"
    )
    renew_edges: bool = Field(default=True, description="edges computed in each layer, or once from the first nodes")
    residual: bool = Field(default=True, description="a node is added to what it receives (a reading)")
    unit_nodes: bool = Field(default=True, description="nodes begin with unit length (a reading)")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on word vectors")


def needs(config: Config) -> Needs:
    return Needs(images=config.images, attention=config.image_nodes > 0, **word_needs(config.words, config.words_cache))


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
    return image_problems(config.images)


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
        return masked_softmax(self.logits(targets, sources), allowed)

    def logits(self, targets: Tensor, sources: Tensor) -> Tensor:
        """Q_u . K_v / sqrt(d_k) (..., U, V) from targets (..., U, D), sources (..., V, D)."""
        return self.queries(targets) @ self.key(sources).transpose(-1, -2)

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
        self.regions = region_encoder(config.region_encoder, sizes.feature, config.embed, unit=config.unit_nodes)
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
        "message" (B, N, D) along them, as if there were no other nodes, "total" (B, N, 1), the logarithm of what their
        softmax weighs beside that across, and, where later layers keep the edges, "within" (B, N, N), their weights.
        """
        if not self.pairwise:
            return {"vector": l2norm(self._alone(nodes, mask))}
        first: Layer = self.layers[0]  # type: ignore[assignment]
        encoded = {"nodes": nodes, "mask": mask, "value": first.spread(nodes)}
        encoded |= {"query": first.queries(nodes), "key": first.key(nodes)}
        if self.config.edges == "both":
            logits = encoded["query"] @ encoded["key"].transpose(1, 2)
            within, total = self._softmax(logits, others(mask))
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

    def explain(self, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        """Figure 2: the edges across of the first layer, of what each node hears from the other side."""
        if not self.pairwise or self.config.image_nodes:  # chosen patches are not told from the others any more
            return {}
        to_words = self._across(texts, images)  # (L, R)
        return {"words_to_regions": to_words, "regions_to_words": self._across(images, texts).T * images["mask"]}

    def _across(self, mine: Encoded, other: Encoded) -> Tensor:
        """(N, M) of the first of each, every row made to sum to one."""
        edges = self._first(mine, other)[1][0, 0][:, -other["nodes"].shape[1] :]
        return edges / edges.sum(dim=-1, keepdim=True).clamp_min(1e-12)

    def apart(self) -> bool:
        """Each pair has a graph of its own."""
        return self.pairwise

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
        image_order, image_blocks = blocks_by_length(images, size, square="within")
        text_order, text_blocks = blocks_by_length(texts, count // size, square="within")
        compare = partial(computed_again, self._pairs) if again else self._pairs
        rows = [torch.cat([compare(image, text) for text in text_blocks], dim=1) for image in image_blocks]
        return torch.cat(rows)[image_order.argsort()][:, text_order.argsort()]

    def _pairs(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt) scores of a block, the graph of each pair passed through all layers."""
        image, text = images["nodes"][:, None], texts["nodes"][None]  # the same whatever the other side is
        image_mask, text_mask = images["mask"][:, None], texts["mask"][None]  # (Bi, 1, R), (1, Bt, L)
        to_image, image_edges = self._first(images, texts)  # (Bi, Bt, R, D), ...
        to_text, text_edges = (x.transpose(0, 1) for x in self._first(texts, images))
        later: Sequence[Layer] = self.layers[1:]  # type: ignore[assignment]
        if self.config.edges == "cross":  # two sides, each of which hears the other alone
            for layer in later:
                image, text = self._after(image, to_image), self._after(text, to_text)
                if layer.attends:
                    image_edges = layer.edges(image, text, text_mask.unsqueeze(2))
                    text_edges = layer.edges(text, image, image_mask.unsqueeze(2))
                to_image, to_text = layer(image_edges, text), layer(text_edges, image)
        elif later:  # one graph of N = R + L nodes, those of the image first
            regions, words = image.shape[2], text.shape[2]
            nodes = torch.cat([image.expand_as(to_image), text.expand_as(to_text)], dim=2)  # (Bi, Bt, N, D)
            messages = torch.cat([to_image, to_text], dim=2)
            mask = torch.cat([image_mask.expand(-1, text.shape[1], -1), text_mask.expand(len(image), -1, -1)], dim=2)
            allowed = others(mask)  # (Bi, Bt, N, N)
            if self.keeps_edges:
                own, across = text_edges[..., :words], text_edges[..., words:]
                edges = torch.cat([image_edges, torch.cat([across, own], dim=3)], dim=2)
            for layer in later:
                nodes = self._after(nodes, messages)
                if layer.attends:
                    edges = self._edges(layer, nodes, allowed, regions)
                messages = layer(edges, nodes)
            image, text = nodes[:, :, :regions], nodes[:, :, regions:]
            to_image, to_text = messages[:, :, :regions], messages[:, :, regions:]
        image, text = self._mean(image, to_image, image_mask), self._mean(text, to_text, text_mask)
        return (l2norm(image) * l2norm(text)).sum(dim=-1)

    def _first(self, mine: Encoded, other: Encoded) -> tuple[Tensor, Tensor]:
        """The first layer: messages (A, B, N, D) to A images or texts from their own nodes and from B texts or images.

        One softmax over both sides is a softmax over each, of which a side's own nodes have `share`: their part of the
        sum, or, with a softmax for each side, half. The second result is the edges, from the M nodes of the other side
        (A, B, N, M); where later layers keep them, those from the own nodes come before (A, B, N, N + M).
        """
        logits = torch.einsum("and,bmd->abnm", mine["query"], other["key"])
        across, total = self._softmax(logits, other["mask"][:, None])
        if self.config.edges == "cross":
            return torch.relu(torch.einsum("abnm,bmd->abnd", across, other["value"])), across
        share = torch.sigmoid(mine["total"][:, None] - total)  # (A, B, N, 1)
        across = across * (1 - share)
        messages = torch.einsum("abnm,bmd->abnd", across, other["value"])
        messages = torch.relu(torch.addcmul(messages, share, mine["message"][:, None]))
        return messages, torch.cat([share * mine["within"][:, None], across], dim=3) if self.keeps_edges else across

    def _softmax(self, logits: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """The softmax over one side, and the logarithm of its weight beside the other: the sum it divides by, or 1.

        Where nothing is allowed the weights are 0 and the logarithm is about half the least number there is.
        """
        barred = logits + barrier(allowed, logits.dtype)
        weights = barred.softmax(dim=-1) * allowed
        if self.config.softmax == "apart":
            return weights, barrier(allowed.any(dim=-1, keepdim=True), logits.dtype)
        return weights, barred.logsumexp(dim=-1, keepdim=True)

    def _edges(self, layer: Layer, nodes: Tensor, allowed: Tensor, regions: int) -> Tensor:
        """The edges of a later layer: nodes (Bi, Bt, N, D), allowed (Bi, Bt, N, N) -> (Bi, Bt, N, N)."""
        logits = layer.logits(nodes, nodes)
        if self.config.softmax == "joint":
            return masked_softmax(logits, allowed)
        from_image = masked_softmax(logits[..., :regions], allowed[..., :regions])
        from_text = masked_softmax(logits[..., regions:], allowed[..., regions:])
        sides = allowed[..., :regions].any(dim=-1, keepdim=True).int() + allowed[..., regions:].any(
            dim=-1, keepdim=True
        )
        return torch.cat([from_image, from_text], dim=-1) / sides.clamp_min(1)  # rows sum to 1

    def _after(self, nodes: Tensor, messages: Tensor) -> Tensor:
        """The nodes of the next layer."""
        return nodes + messages if self.config.residual else messages

    def _mean(self, nodes: Tensor, messages: Tensor, mask: Tensor) -> Tensor:
        """The mean (A, B, D) over the real ones of the nodes that a layer leaves: of a sum, without forming the sum."""
        weights = mask.to(messages.dtype)
        weights = (weights / weights.sum(dim=2, keepdim=True).clamp_min(1)).unsqueeze(2)
        mean = (weights @ messages).squeeze(2)
        return mean + (weights @ nodes).squeeze(2) if self.config.residual else mean


def others(mask: Tensor) -> Tensor:
    """mask (..., N) -> (..., N, N), true where v is a real node and not u itself."""
    return mask.unsqueeze(-2) & ~torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)

"""Scores the way the published code of the field computes them, to measure the engine against.

Written from the papers' formulas: float32, shards of 128 images x 128 captions, a Python loop over the captions of a
shard, each caption repeated for all images, attended vectors of D numbers formed, no work shared between pairs. The
weights are those of itmkit's matchers, so that the scores are comparable as well as the speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itmkit.matchers import Encoded
from itmkit.matchers.parts.norms import l2norm

SHARD = 128
# The matcher, images, words (L, D) of one caption and its other parts -> (Bi,) scores
OneCaption = Callable[[Any, Encoded, Tensor, Encoded], Tensor]


def literal_scores(name: str, member: str, matcher: nn.Module, images: Encoded, texts: Encoded) -> Tensor:
    """(Bi, Bt) by loops. images and texts: as the matcher encodes them."""
    one = METHODS[name, member]
    count_images, count_texts = (len(next(iter(side.values()))) for side in (images, texts))
    out = torch.zeros(count_images, count_texts)
    for i in range(0, count_images, SHARD):
        some = {key: value[i : i + SHARD] for key, value in images.items()}
        for t in range(0, count_texts, SHARD):
            for text in range(t, min(t + SHARD, count_texts)):
                mine = {key: value[text] for key, value in texts.items()}
                words = mine["nodes"][: int(mine["mask"].sum())] if "nodes" in mine else mine["vector"][None]
                out[i : i + SHARD, text] = one(matcher, some, words, mine)
    return out


def _attend(queries: Tensor, context: Tensor, sharpness: float | Tensor, values: Tensor | None = None) -> Tensor:
    """SCAN's attention: queries (n, Q, D), context (n, C, D) -> attended context, or values in its place, (n, Q, D)."""
    values = context if values is None else values
    attention = functional.leaky_relu(torch.bmm(context, queries.transpose(1, 2)), 0.1)  # (n, C, Q)
    attention = l2norm(attention, dim=2).transpose(1, 2).contiguous()  # (n, Q, C)
    attention = torch.softmax(sharpness * attention, dim=2)
    return torch.bmm(values.transpose(1, 2), attention.transpose(1, 2).contiguous()).transpose(1, 2)


def _repeated(words: Tensor, images: Encoded) -> Tensor:
    return words.unsqueeze(0).repeat(len(images["mask"]), 1, 1)


def scan_t2i(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    caption = _repeated(words, images)
    attended = _attend(caption, images["nodes"], matcher.config.sharpness_t2i)
    return functional.cosine_similarity(caption, attended, dim=2).mean(dim=1)


def scan_i2t(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    attended = _attend(images["nodes"], _repeated(words, images), matcher.config.sharpness_i2t)
    return functional.cosine_similarity(images["nodes"], attended, dim=2).mean(dim=1)


def _similarity_nodes(view: Any, sharpness: float, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    """(n, 1 + L, S): the similarity vector of the global vectors and of each word with what it attends to."""
    caption = _repeated(words, images)
    attended = l2norm(_attend(caption, images["nodes"], sharpness))
    local = view.local_similarity(attended, caption)
    return torch.cat([view.global_similarity(images["global"], text["global"]).unsqueeze(1), local], dim=1)


def mpsm(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    (view,) = matcher.perspectives.values()
    nodes = _similarity_nodes(view, matcher.config.sharpness, images, words, text)
    for step in view.relations.steps:
        out = _normed(step.outgoing_norm, step.outgoing(nodes).squeeze(-1))
        into = _normed(step.incoming_norm, step.incoming(nodes).squeeze(-1))
        to_b = torch.sigmoid(out[:, :, None] + into[:, None, :])
        from_b = torch.sigmoid(into[:, :, None] + out[:, None, :])
        leaving = (to_b / to_b.sum(-1, keepdim=True)) @ nodes
        arriving = (from_b / from_b.sum(-1, keepdim=True)) @ nodes
        kept = torch.sigmoid(step.gate(torch.cat([leaving, arriving], dim=-1)))
        leaving = step.refine_outgoing(kept * leaving) + leaving
        arriving = step.refine_incoming(kept * arriving) + arriving
        nodes = step.fuse(leaving + arriving)
    return torch.sigmoid(view.predict(nodes[:, 0]).squeeze(-1))


def sgr(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    nodes = _similarity_nodes(matcher, matcher.config.sharpness, images, words, text)
    for step in matcher.graph.steps:
        edges = torch.softmax(torch.bmm(step.ask(nodes), step.answer(nodes).transpose(1, 2)), dim=-1)
        nodes = torch.relu(step.infer(torch.bmm(edges, nodes)))
    return torch.sigmoid(matcher.predict(nodes[:, 0]).squeeze(-1))


def saf(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    nodes = _similarity_nodes(matcher, matcher.config.sharpness, images, words, text)
    weights = torch.sigmoid(_normed(matcher.graph.norm, matcher.graph.weigh(nodes)))
    filtered = (weights / weights.sum(dim=1, keepdim=True) * nodes).sum(dim=1)
    filtered = l2norm(filtered) if matcher.config.unit_filtered else filtered
    return torch.sigmoid(matcher.predict(filtered).squeeze(-1))


def mefn(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    """Scaled nodes, attended vectors and both fused vectors formed for every pair."""
    caption, regions, config, entropy = _repeated(words, images), images["nodes"], matcher.config, matcher.entropy
    cosine = torch.bmm(regions, caption.transpose(1, 2))  # (n, R, L)
    logit = (cosine - entropy.threshold) * torch.exp(-entropy.log_tau)
    undecided = (functional.softplus(logit) - logit * torch.sigmoid(logit)) / math.log(2)
    of_regions = torch.softmax(-undecided.mean(dim=2) / config.weight_temperature, dim=1) * regions.shape[1]
    of_words = torch.softmax(-undecided.mean(dim=1) / config.weight_temperature, dim=1) * caption.shape[1]
    scaled_regions, scaled_words = regions * of_regions.unsqueeze(2), caption * of_words.unsqueeze(2)
    local_image = _attend(caption, regions, config.sharpness, scaled_regions).mean(dim=1)
    local_text = _attend(regions, caption, config.sharpness_i2t, scaled_words).mean(dim=1)
    regions, caption = scaled_regions, scaled_words
    whole_image, whole_text = (images["pooling"].unsqueeze(2) * regions).sum(dim=1), caption.mean(dim=1)
    agree = matcher.consistency
    gate = torch.sigmoid(agree.scale * (whole_image * whole_text).sum(dim=1, keepdim=True) + agree.offset)
    image = _fused(matcher.image_fusion, local_image, gate * whole_image)
    return -(image - _fused(matcher.text_fusion, local_text, gate * whole_text)).square().sum(dim=1)


def _fused(fusion: Any, local: Tensor, whole: Tensor) -> Tensor:
    gate = torch.sigmoid(fusion.gate(torch.cat([local, whole], dim=1)))
    return l2norm(fusion.norm(gate * local + (1 - gate) * whole))


def cmfg(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    """The graph of every pair, all nodes in one."""
    count = images["nodes"].shape[1]
    nodes = torch.cat([images["nodes"], _repeated(words, images)], dim=1)  # (n, N, D)
    others = ~torch.eye(nodes.shape[1], dtype=torch.bool)
    for layer in matcher.layers:
        edges = torch.bmm(layer.queries(nodes), layer.key(nodes).transpose(1, 2)).masked_fill(~others, -torch.inf)
        nodes = nodes + torch.relu(torch.bmm(torch.softmax(edges, dim=2), layer.spread(nodes)))
    return functional.cosine_similarity(nodes[:, :count].mean(dim=1), nodes[:, count:].mean(dim=1), dim=1)


def chan(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    best = torch.bmm(images["nodes"], _repeated(words, images).transpose(1, 2)).amax(dim=1)  # (n, L)
    if matcher.config.pool == "mean":
        return best.mean(dim=1)
    return torch.logsumexp(matcher.config.lse_sharpness * best, dim=1)


def rcar(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    """All of D numbers formed: gates, gated queries, what they attend to."""
    caption, regions, config = _repeated(words, images), images["nodes"], matcher.config
    queries, context = (caption, regions) if matcher.member == "t2i" else (regions, caption)
    gates: Tensor = torch.ones_like(queries)
    sharpness: Any = config.sharpness_t2i if matcher.member == "t2i" else config.sharpness_i2t
    whole: Tensor | None = None
    for step in range(config.steps):
        attended = l2norm(_attend(queries * gates, context, sharpness))
        aligned = matcher.alignments[step](queries, attended)
        whole = aligned.mean(dim=1) if whole is None else whole
        if step + 1 < config.steps:
            correct = matcher.correspondence[step]
            gates = (correct.gates(aligned) + gates).clamp(-1, 1)
            sharpness = torch.relu(correct.sharpness(aligned) + sharpness)
        gather = matcher.aggregation[step]
        asked = torch.tanh(gather.query(whole)).unsqueeze(1).repeat(1, queries.shape[1], 1)
        weights = torch.softmax(gather.weigh(torch.tanh(gather.key(aligned)) * asked), dim=1)
        whole = l2norm((weights * aligned).sum(dim=1))
    return torch.sigmoid(matcher.predict(whole).squeeze(-1))


def laps(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    """Patches chosen and tokens formed for every pair. What the MLP says of a patch is taken as it is encoded."""
    patches = images["nodes"] * images["length"].unsqueeze(2)  # (n, R, D)
    caption = words.mean(dim=0).expand(len(patches), -1)
    relevance = images["own"] + functional.cosine_similarity(patches, caption.unsqueeze(1), dim=2)
    count = math.ceil(patches.shape[1] * matcher.config.keep)
    order = relevance.argsort(dim=1, descending=True)
    kept, rest = order[:, :count], order[:, count:]
    shares = (images["shares"] / images["length"].unsqueeze(1)).take_along_dim(kept.unsqueeze(1), dim=2)
    tokens = shares / shares.sum(dim=2, keepdim=True) @ patches.take_along_dim(kept.unsqueeze(2), dim=1)
    weights = torch.softmax(relevance.gather(1, rest), dim=1).unsqueeze(1)
    tokens = torch.cat([tokens, weights @ patches.take_along_dim(rest.unsqueeze(2), dim=1)], dim=1)
    alike = functional.leaky_relu(torch.bmm(_repeated(words, images), l2norm(tokens).transpose(1, 2)), 0.1)
    return alike.amax(dim=2).mean(dim=1) + alike.amax(dim=1).mean(dim=1)


def vseinf(matcher: Any, images: Encoded, words: Tensor, text: Encoded) -> Tensor:
    return functional.cosine_similarity(images["vector"], words, dim=1)


def _normed(norm: Any, x: Tensor) -> Tensor:
    """Batch normalisation; in training by the statistics of this caption with all images, as SGRAF's published code."""
    if norm.training:
        return (x - x.mean()) * torch.rsqrt(x.var(correction=0) + norm.eps) * norm.weight + norm.bias
    return (x - norm.running_mean) * torch.rsqrt(norm.running_var + norm.eps) * norm.weight + norm.bias


METHODS: dict[tuple[str, str], OneCaption] = {
    ("scan", "t2i"): scan_t2i,
    ("scan", "i2t"): scan_i2t,
    ("mpsm", "distance"): mpsm,
    ("mpsm", "direction"): mpsm,
    ("sgraf", "sgr"): sgr,
    ("sgraf", "saf"): saf,
    ("mefn", "fusion"): mefn,
    ("cmfg", "graph"): cmfg,
    ("chan", "local"): chan,
    ("rcar", "t2i"): rcar,
    ("rcar", "i2t"): rcar,
    ("laps", "local"): laps,
    ("vseinf", "global"): vseinf,
}

"""Similarity vectors: S numbers, instead of one, for how a word and its part of an image compare.

SGRAF compares by distance; MPSM has two of them, distance and direction, each with weights of its own.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from itmkit.machine.precision import products_unrounded
from itmkit.matchers import Encoded
from itmkit.matchers.parts.attended import attended_direction, attended_distance, unit_weights
from itmkit.matchers.parts.attention import FlatWords, attend_regions, cosines, powers_of_regions, unit_attention
from itmkit.matchers.parts.blocks import each_block
from itmkit.matchers.parts.norms import l2norm

Kind = Literal["distance", "direction"]


class SimilarityRepresentation(nn.Module):
    """A similarity vector of S numbers for a pair of vectors, local or global: SGRAF eqs 1-3, MPSM eqs 10-15.

    `dir(x, y)` of MPSM's eq 13 prints as a scalar, but `W_c` needs a D-vector: the elementwise product of the unit
    vectors, whose sum is that scalar, is meant.

    Unit length hides how much is alike: `W_d dis(x, y)` and `W_d (2 dis(x, y))` give the same vector. With `bias` there
    is something to measure it by (as in SGRAF's published code, which MPSM extends; the print has none).
    """

    def __init__(self, kind: Kind, embed: int, size: int, *, unit: bool, bias: bool = False) -> None:
        super().__init__()
        self.kind, self.unit = kind, unit  # unit: x and y come with unit length already
        self.project = nn.Linear(embed, size, bias=bias)
        nn.init.xavier_uniform_(self.project.weight)

    @torch.no_grad()
    def start_as_plain_similarity(self, *, mark: bool) -> None:
        """Number 0 of the vector begins as the sum over D, 1 as a constant to measure it by, 2 as constant or 0."""
        size, embed = self.project.weight.shape
        # Of two unit vectors with a cosine of 0.3: the sum of the D numbers, and their length in units of 1/sqrt(D).
        total, spread = (1.4, 2.4) if self.kind == "distance" else (0.3, 1.0)
        length = spread * math.sqrt(2 * size / (embed + size) / embed)  # of the random rest: W times those numbers
        self.project.weight[0] = length / total
        self.project.bias[1] = length
        self.project.bias[2] = length if mark else 0
        # Unit length takes this factor out again. It only slows the map's learning, which on few images fits the
        # training pairs faster than the vectors that it compares do.
        self.project.weight.mul_(10)
        self.project.bias.mul_(10)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x, y broadcastable to (..., D) -> (..., S), unit length."""
        if self.kind == "distance":
            return l2norm(self.project(squared_difference(x, y)))
        return l2norm(self.project(x * y if self.unit else l2norm(x) * l2norm(y)))

    def attended(self, weights: Tensor, regions: Tensor, words: Tensor) -> Tensor:
        """Every word (T, D) with what it attends to, by weights (n, T, R) of regions (n, R, D) -> (n, T, S)."""
        if torch.is_grad_enabled() and self.kind == "distance":
            return attended_distance(weights, regions, words, self.project.weight, self.project.bias)
        if torch.is_grad_enabled() and self.unit:
            return attended_direction(weights, regions, words, self.project.weight, self.project.bias)
        return self(weights @ regions, words)  # type: ignore[no-any-return]


def score_of(predict: nn.Linear, vectors: Tensor) -> Tensor:
    """`sigmoid(w . s + b)`, (..., S) -> (...). It is never rounded: logits of 8 bits would make many scores equal."""
    with products_unrounded():
        return torch.sigmoid(predict(vectors).squeeze(-1))


def squared_difference(x: Tensor, y: Tensor) -> Tensor:
    """`(x - y)^2`, of tensors that may be broadcast to each other."""
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        return _SquaredDifference.apply(x, y)  # type: ignore[no-any-return,no-untyped-call]
    # One pass over memory, where a difference and its square are two. Its gradient would be many.
    x, y = torch.broadcast_tensors(x, y)  # type: ignore[no-untyped-call]
    return functional.mse_loss(x, y, reduction="none")


class _SquaredDifference(torch.autograd.Function):
    """With a gradient that goes over memory as rarely as can be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        difference = x - y
        ctx.save_for_backward(difference)
        ctx.shapes = x.shape, y.shape
        return difference.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        (difference,), (x, y) = ctx.saved_tensors, ctx.shapes
        to_x = torch.addcmul(gradient.new_zeros(()), difference, gradient, value=2)
        return to_x.sum_to_size(x), to_x.sum_to_size(y).neg()


def local_similarities(
    compare: SimilarityRepresentation,
    images: Encoded,
    words: FlatWords,
    *,
    sharpness: float,
) -> list[Tensor]:
    """Every word with the part of every image that it attends to (text-to-image attention).

    Args:
        images: "nodes" (Bi, R, D) and "mask" (Bi, R) bool; with "gram" (Bi, R, R), `gram` of the nodes, what a word
            attends to is scaled to unit length. Regions and words then have unit length themselves.

    Returns:
        Blocks of images, (n, T, S) each, to be gone on with while the processor's caches have them.
    """

    regions, region_mask, region_gram = images["nodes"], images["mask"], images.get("gram")
    vectors, numbers = words.vectors, words.vectors.numel()
    if region_gram is not None and torch.is_grad_enabled():

        def learned(regions: Tensor, mask: Tensor, region_gram: Tensor) -> Tensor:
            return compare.attended(unit_weights(regions, mask, region_gram, words, sharpness), regions, vectors)

        return each_block(learned, regions, region_mask, region_gram, numbers=numbers)

    # Weights of all images at once, by one product of two large matrices; blocks for the vectors of D numbers then.
    if region_gram is None:
        weights = attend_regions(regions, region_mask, words, sharpness)  # (Bi, T, R)
    else:
        powers = powers_of_regions(cosines(regions, words), region_mask, words, sharpness)  # (T, Bi, R)
        weights = unit_attention(powers.transpose(0, 1), region_gram)

    def block(weights: Tensor, regions: Tensor) -> Tensor:
        return compare.attended(weights, regions, vectors)

    return each_block(block, weights, regions, numbers=numbers)

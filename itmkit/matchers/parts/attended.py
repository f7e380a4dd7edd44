"""Words beside what they attend to in images, in training: with gradients written by hand.

Every word of a batch meets every image, so what is computed of each such pair decides how long a step takes. Autograd
would go over memory for each operation and keep most of what it computes; these go over it as rarely as can be, and
keep one vector of D numbers a pair. A few images at a time (`itmkit.matchers.parts.blocks`) stay inside the caches.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from itmkit.machine.precision import products_as_here
from itmkit.matchers.parts.attention import FlatWords, inverse_length
from itmkit.matchers.parts.norms import barrier, to_unit


def unit_weights(regions: Tensor, mask: Tensor, gram: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """`unit_attention` of `powers_of_regions`: weights with which what a word attends to has unit length.

    Args:
        regions: (n, R, D) of unit length; mask: (n, R) bool; gram: (n, R, R), `gram` of the regions.
        words: of unit length.

    Returns:
        (n, T, R), zero for missing regions.
    """
    return _UnitWeights.apply(regions, gram, words.vectors, mask, words, sharpness)  # type: ignore[no-any-return,no-untyped-call]


class _UnitWeights(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, regions: Tensor, gram: Tensor, vectors: Tensor, mask: Tensor, words: FlatWords, sharpness: float
    ) -> Tensor:
        images, count, _ = regions.shape
        raised = functional.leaky_relu_(vectors @ regions.flatten(0, 1).T, 0.1)  # (T, n * R)
        scale = sharpness * words.sum_of_each(raised.square()).clamp_min(1e-16).rsqrt()  # (Bt, n * R)
        powers = raised * words.of_its_text(scale)
        powers = powers.add_(barrier(mask, raised.dtype).flatten()).exp_()
        by_image = powers.view(-1, images, count).transpose(0, 1).contiguous()
        squared = ((by_image @ gram) * by_image).sum(dim=-1, keepdim=True)
        weights = by_image * inverse_length(squared)
        ctx.save_for_backward(regions, gram, vectors, raised, scale, weights)
        ctx.words, ctx.sharpness, ctx.products = words, sharpness, products_as_here()
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        regions, gram, vectors, raised, scale, weights = ctx.saved_tensors
        words, (images, count, _) = ctx.words, regions.shape
        with ctx.products:
            # To the logits: the factor that makes the length one falls out of it.
            along = (gradient * weights).sum(dim=-1, keepdim=True)
            to_logits = torch.addcmul(gradient, along, weights @ gram, value=-1).mul_(weights)
            to_gram = (weights * (-0.5 * along)).transpose(1, 2) @ weights
            to_logits = to_logits.transpose(0, 1).reshape(-1, images * count)
            # To the cosines: through the logits themselves, and through the length that they were divided by.
            turned = words.sum_of_each(to_logits * raised).mul_(scale.pow(3)).div_(ctx.sharpness**2)
            to_raised = (to_logits * words.of_its_text(scale)).addcmul_(raised, words.of_its_text(turned), value=-1)
            to_cosines = torch.ops.aten.leaky_relu_backward(to_raised, raised, 0.1, self_is_result=True)
            to_regions = (to_cosines.T @ vectors).view_as(regions)
            to_words = to_cosines @ regions.flatten(0, 1)
        return to_regions, to_gram, to_words, None, None, None


def attended_distance(weights: Tensor, regions: Tensor, words: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """`l2norm(W (x - y)^2 + b)` of every word y with what it attends to, `x = sum_r a_r v_r`.

    Args:
        weights: (n, T, R); regions: (n, R, D); words: (T, D); matrix: (S, D); bias: (S,).

    Returns:
        (n, T, S)
    """
    return _AttendedDistance.apply(weights, regions, words, matrix, bias)  # type: ignore[no-any-return,no-untyped-call]


def attended_direction(weights: Tensor, regions: Tensor, words: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """`l2norm(W (x * y) + b)`, as `attended_distance`."""
    return _AttendedDirection.apply(weights, regions, words, matrix, bias)  # type: ignore[no-any-return,no-untyped-call]


class _AttendedDistance(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, weights: Tensor, regions: Tensor, words: Tensor, matrix: Tensor, bias: Tensor | None
    ) -> Tensor:
        difference = (weights @ regions).sub_(words)  # (n, T, D)
        squared = torch.square(difference, out=_room_for(difference))
        return _project(ctx, difference, squared, weights, regions, words, matrix, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        weights, regions, _, matrix, unit, length, difference = ctx.saved_tensors
        with ctx.products:
            room = _room_for(difference)
            squared = torch.square(difference, out=room)
            to_projected, to_matrix, to_bias = _back_to_map(gradient, unit, length, squared)
            to_attended = _product(to_projected, 2 * matrix, room).mul_(difference)
            to_words = to_attended.sum(dim=0).neg_()
            return (
                *_back_to_regions(to_attended, weights, regions),
                to_words,
                to_matrix,
                to_bias if ctx.has_bias else None,
            )


class _AttendedDirection(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, weights: Tensor, regions: Tensor, words: Tensor, matrix: Tensor, bias: Tensor | None
    ) -> Tensor:
        attended = weights @ regions  # (n, T, D)
        product = torch.mul(attended, words, out=_room_for(attended))
        return _project(ctx, attended, product, weights, regions, words, matrix, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        weights, regions, words, matrix, unit, length, attended = ctx.saved_tensors
        with ctx.products:
            room = _room_for(attended)
            product = torch.mul(attended, words, out=room)
            to_projected, to_matrix, to_bias = _back_to_map(gradient, unit, length, product)
            to_product = _product(to_projected, matrix, room)
            to_words = torch.zeros_like(words)
            for of_image, seen in zip(to_product, attended, strict=True):
                to_words.addcmul_(of_image, seen)
            return (
                *_back_to_regions(to_product.mul_(words), weights, regions),
                to_words,
                to_matrix,
                to_bias if ctx.has_bias else None,
            )


def _project(
    ctx: Any,
    kept: Tensor,
    compared: Tensor,
    weights: Tensor,
    regions: Tensor,
    words: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """`l2norm(W compared + b)`."""
    unit = functional.linear(compared, matrix, bias)
    length = to_unit(unit.square().sum(dim=-1, keepdim=True))
    unit *= length
    ctx.save_for_backward(weights, regions, words, matrix, unit, length, kept)
    ctx.has_bias, ctx.products = bias is not None, products_as_here()
    return unit


def _back_to_map(gradient: Tensor, unit: Tensor, length: Tensor, compared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `W compared + b`, (n, T, S), of W and of b."""
    along = (gradient * unit).sum(dim=-1, keepdim=True)
    to_projected = torch.addcmul(gradient, unit, along, value=-1).mul_(length)
    flat = to_projected.flatten(0, 1)
    return to_projected, flat.T @ compared.flatten(0, 1), flat.sum(dim=0)


def _back_to_regions(to_attended: Tensor, weights: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    return to_attended @ regions.transpose(1, 2), weights.transpose(1, 2) @ to_attended


_here = threading.local()  # .room: of this thread


def _room_for(x: Tensor) -> Tensor:
    """Memory of the shape of x for numbers that are soon done with: the same for one block after another.

    Fresh memory has to be fetched into the processor's caches before it is written to; this is in them already.
    """
    if x.device.type != "cpu":
        return torch.empty_like(x)
    room: Tensor | None = getattr(_here, "room", None)
    if room is None or room.dtype != x.dtype or room.numel() < x.numel():
        room = _here.room = x.new_empty(x.numel())
    return room[: x.numel()].view(x.shape)


def _product(x: Tensor, matrix: Tensor, room: Tensor) -> Tensor:
    """x (n, T, S) @ matrix (S, D), in the memory of `room` (n, T, D) where the product is not rounded."""
    return torch.mm(x.flatten(0, 1), matrix, out=room.flatten(0, 1)).view_as(room)

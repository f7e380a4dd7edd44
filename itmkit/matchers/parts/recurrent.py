"""A bidirectional GRU over captions, in training on a processor: with gradients written by hand.

Autograd would go back through every word of a caption with products of small matrices, one of them for the gradient of
the weights. These are products of all words at once here; only what depends on the word after is left for word by word.
Both directions go side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from itmkit.machine.precision import products_unrounded


def both_directions(gru: nn.GRU, inputs: Tensor, mask: Tensor) -> Tensor:
    """The mean of the two directions of `gru`.

    Args:
        gru: of one layer, `batch_first` and bidirectional, with biases.
        inputs: (B, L, W); mask: (B, L) bool, True for the first words of each row, at least one.

    Returns:
        (B, L, H); zero where the mask is.
    """
    if gradients_by_hand(inputs):
        return _by_hand(gru, inputs, mask)
    packed = pack_padded_sequence(inputs, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=mask.shape[1])
    forward, backward = states.chunk(2, dim=-1)
    return (forward + backward) / 2


def gradients_by_hand(inputs: Tensor) -> bool:
    """Whether `_Both` reads these inputs. PyTorch's own is as fast without gradients, and made for GPUs."""
    return torch.is_grad_enabled() and inputs.device.type == "cpu"


def _by_hand(gru: nn.GRU, inputs: Tensor, mask: Tensor) -> Tensor:
    order = _Order.of(mask)
    rows = inputs.flatten(0, 1).index_select(0, order.places).view(2, -1, inputs.shape[-1])
    weights = (
        torch.stack([getattr(gru, f"{name}_l0"), getattr(gru, f"{name}_l0_reverse")])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    with products_unrounded():  # as in PyTorch's: what is rounded word after word adds up
        states: Tensor = _Both.apply(rows, *weights, order.counts)  # type: ignore[no-untyped-call]
    summed = states.new_zeros(mask.numel(), states.shape[-1]).index_add(0, order.places, states.flatten(0, 1))
    return summed.view(*mask.shape, -1) / 2


@dataclass(frozen=True)
class _Order:
    """The words in the order in which they are read: first words of all captions, longest caption first, then second
    words... In the other direction a caption's first word is its last."""

    places: Tensor  # (2 T,) int64: of each direction's words, in (B * L)
    counts: list[int]  # captions with a first word, with a second...

    @classmethod
    def of(cls, mask: Tensor) -> _Order:
        lengths, captions = mask.sum(dim=1).sort(descending=True, stable=True)
        there = torch.arange(mask.shape[1])[:, None] < lengths  # (L, B)
        turn, which = there.nonzero(as_tuple=True)
        begin, last = captions[which] * mask.shape[1], lengths[which] - 1
        return cls(torch.cat([begin + turn, begin + last - turn]), [n for n in there.sum(dim=1).tolist() if n])


class _Both(torch.autograd.Function):
    """`h = (1 - z) n + z h'` with `r, z = sigmoid(W x + b + U h' + c)`, `n = tanh(W x + b + r (U h' + c))`.

    h' is the state before. Words lie in the order of `_Order`, so those that still have a state before are the first.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, rows: Tensor, of_input: Tensor, of_state: Tensor, bias: Tensor, state_bias: Tensor, counts: list[int]
    ) -> Tensor:
        """rows (2, T, W), of_input (2, 3 H, W), of_state (2, 3 H, H), biases (2, 3 H) -> (2, T, H)"""
        size = of_state.shape[-1]
        gates = torch.baddbmm(bias.unsqueeze(1), rows, of_input.mT)  # (2, T, 3 H): r, z and n, one after the other
        before, said, states = (rows.new_zeros(2, rows.shape[1], size) for _ in range(3))
        first, state = 0, None
        for count in counts:
            now = slice(first, first + count)
            if state is not None:
                before[:, now] = state[:, :count]
            heard = torch.baddbmm(state_bias.unsqueeze(1), before[:, now], of_state.mT)
            said[:, now] = heard[..., 2 * size :]
            mixed = gates[:, now, : 2 * size].add_(heard[..., : 2 * size]).sigmoid_()
            new = gates[:, now, 2 * size :].addcmul_(mixed[..., :size], said[:, now]).tanh_()
            state = torch.lerp(new, before[:, now], mixed[..., size:])
            states[:, now] = state
            first += count
        ctx.save_for_backward(rows, of_input, of_state, gates, before, said)
        ctx.counts = counts
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, of_input, of_state, gates, before, said = ctx.saved_tensors
        reset, keep, new = gates.chunk(3, dim=-1)
        size = of_state.shape[-1]
        # Factors from a gradient of a state to those of what the tanh and the sigmoids are of.
        to_new = (1 - keep) * (1 - new.square())
        to_keep = (before - new) * keep * (1 - keep)
        to_reset = to_new * said * reset * (1 - reset)
        to_heard = torch.empty_like(gates)
        to_gates = torch.empty_like(gates)
        end, later = rows.shape[1], None
        for count in reversed(ctx.counts):
            now = slice(end - count, end)
            to_state = gradient[:, now]
            if later is not None:  # the captions that go on are the first
                to_state = torch.cat([to_state[:, : later.shape[1]] + later, to_state[:, later.shape[1] :]], dim=1)
            heard = to_heard[:, now]
            torch.mul(to_state, to_reset[:, now], out=heard[..., :size])
            torch.mul(to_state, to_keep[:, now], out=heard[..., size : 2 * size])
            through = torch.mul(to_state, to_new[:, now], out=to_gates[:, now, 2 * size :])
            torch.mul(through, reset[:, now], out=heard[..., 2 * size :])
            end -= count
            if end:
                later = torch.baddbmm(to_state * keep[:, now], heard, of_state)
        to_gates[..., : 2 * size] = to_heard[..., : 2 * size]
        return (
            to_gates @ of_input if ctx.needs_input_grad[0] else None,  # none where nothing before learns
            to_gates.mT @ rows,
            to_heard.mT @ before,
            to_gates.sum(dim=1),
            to_heard.sum(dim=1),
            None,
        )
